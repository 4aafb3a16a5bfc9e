"""The teacher's embedding: found in networks of any make, written beside its labels in one pass,
verified, repaired and grown like these.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stores import shards
from teachers import SHAPE, USER_FILE, edit_params, make_project, run_dump, run_teacher, run_verify, write_onnx

from pipeline.core.errors import ConfigError, ModelError
from pipeline.data.dataset import ImageDataset
from pipeline.labelling.repair import broken_blocks, repair_store
from pipeline.labelling.teacher import Teacher, embedding_size
from pipeline.labels.reader import StoreReader
from pipeline.models import Classifier, ImageClassifier, build_network
from pipeline.models.saved import ModelMeta, model_fingerprint
from pipeline.signals.vector import cosine_distance, relative_error
from pipeline.views.plan import plan_view

NAMED = USER_FILE.replace(
    "return self.sharpness", 'return {"embedding": images.flatten(1), "logits": self.sharpness'
).replace(".flatten(1))\n\n\ndef build", ".flatten(1))}\n\n\ndef build")
ROWS: dict[str, Any] = {
    "half": {"kind": "vector_float16"},
    "bytes": {"kind": "vector_int8"},
    "sketch": {"kind": "sketch", "dimensions": 3, "seed": 1, "values": "int8"},
}
KINDS = [  # name, settings, channels, pixels, dimensions, whether the logits are a linear layer of it
    ("convnet_small", {"width": 4, "depth": 1}, 1, 12, 16, True),
    ("torchvision/squeezenet1_1", {}, 3, 64, 512, False),
    ("timm/test_vit", {}, 3, 160, 64, True),
    ("timm/test_convnext", {}, 3, 64, 64, True),
]


def meta_of(name: str, settings: dict[str, Any], shape: list[int]) -> ModelMeta:
    channels = shape[0]
    return ModelMeta(name, settings, ["a", "b", "c"], shape, [0.5] * channels, [0.5] * channels, {}, "", {})


def classifier_of(meta: ModelMeta) -> Classifier:
    network, channels = build_network(meta.model, meta.model_settings, 3, meta.image_shape[0])
    return ImageClassifier(network, meta.mean, meta.std, network_channels=channels).eval()


@pytest.mark.parametrize(("name", "settings", "channels", "pixels", "dimensions", "linear"), KINDS)
def test_the_embedding_is_what_the_last_layer_is_given(
    name: str, settings: dict[str, Any], channels: int, pixels: int, dimensions: int, linear: bool
) -> None:
    meta = meta_of(name, settings, [channels, pixels, pixels])
    classifier = classifier_of(meta)
    embedded = meta.embedded(classifier)
    assert embedded.size(meta.blank()) == dimensions
    images = torch.randint(0, 256, (2, *meta.image_shape), dtype=torch.uint8)
    with torch.no_grad():
        logits, embedding = embedded(images)
        torch.testing.assert_close(logits, classifier(images))
        if linear:
            head = [module for module in classifier.modules() if isinstance(module, torch.nn.Linear)][-1]
            torch.testing.assert_close(head(embedding), logits)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in embedded.modules())


def test_a_network_without_one_last_layer_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "two.py"
    file.write_text(
        "from torch import nn\n"
        "class Two(nn.Module):\n"
        "    def __init__(self, n):\n"
        "        super().__init__()\n"
        "        self.one, self.two = nn.Linear(144, n), nn.Linear(144, n)\n"
        "    def forward(self, x):\n"
        "        return self.one(x.flatten(1)) + self.two(x.flatten(1))\n"
        "def build(n, channels):\n"
        "    return Two(n)\n"
    )
    meta = meta_of(f"{file}:build", {}, list(SHAPE))
    with pytest.raises(ModelError, match=r"has 2 last layers \(one, two\); expected one.*'embedding'"):
        meta.embedded(classifier_of(meta))


@pytest.fixture(scope="module")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Makes a project whose dump has labels and embeddings of one teacher."""
    folder = make_project(tmp_path_factory.mktemp("dumped"), {})
    edit_params(folder, "train_teacher.fit", epochs=1)
    run_teacher(folder)
    edit_params(folder, "encodings", **ROWS)
    run_dump(folder)
    return folder


def reader(folder: Path, name: str) -> StoreReader:
    return StoreReader(folder / f"data/dump_labels/{name}.zarr")


def exact(folder: Path, view: int) -> torch.Tensor:
    """Returns the embeddings of a view as the teacher gives them."""
    teacher = Teacher.read(folder / "data/train_teacher", torch.device("cpu"), 64).giving("vector")
    split, store = ImageDataset(folder / "data/prepare").stream("train"), reader(folder, "half")
    plan = plan_view(split, store.views, view, rows=np.arange(len(split)))
    with torch.no_grad():
        return torch.as_tensor(teacher.model(plan.render(slice(None))))[:, teacher.columns("vector")]


def test_one_pass_writes_labels_and_embeddings(dumped: Path, tmp_path: Path) -> None:
    for name, most in {"half": 1e-6, "bytes": 1e-3}.items():
        store = reader(dumped, name)
        assert store.manifest.num_dimensions == embedding_size(dumped / "data/train_teacher") == 32
        for index, view in enumerate(store.manifest.view_numbers):
            read = store.decode(store.read_view(index), 1.0)
            assert relative_error(exact(dumped, view), read).mean() < most
            assert cosine_distance(exact(dumped, view), read).mean() < most
    assert reader(dumped, "sketch").manifest.encoding["dimensions"] == 3
    alone = shutil.copytree(dumped, tmp_path / "alone", ignore=shutil.ignore_patterns("work", "dump_labels"))
    params = (alone / "params.yaml").read_text()
    (alone / "params.yaml").write_text(params.replace("vector_", "dense_").replace("dense_int8", "dense_float16"))
    edit_params(alone, "encodings", sketch={"kind": "none"})
    run_dump(alone)
    for name in ("dense16", "top2", "none"):
        one, other = reader(dumped, name), reader(alone, name)
        assert one.manifest.signed() == other.manifest.signed()


def test_embeddings_are_verified_repaired_and_grown(dumped: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(dumped, tmp_path / "own"))
    run_verify(folder)
    path = folder / "data/dump_labels/bytes.zarr"
    shards(path, "vector_codes")[0].unlink()
    teacher, train = folder / "data/train_teacher", ImageDataset(folder / "data/prepare").stream("train")
    at_work = Teacher.read(teacher, torch.device("cpu"), 128)
    done = repair_store(StoreReader(path), broken_blocks(path), at_work, train, model_fingerprint(teacher))
    assert [same for _, same in done] == [True]
    before = reader(folder, "half").read_view(1)["vectors"]
    edit_params(folder, "dump_labels", num_views=3)
    run_dump(folder)
    after = reader(folder, "half")
    assert torch.equal(after.read_view(1)["vectors"], before)
    assert after.manifest.num_views == 3


@pytest.mark.parametrize("make", ["named", "onnx", "logits only"])
def test_an_embedding_may_have_a_name(make: str, tmp_path: Path) -> None:
    if make == "named":
        (tmp_path / "own.py").write_text(NAMED)
        given: dict[str, Any] = {"model": f"{tmp_path / 'own.py'}:build", "model_settings": {}}
        folder, wanted = make_project(tmp_path, given), 144
        edit_params(folder, "train_teacher.fit", epochs=1, learning_rate=1e-6)
    else:
        file = write_onnx(tmp_path / "own.onnx", outputs=2)
        settings = {"output": "logits"} | ({"embedding": "flat"} if make == "onnx" else {})
        folder, wanted = make_project(tmp_path, {"model": f"onnx/{file}", "model_settings": settings}), 4
    teacher = run_teacher(folder)
    if make == "logits only":
        with pytest.raises(ModelError, match=r"has no layer whose inputs are its embedding; .*embedding"):
            embedding_size(teacher)
        return
    edit_params(folder, "encodings", half=ROWS["half"])
    run_dump(folder)
    assert reader(folder, "half").manifest.num_dimensions == embedding_size(teacher) == wanted


@pytest.mark.parametrize(
    ("section", "changes", "said"),
    [
        ("encodings", {"sketch": ROWS["sketch"] | {"dimensions": 33}}, "sketch.dimensions: 33, of embeddings of 32"),
        ("dump_labels", {"compile": True}, "dump_labels.compile: true, and a row"),
    ],
)
def test_what_can_not_be_is_one_line(
    dumped: Path, tmp_path: Path, section: str, changes: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.dump_labels.check_compiler", lambda *_: None)
    folder = Path(shutil.copytree(dumped, tmp_path / "own", ignore=shutil.ignore_patterns("work")))
    edit_params(folder, section, **changes)
    with pytest.raises(ConfigError, match=said) as caught:
        run_dump(folder)
    assert len(str(caught.value)) <= 500
