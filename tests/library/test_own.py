"""`potstill.label_dataset`: labels for a data set of the caller's own, and students from them."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_split
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

import potstill
from pipeline.labelling.inspect import teacher_line
from pipeline.views.plan import plan_view

SPLIT = make_split(24)
VIEWS = [{"kind": "pad_crop", "pad_px": 2}]
SETTINGS = potstill.LabelSettings(num_views=2, views=VIEWS, batch_size=8)
OWN = [(image, int(label)) for image, label in zip(SPLIT.inputs, SPLIT.hard_labels, strict=True)]


class Teacher(nn.Module):
    """A teacher with weights, which counts the views that it sees."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(144, 4, generator=torch.Generator().manual_seed(seed)))
        self.seen = 0

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        self.seen += len(views)
        return views.flatten(1) @ self.weights


def halved(views: torch.Tensor) -> torch.Tensor:
    return views.float() / 255


def label(tmp_path: Path, teacher: Any, own: Any = OWN, **changes: Any) -> potstill.Labels:
    return potstill.label_dataset(
        own, teacher, tmp_path / "labels", **{"normalise": halved, "settings": SETTINGS} | changes
    )


FORMS: dict[str, Callable[[torch.Tensor, int], Any]] = {
    "alone": lambda image, label: image,
    "arrays": lambda image, label: (image[0].numpy(), np.int64(label)),
    "maps": lambda image, label: {"image": Image.fromarray(image[0].numpy()), "label": torch.tensor(label)},
}


def test_labels_are_the_teachers_for_views_of_ours(tmp_path: Path) -> None:
    teacher = Teacher()
    teacher.train()
    labels = label(tmp_path, teacher, class_names=["w", "x", "y", "z"])
    assert (labels.class_names, labels.views, labels.teacher["model"]) == (["w", "x", "y", "z"], [0, 1], "Teacher")
    assert teacher.training
    assert teacher_line(labels.teacher).startswith("Teacher, fingerprint"), "its accuracy is not known"
    for view in (0, 1):
        views = plan_view(SPLIT, labels.view_spec, view).render(slice(None))
        expected = teacher(halved(views)).log_softmax(dim=1).detach()
        torch.testing.assert_close(labels.targets(SPLIT.sample_ids, view).exp(), expected.exp(), atol=0.02, rtol=0)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_items_of_every_form_give_the_same_store_and_batches(
    tmp_path: Path, form: Callable[[torch.Tensor, int], Any]
) -> None:
    own = [form(*item) for item in OWN]
    labels = label(tmp_path, Teacher(), own)
    assert labels.class_names == ["0", "1", "2", "3"]
    dataset = potstill.DistillationDataset(own, labels, normalise=halved)
    dataset.set_epoch(1)
    dataset = pickle.loads(pickle.dumps(dataset))
    (batch,) = DataLoader(dataset, batch_size=24)
    views = plan_view(SPLIT, labels.view_spec, 1).render(slice(None))
    assert torch.equal(batch.view, halved(views))
    torch.testing.assert_close(batch.targets, labels.targets(SPLIT.sample_ids, 1))
    known = SPLIT.hard_labels if isinstance(own[0], tuple | dict) else torch.full((24,), -1)
    assert torch.equal(batch.hard_label, known)
    loader = potstill.LabelledLoader(own, labels, 24)
    loader.set_epoch(1)
    (fast,) = loader
    assert sorted(map(bytes, fast.inputs.flatten(1).numpy())) == sorted(map(bytes, views.flatten(1).numpy()))


def test_a_pass_that_was_stopped_goes_on_and_more_views_cost_themselves_alone(tmp_path: Path) -> None:
    class Stopping(Teacher):
        """A teacher that is stopped before its second block."""

        stops = True

        def forward(self, views: torch.Tensor) -> torch.Tensor:
            if self.stops and self.seen >= 2 + 24:
                raise KeyboardInterrupt
            return super().forward(views)

    teacher = Stopping()
    with pytest.raises(KeyboardInterrupt):
        label(tmp_path, teacher)
    teacher.stops, teacher.seen = False, 0
    labels = label(tmp_path, teacher)
    assert teacher.seen == 2 + 24, "a trial of two images, and the second view"
    teacher.seen = 0
    assert len(label(tmp_path, teacher).views) == 2
    assert teacher.seen == 2, "it is all there"
    more = potstill.LabelSettings(num_views=3, views=VIEWS, batch_size=8)
    grown = label(tmp_path, teacher, settings=more)
    assert teacher.seen == 2 + 2 + 24
    assert torch.equal(grown.targets(SPLIT.sample_ids, 1), labels.targets(SPLIT.sample_ids, 1))


def test_data_larger_than_memory_is_labelled_alike(tmp_path: Path) -> None:
    whole = label(tmp_path / "whole", Teacher())
    big = make_split(24, shape=(1, 300, 300))
    assert whole.num_samples == 24
    own = list(big.inputs)

    def bright(views: torch.Tensor) -> torch.Tensor:
        return views.flatten(1).float()[:, :4]

    settings = potstill.LabelSettings(num_views=1, views=VIEWS, batch_size=2, memory_mb=2)  # 24 take 2.16 MB
    one, other = (label(tmp_path / str(mb), bright, own, normalise=None, settings=settings) for mb in (1, 2))
    assert torch.equal(one.targets(big.sample_ids, 0), other.targets(big.sample_ids, 0))
    dataset = potstill.LabelledLoader(own, one, 4, memory_mb=4)
    assert sum(len(batch.inputs) for batch in dataset) == 24


def test_what_is_wrong_is_refused_in_one_line(tmp_path: Path) -> None:
    label(tmp_path, Teacher())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").touch()
    (tmp_path / "labels.work/x").mkdir()
    mixed = potstill.LabelSettings(num_views=1, views=[{"kind": "mixup", "alpha": 1.0, "probability": 1.0}])
    mixed_labels = label(tmp_path / "mixed", Teacher(), settings=mixed)
    changing = _Changing()
    new = tmp_path / "new"
    for message, refused in {
        "your data set: is empty": lambda: label(new, Teacher(), []),
        "a generator; expected items by number": lambda: label(new, Teacher(), (item for item in OWN)),
        "precision": lambda: label(new, Teacher(), settings=potstill.LabelSettings(precision="float8")),
        "item 0: float32 of shape": lambda: label(new, Teacher(), [torch.zeros(1, 12, 12)]),
        r"item 1: shape \[1, 4, 4\]; expected \[1, 12, 12\]": lambda: label(
            new, Teacher(), [OWN[0], (OWN[1][0][:, :4, :4], 0)]
        ),
        "item 0: label 'cat'.*give int": lambda: label(new, Teacher(), [(OWN[0][0], "cat")]),
        r"item 0: a label of shape \[12, 12\]; expected a class number": lambda: label(
            new, Teacher(), [(OWN[0][0], np.zeros((12, 12), np.int16))]
        ),
        r"item 0: a label of shape \[1\]; .* sets of classes have to be prepared": lambda: label(
            new, Teacher(), [(OWN[0][0], torch.tensor([1]))]
        ),
        r"item 0: label \{1, 2\}; .* sets of classes have to be prepared": lambda: label(
            new, Teacher(), [(OWN[0][0], {1, 2})]
        ),
        r"returned \[2, 1, 12, 12\]; expected logits": lambda: label(new, lambda views: views.float()),
        "label 4, the first of 1; expected 0 to 3": lambda: label(new, Teacher(), [OWN[0], (OWN[1][0], 4)]),
        "is another image when it is read again": lambda: label(new, Teacher(), changing),
        "Teacher: fails on views of shape .* give `normalise`": lambda: label(new, Teacher(), normalise=None),
        r"returned \[2\]; expected logits \[2, classes\]": lambda: label(new, lambda views: views.flatten(1)[:, 0]),
        "returned str": lambda: label(new, lambda views: "no"),
        "NaN or infinite": lambda: label(new, lambda views: views.flatten(1) / 0),
        "look like probabilities: each row sums up to 1": lambda: label(
            new, lambda views: views.float().flatten(1)[:, :4].softmax(dim=1)
        ),
        "gives 4 logits, and there are 2 class names; .*; give 4 class_names, or leave them out": lambda: label(
            new, Teacher(), class_names=["a", "b"]
        ),
        "settings: a dict; expected a potstill.LabelSettings": lambda: label(new, Teacher(), settings={}),
        "views: 8; expected a ViewSpec, or a list": lambda: label(
            new,
            Teacher(),
            settings=potstill.LabelSettings(views=8),  # type: ignore[arg-type]
        ),
        "num_views": lambda: label(new, Teacher(), settings=potstill.LabelSettings(num_views=0)),
        "shuffle": lambda: label(new, Teacher(), settings=potstill.LabelSettings(views=[{"kind": "shuffle"}])),
        "encoding": lambda: label(new, Teacher(), settings=potstill.LabelSettings(encoding={"kind": "tiny"})),
        "holds labels of another teacher": lambda: label(tmp_path, Teacher(seed=1)),
        "of another teacher; name another folder": lambda: label(tmp_path, Teacher(), normalise=torch.Tensor.float),
        "holds labels of other classes": lambda: label(tmp_path, Teacher(), class_names=["a", "b", "c", "d"]),
        "holds labels of other views": lambda: label(
            tmp_path, Teacher(), settings=potstill.LabelSettings(num_views=2, views=VIEWS, seed=1)
        ),
        "holds labels of 2 views of each image, more than 1; name another folder": lambda: label(
            tmp_path, Teacher(), settings=potstill.LabelSettings(num_views=1, views=VIEWS)
        ),
        "holds 'thesis.tex'": lambda: potstill.label_dataset(OWN, Teacher(), tmp_path / "mine", normalise=halved),
        "has no labels for 1 of 1 samples": lambda: potstill.DistillationDataset(
            [255 - OWN[0][0]], potstill.open_labels(tmp_path / "labels/soft.zarr")
        )[0],
        "mixed of two images, and a data set of your own": lambda: potstill.DistillationDataset(OWN, mixed_labels),
    }.items():
        with pytest.raises(potstill.PotstillError, match=message) as caught:
            refused()
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500
    assert (tmp_path / "mine/thesis.tex").exists()


class _Changing:
    """A data set with random augmentation inside."""

    def __init__(self) -> None:
        self.calls = 0

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> torch.Tensor:
        self.calls += 1
        return torch.full((1, 12, 12), self.calls, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"temperatures": 2.0}, "label_dataset: temperatures: 2.0; expected a list of numbers"),
        ({"encoding": "dense_uint8"}, "label_dataset: encoding: 'dense_uint8'; expected a row of settings"),
        ({"memory_mb": "4 GB"}, "label_dataset: memory_mb: '4 GB'; expected a whole number from 1 on"),
        ({"batch_size": 0}, "label_dataset: batch_size: 0; expected a whole number from 1 on"),
        ({"class_names": 4}, "label_dataset: class_names: 4; expected a list of names"),
        ({"class_names": "abcd"}, "label_dataset: class_names: 'abcd'; expected a list of names"),
    ],
)
def test_an_argument_of_another_type_is_one_line(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    settings = {key: value for key, value in changes.items() if key != "class_names"}
    with pytest.raises(potstill.PotstillError, match=f"^{re.escape(line)}") as caught:
        label(tmp_path, Teacher(), class_names=changes.get("class_names"), settings=potstill.LabelSettings(**settings))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_the_shape_that_normalise_made_stands_in_the_line_about_a_teacher_that_fails(tmp_path: Path) -> None:
    told = r"^Teacher: fails on views of shape \[2, 1, 12, 12\], normalised to \[2, 1, 6, 12\] \("
    with pytest.raises(potstill.PotstillError, match=told):
        label(tmp_path, Teacher(), normalise=lambda views: halved(views)[:, :, ::2])


def test_messages_name_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label(tmp_path, Teacher())
    told = capsys.readouterr().err
    assert "label_dataset: soft: 48 labels" in told
    assert "dump_labels" not in told
