"""predict_logits: eval mode for the while, nothing left behind, order kept."""

import pytest
import torch
from conftest import make_split

from pipeline.core.errors import ModelError
from pipeline.models import Classifier, ClassifierSpec
from pipeline.models.predict import predict_logits

CPU = torch.device("cpu")
IMAGES = make_split(24).inputs


@pytest.fixture
def model() -> Classifier:
    built = ClassifierSpec(
        "resnet_small", {"width": 4, "depth": 1}, num_classes=4, channels=1, mean=[0.3], std=[0.2]
    ).build(1)
    built.train()(IMAGES)  # statistics that differ from the fresh ones
    return built


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_put_back_even_after_an_error(model: Classifier, training: bool) -> None:
    model.train(training)
    predict_logits(model, [IMAGES], CPU)
    assert {module.training for module in model.modules()} == {training}
    with pytest.raises(ModelError, match="images of 1 channels, and these have 5"):
        predict_logits(model, [torch.zeros(2, 5, 12, 12, dtype=torch.uint8)], CPU)
    assert {module.training for module in model.modules()} == {training}


def test_a_teacher_in_train_mode_keeps_its_statistics_and_predicts_in_eval_mode(model: Classifier) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    logits = predict_logits(model.train(), iter(IMAGES.split(5)), CPU)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    with torch.no_grad():
        expected = model.eval()(IMAGES)
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize("batch_size", [1, 7, 24])
def test_an_images_logits_do_not_depend_on_its_company(model: Classifier, batch_size: int) -> None:
    whole = predict_logits(model, [IMAGES], CPU)
    torch.testing.assert_close(predict_logits(model, iter(IMAGES.split(batch_size)), CPU), whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(predict_logits(model, [IMAGES.flip(0)], CPU).flip(0), whole, rtol=1e-4, atol=1e-5)


def test_the_result_is_plain_float32_without_gradients(model: Classifier) -> None:
    logits = predict_logits(model, iter(IMAGES.split(10)), CPU)
    assert (logits.dtype, logits.device, logits.requires_grad) == (torch.float32, CPU, False)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_progress_is_told_in_samples(model: Classifier) -> None:
    told: list[int] = []
    predict_logits(model, iter(IMAGES.split(10)), CPU, on_batch=told.append)
    assert told == [10, 10, 4]
