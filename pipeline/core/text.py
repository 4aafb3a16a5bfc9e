"""Names in one form, and names made fit to be shown.

People type accents in two ways, and join words in several. A file's name may hold anything, also
what a terminal obeys.
"""

import re
from unicodedata import normalize

# Control signs, halves of signs, other ends of lines, and the signs that turn the order of others.
_UNSHOWN = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_HIDDEN = re.compile(f"[{_UNSHOWN}]")
_IN_CELL = re.compile(rf"[\\{_UNSHOWN}]")
_ESCAPED = re.compile(r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|.)", re.DOTALL)
_SHORT = {"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"}
_LONG = {short[1]: sign for sign, short in _SHORT.items()}


def shown(text: str) -> str:
    """Returns a text in which whatever a terminal would obey is written out (`\\x1b`): everything
    that is printed goes through here. Tabs and ends of lines stay.
    """
    return _HIDDEN.sub(lambda found: found[0] if found[0] in "\t\n" else _code(found[0]), text)


def escaped(text: str) -> str:
    """Returns a text without tabs, ends of lines and the like, which `unescaped` makes the text
    again.
    """
    return _IN_CELL.sub(lambda found: _SHORT.get(found[0]) or _code(found[0]), text)


def unescaped(text: str) -> str:
    """Returns the text that `escaped` was given."""
    return _ESCAPED.sub(lambda found: _LONG.get(found[1]) or chr(int(found[1][1:], 16)), text)


def _code(sign: str) -> str:
    return f"\\x{ord(sign):02x}" if ord(sign) < 256 else f"\\u{ord(sign):04x}"


def composed(text: str) -> str:
    """Returns a text with each accent and its letter as one sign (NFC): a Mac may write them apart.

    References:
        Unicode Standard Annex 15, "Unicode Normalization Forms", section 1.2.
    """
    return text if text.isascii() else normalize("NFC", text)


def compared(name: str) -> str:
    """Returns a name as it is compared: folders have `_` where lists have a space."""
    return " ".join(composed(name).casefold().replace("_", " ").split())
