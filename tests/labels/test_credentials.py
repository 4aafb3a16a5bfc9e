"""Every way in which obstore finds credentials is known here; of Google's and Azure's, what is
written shows them.
"""

import base64
import datetime
import ipaddress
import json
import os
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from dump_host import CLOUDS

from pipeline.labels.answers import UNTRUSTED, ServerError
from pipeline.labels.buckets import Bucket

_ENDPOINTS = {
    "s3": ({"AWS_ENDPOINT_URL": "{url}"}),
    "gs": ({"GOOGLE_BASE_URL": "{url}"}),
    "az": ({"AZURE_STORAGE_ENDPOINT": "{url}", "AZURE_STORAGE_ACCOUNT_NAME": "account"}),
}
_KEY = base64.b64encode(b"a key").decode()
_LOGIN = {"AZURE_CLIENT_ID": "c", "AZURE_TENANT_ID": "t", "AZURE_AUTHORITY_HOST": "{url}/token"}


class Clerk(BaseHTTPRequestHandler):
    """A server that hands out tokens and keeps who wrote, by address and header."""

    protocol_version = "HTTP/1.1"
    written: list[str]

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.say(json.dumps({"access_token": "a role's", "expires_in": 3600, "expires_on": "4102444800"}).encode())

    do_POST = do_GET  # noqa: N815

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.written.append(f"{self.path} {self.headers.get('Authorization', '')}")
        self.say(b"")

    def say(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("ETag", "x")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def clerk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    for name in [name for name in os.environ if name.startswith(CLOUDS)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    Clerk.written = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Clerk)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def account() -> str:
    """Returns a service account of Google's."""
    key = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return json.dumps(
        {"type": "service_account", "client_email": "a@b", "private_key": key.decode(), "private_key_id": "1"}
    )


@pytest.mark.parametrize(
    ("scheme", "variables", "shown"),
    [
        ("s3", {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "x"}, "AWS4-HMAC-SHA256 Credential=me/"),
        ("gs", {"GOOGLE_APPLICATION_CREDENTIALS": "{account}"}, "Bearer eyJ"),
        ("gs", {"GOOGLE_SERVICE_ACCOUNT": "{account}"}, "Bearer eyJ"),
        ("gs", {"GOOGLE_BEARER_TOKEN": "mine"}, "Bearer mine"),
        ("gs", {"GCE_METADATA_HOST": "{host}"}, "Bearer a role's"),
        ("az", {"AZURE_STORAGE_ACCOUNT_KEY": _KEY}, "SharedKey account:"),
        ("az", {"AZURE_STORAGE_ACCESS_KEY": _KEY}, "SharedKey account:"),
        ("az", {"AZURE_STORAGE_SAS_TOKEN": "sv=1&sig=mine"}, "?sv=1&sig=mine "),
        ("az", {"AZURE_STORAGE_TOKEN": "mine"}, "Bearer mine"),
        ("az", {"AZURE_CLIENT_SECRET": "s", **_LOGIN}, "Bearer a role's"),
        ("az", {"AZURE_FEDERATED_TOKEN_FILE": "{account}", **_LOGIN}, "Bearer a role's"),
        ("az", {"AZURE_IDENTITY_ENDPOINT": "{url}/token"}, "Bearer a role's"),
        ("az", {"IDENTITY_ENDPOINT": "{url}/token", "IDENTITY_HEADER": "x"}, "Bearer a role's"),
        ("az", {"AZURITE_BLOB_STORAGE_URL": "{url}", "AZURE_STORAGE_USE_EMULATOR": "true"}, "SharedKey devstoreac"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else given if len(given) == 2 else "",
)
def test_credentials_are_found_and_shown(
    scheme: str,
    variables: dict[str, str],
    shown: str,
    clerk: ThreadingHTTPServer,
    account: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "account.json").write_text(account)
    host = f"127.0.0.1:{clerk.server_port}"
    places = {"host": host, "url": f"http://{host}", "account": tmp_path / "account.json"}
    endpoint = {} if "AZURE_STORAGE_USE_EMULATOR" in variables else _ENDPOINTS[scheme]
    for name, value in {**endpoint, **variables}.items():
        monkeypatch.setenv(name, value.format(**places))
    bucket = Bucket(f"{scheme}://bucket/x")
    assert bucket.needed_keys == ""
    assert bucket.put("a", b"content", new=True)
    (written,) = Clerk.written
    assert shown in written


@pytest.mark.parametrize("scheme", _ENDPOINTS)
def test_without_credentials_nobody_is_asked_for_some(
    scheme: str, clerk: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in _ENDPOINTS[scheme].items():
        monkeypatch.setenv(name, value.format(url=f"http://127.0.0.1:{clerk.server_port}"))
    bucket = Bucket(f"{scheme}://bucket/x")
    assert bucket.needed_keys
    assert bucket.put("a", b"content", new=True)
    (written,) = Clerk.written
    assert written.split(" ", 1)[1].strip() in ("", "Bearer")


@pytest.mark.parametrize("scheme", _ENDPOINTS)
def test_a_certificate_that_nobody_trusts_is_no_reason_to_wait(
    scheme: str, clerk: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.pem").write_bytes(own_certificate())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "own.pem")
    clerk.socket = context.wrap_socket(clerk.socket, server_side=True)
    for name, value in _ENDPOINTS[scheme].items():
        monkeypatch.setenv(name, value.format(url=f"https://127.0.0.1:{clerk.server_port}"))
    with pytest.raises(ServerError, match=UNTRUSTED) as caught:
        Bucket(f"{scheme}://bucket/x").put("a", b"content", new=True)
    assert caught.value.kind == "lasting"


def own_certificate() -> bytes:
    """Returns a certificate of 127.0.0.1 that it gives itself, and its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1)
    made = made.not_valid_before(datetime.datetime(2020, 1, 1)).not_valid_after(datetime.datetime(2100, 1, 1))
    certificate = made.add_extension(address, critical=False).sign(key, hashes.SHA256())
    return certificate.public_bytes(Encoding.PEM) + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
