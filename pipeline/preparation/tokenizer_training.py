"""Tokenizers trained on the texts of the training split; nothing but texts imports this.

A tokenizer sees words, one space between two, and gives the same tokens for a word wherever it
stands: networks cut words one by one.
"""

from collections.abc import Iterator

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from pipeline.preparation.text_settings import TextSettings

UNKNOWN, HIDDEN = "[UNK]", "[MASK]"
_SPECIAL: list[str | AddedToken] = [UNKNOWN, HIDDEN]


def trained(texts: Iterator[str], settings: TextSettings) -> Tokenizer:
    """Returns a tokenizer of the kind that is set; the same texts give the same one.

    References:
        Rico Sennrich, Barry Haddow, Alexandra Birch, "Neural Machine Translation of Rare Words with
        Subword Units", 2015, arXiv 1508.07909, section 3.2 (byte pair encoding, here of bytes).
        Yonghui Wu et al., "Google's Neural Machine Translation System", 2016, arXiv 1609.08144,
        section 4.1 (pieces of words).
    """
    tokenizer, trainer = _bytes_in_pairs(settings) if settings.tokenizer == "bpe" else _pieces_of_words(settings)
    if settings.lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _bytes_in_pairs(settings: TextSettings) -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()  # so that no sign is unknown
    trainer = trainers.BpeTrainer(
        vocab_size=settings.num_tokens, special_tokens=_SPECIAL, show_progress=False, initial_alphabet=sorted(alphabet)
    )
    return tokenizer, trainer


def _pieces_of_words(settings: TextSettings) -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN, max_input_chars_per_word=100))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer, trainers.WordPieceTrainer(
        vocab_size=settings.num_tokens, special_tokens=_SPECIAL, show_progress=False
    )
