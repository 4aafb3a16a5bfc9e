"""Names in one form: people type accents in two ways, and join words in several."""

from unicodedata import normalize


def composed(text: str) -> str:
    """Returns a text with each accent and its letter as one sign (NFC): a Mac may write them apart.

    References:
        Unicode Standard Annex 15, "Unicode Normalization Forms", section 1.2.
    """
    return text if text.isascii() else normalize("NFC", text)


def compared(name: str) -> str:
    """Returns a name as it is compared: folders have `_` where lists have a space."""
    return " ".join(composed(name).casefold().replace("_", " ").split())
