"""Families for texts, exported: a file takes texts of any length and number, and padding changes
nothing.
"""

from pathlib import Path

import pytest
import torch
from kinds import content_of, make_kind_split, tokenizer_json
from tokenizers import Tokenizer

from pipeline.export.onnx_file import run_onnx, write_onnx
from pipeline.export.programs import trace
from pipeline.models import families
from pipeline.models.text_classifier import TextClassifier

FAMILIES = {
    "textconv_small": {"width": 8, "depth": 1},
    "transformer_small": {"width": 8, "depth": 1, "heads": 2},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_takes_texts_of_any_length(name: str, tmp_path: Path) -> None:
    tokenizer, path = Tokenizer.from_str(tokenizer_json()), tmp_path / "model.onnx"
    torch.manual_seed(0)
    network = families.build(name, FAMILIES[name], 3, tokenizer.get_vocab_size())
    model = TextClassifier(network, content_of("tokens").words, tokenizer, 64).eval()
    portable, texts = model.portable(), make_kind_split("tokens", 6).inputs
    tokens = portable.taken(texts)
    write_onnx(path, trace(portable, tokens[:2]), {}, portable.input_name)
    with torch.no_grad():
        exact = model(texts)
    torch.testing.assert_close(run_onnx(path, [tokens]), exact, rtol=1e-5, atol=1e-5)
    for length in (1, 3, 64):
        short = torch.nn.functional.pad(tokens[:1], (0, max(0, length - tokens.shape[1])))[:, :length]
        longer = torch.nn.functional.pad(short, (0, 64 - length))
        found = run_onnx(path, [short])
        torch.testing.assert_close(found, run_onnx(path, [longer]), rtol=1e-5, atol=1e-5)
        assert torch.isfinite(found).all()
    assert torch.isfinite(run_onnx(path, [torch.zeros(1, 1, dtype=torch.int64)])).all()  # a text of no tokens
