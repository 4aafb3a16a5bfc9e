"""A split with a class at each pixel is judged like any other, within bounded memory."""

import os
from pathlib import Path

import pytest
import torch
from maps import GRID, NUM_CLASSES, by_brightness, make_maps, unet
from teams import Members

from pipeline.core.errors import ModelError
from pipeline.core.tensors import read_tensors, write_tensors
from pipeline.models.predict import at_once, predict_logits
from pipeline.signals import signal_named, thinning
from pipeline.signals.chance import chance_line, check_learned
from pipeline.signals.thinning import stride_for, thinned
from pipeline.teacher.calibration import calibrate, fit_temperature
from pipeline.teacher.outputs import ImportedOutputs
from pipeline.training.team import ALONE, Team
from pipeline.training.validation import Validation

CPU = torch.device("cpu")
SPLIT = make_maps(60)
NAMES = ["ground", "grey", "bright"]


def validation(team: Team = ALONE) -> Validation:
    return Validation(SPLIT, None, CPU, team, GRID)


@pytest.mark.parametrize(
    ("samples", "classes", "height", "width", "stride"),
    [(2000, 11, 64, 64, 1), (2000, 21, 512, 512, 10), (10, 150, 8, 8, 1), (10**9, 2, 5, 9, 5)],
)
def test_positions_are_left_out_where_all_would_take_too_much_memory(
    samples: int, classes: int, height: int, width: int, stride: int
) -> None:
    assert stride_for(samples, [classes, height, width]) == stride
    kept = thinned(torch.zeros(height, width), stride)
    assert kept.numel() > 0
    assert stride == min(height, width) or samples * classes * kept.numel() <= thinning.MOST_VALUES


def test_outputs_and_labels_that_are_kept_are_of_the_same_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    model = unet()
    whole = predict_logits(model, [SPLIT.inputs], CPU)
    assert torch.equal(validation().logits(model), whole)
    assert validation().measure(model) == GRID.metrics(whole, SPLIT.hard_labels)
    monkeypatch.setattr(thinning, "MOST_VALUES", 60 * NUM_CLASSES * 9)
    kept = validation().logits(model)
    assert torch.equal(kept, whole[:, :, 1::3, 1::3])
    assert torch.equal(validation().hard_labels(kept), SPLIT.hard_labels[:, 1::3, 1::3])
    assert validation().measure(by_brightness())["accuracy"] > 0.99


def test_fewer_large_images_are_predicted_at_once() -> None:
    sizes = [at_once(500, GRID, [3, side, side]) for side in (8, 64, 512, 4096)]
    assert sizes == [500, 256, 4, 1]
    assert at_once(500, signal_named("categorical"), [3, 4096, 4096]) == 500


def test_processes_predict_maps_together(tmp_path: Path) -> None:
    def work() -> None:
        team = Team.of(os.environ)
        team.connect(CPU, 2, "x")
        write_tensors(tmp_path / f"{team.rank}.safetensors", {"logits": validation(team).logits(unet())})

    assert Members(tmp_path / "said", 2, work).ended() == [0, 0]
    alone = validation().logits(unet())
    for rank in range(2):
        torch.testing.assert_close(read_tensors(tmp_path / f"{rank}.safetensors", made_by="x")["logits"], alone)


def test_a_teacher_of_maps_is_calibrated_over_its_known_pixels(capsys: pytest.CaptureFixture[str]) -> None:
    figures = calibrate(by_brightness(0.5), validation(), None)
    assert next(iter(figures)) == "miou"
    assert figures["miou"] > 0.99
    assert figures["calibrated"]["nll"] < figures["nll"]
    assert "train_teacher: val mean IoU 100.00%, cal" in capsys.readouterr().err
    logits = 3 * torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    drawn = torch.multinomial(logits.movedim(1, 3).flatten(0, 2).softmax(dim=1), 1).view(40, 8, 8).short()
    drawn[:, :4] = -1
    assert fit_temperature(logits * 2, drawn, GRID) == pytest.approx(2, rel=0.1)


def test_a_network_that_says_the_same_everywhere_has_learned_nothing() -> None:
    outputs = torch.zeros(60, 3, 8, 8)
    outputs[:, 0] = 1.0
    with pytest.raises(ModelError, match=r"learned nothing: mean IoU .*% on 60 validation images is what chance"):
        check_learned(outputs, SPLIT.hard_labels, "x", GRID)
    check_learned(validation().logits(by_brightness()), SPLIT.hard_labels, "x", GRID)


@pytest.mark.parametrize(("found", "told"), [(0.1, True), (0.2, True), (0.3, False)])
def test_a_mean_iou_that_needs_no_look_at_the_images_is_reported(found: float, told: bool) -> None:
    assert (chance_line(found, SPLIT.hard_labels, GRID) is not None) == told


def test_outputs_in_another_order_are_found_by_their_maps() -> None:
    logits = validation().logits(by_brightness())
    imported = ImportedOutputs("x", NAMES, None, GRID)
    imported.check(logits, SPLIT.hard_labels)
    with pytest.raises(ModelError, match=r"in another order; set class_map: .*\"ground\": \[2\], .*\"bright\": \[0\]"):
        imported.check(logits.flip(1), SPLIT.hard_labels)
    with pytest.raises(ModelError, match=r"^x: mean IoU .* is no better than chance"):
        imported.check(torch.eye(3)[torch.ones(60, 8, 8, dtype=torch.int64)].movedim(3, 1), SPLIT.hard_labels)


def test_unknown_pixels_decide_nothing() -> None:
    logits = validation().logits(by_brightness())
    wrong = torch.where((SPLIT.hard_labels < 0)[:, None], -logits, logits)
    assert GRID.metrics(wrong, SPLIT.hard_labels) == GRID.metrics(logits, SPLIT.hard_labels)
