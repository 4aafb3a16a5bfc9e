"""What must hold on a CUDA device: `pytest -m gpu`."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_split

from pipeline.batches import num_steps, plain_batches, training_batches
from pipeline.inference import predict_logits
from pipeline.losses import cross_entropy
from pipeline.metrics import classification_metrics
from pipeline.models import build_model
from pipeline.seeding import philox
from pipeline.training import FitSettings, Task, fit
from pipeline.views import ViewSpec, render

pytestmark = pytest.mark.gpu


def test_random_words_are_the_same_bits() -> None:
    words = torch.arange(1000, dtype=torch.int64)
    on_cpu = philox(7, (words, words, words, words))
    on_gpu = philox(7, tuple(word.cuda() for word in (words, words, words, words)))  # type: ignore[arg-type]
    for one, other in zip(on_cpu, on_gpu, strict=True):
        assert np.array_equal(one.numpy(), other.cpu().numpy())


def test_views_are_the_same_pixels() -> None:
    split, spec = make_split(), ViewSpec(seed=1, pad_px=2, flip_horizontal=True)
    draws = spec.draw(split.sample_ids, 3)
    assert torch.equal(render(split.images, draws, spec), render(split.images.cuda(), draws.cuda(), spec).cpu())


def test_training_works_and_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    split, spec, device = make_split(), ViewSpec(seed=1, pad_px=1, flip_horizontal=False), torch.device("cuda")
    model = build_model("convnet_small", {"width": 4, "depth": 1}, num_classes=4, channels=1, mean=[0.4], std=[0.2])
    settings = FitSettings(
        epochs=6,
        batch_size=16,
        optimizer="adamw",
        learning_rate=0.01,
        weight_decay=0.01,
        schedule="cosine",
        warmup_fraction=0.1,
        clip_norm=5.0,
        ema_decay=0.9,
        precision="auto",
        checkpoint_seconds=0.0,
    )
    task = Task(
        batches=lambda epoch, start: training_batches(
            split, spec, view=epoch, epoch=epoch, batch_size=16, seed=0, start_step=start
        ),
        steps_per_epoch=num_steps(len(split), 16),
        loss=lambda net, batch: cross_entropy(net(batch.images.to(device)), batch.hard_labels.to(device)).mean(),
        pixels=lambda batch: batch.images,
        validate=lambda net: classification_metrics(
            predict_logits(net, plain_batches(split, 32), device), split.hard_labels
        ),
    )
    first = fit(model, task, settings, tmp_path, device, "gpu")
    again = fit(model, task, settings, tmp_path, device, "gpu")
    assert first.state.history[-1]["val_accuracy"] > 0.5
    assert all(torch.equal(first.last[name], again.last[name]) for name in first.last)
