"""Students whose whole training is a table in advance: many at once on one graphics card.

A small student's step is bound by the launches of its kernels. Here every number that a step needs
(rows, view, label, weights, temperatures, learning rate) stands in a table on the device, a step
counts itself, and on a card it is one CUDA graph: hundreds of microseconds, several side by side on
streams of their own. On a processor the same step runs as it is written.

The arithmetic is that of the pipeline's own training: AdamW with decay of matrices alone, clipping,
the one-cycle schedule and the moving average of the weights, which is what is judged.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.models import Classifier
from pipeline.training.recipe import FitSettings, learning_rate_factor

_BETAS, _EPSILON = (0.9, 0.999), 1e-8
_AT_ONCE = 50  # steps that are handed to a card before it is asked again
_JUDGED = 5_000  # images in one pass
_ALIGNED = 64  # numbers: kernels of a card read vectors, which begin at whole multiples of their size


@dataclass(frozen=True)
class Bank:
    """The views and labels that students learn from, on a device.

    Args:
        views: View after view of all samples: row `view * samples + sample`.
        logits: A teacher's logits, laid out alike, by the number of a label set.
        judged: Images and hard labels by the name of a split.
    """

    views: Tensor
    logits: Tensor
    hard_labels: Tensor
    judged: dict[str, tuple[Tensor, Tensor]]

    @property
    def device(self) -> torch.device:
        return self.hard_labels.device

    def of_rows(self, table: Tensor, number: Tensor, rows: Tensor) -> Tensor:
        """Returns the entries of some samples for a view or a label set."""
        return table.index_select(0, number * len(self.hard_labels) + rows)


@dataclass(frozen=True)
class Epoch:
    """The settings of one epoch: the view shown, the label set, the weights and temperatures."""

    view: int
    labels: int
    hard_weight: float
    soft_weight: float
    temperature: float
    label_temperature: float


@dataclass(frozen=True)
class Schedule:
    """A training step by step: `rows` [steps, batch], `places` [steps, 2], `numbers` [steps, 8]."""

    rows: Tensor
    places: Tensor
    numbers: Tensor

    @classmethod
    def of(cls, epochs: Sequence[Epoch], orders: Sequence[Tensor], fit: FitSettings) -> "Schedule":
        """Returns the schedule of some epochs, whose samples come in the orders [steps, batch]."""
        each = [epoch for epoch, order in zip(epochs, orders, strict=True) for _ in order]
        places = torch.tensor([[epoch.view, epoch.labels] for epoch in each])
        numbers = torch.tensor([_numbers(epoch, step, len(each), fit) for step, epoch in enumerate(each)])
        return cls(torch.cat(list(orders)), places, numbers)

    def first(self, steps: int) -> "Schedule":
        """Returns its first steps."""
        return Schedule(self.rows[:steps], self.places[:steps], self.numbers[:steps])


def _numbers(epoch: Epoch, step: int, total: int, fit: FitSettings) -> list[float]:
    rate = fit.learning_rate * learning_rate_factor(step, total, fit)
    decay = min(fit.ema_decay, (1 + step) / (10 + step)) if step else 0.0
    first, second = (1 - beta ** (step + 1) for beta in _BETAS)
    objective = [epoch.hard_weight, epoch.soft_weight, epoch.temperature, epoch.label_temperature]
    return [*objective, rate, 1 - decay, first, second]


class Student:
    """A network in training, its weights in one flat tensor; used again for the next training."""

    def __init__(self, network: Classifier, bank: Bank, fit: FitSettings, longest: Schedule) -> None:
        self.bank, self._fit = bank, fit
        self.model = network.to(bank.device).train()
        self.average = copy.deepcopy(self.model).eval()
        self._weights, self._averaged = _flatten(self.model), _flatten(self.average)
        self._parameters = list(self.model.parameters())
        decayed = [torch.full_like(parameter, float(parameter.ndim > 1)) for parameter in self._parameters]
        self._decay = fit.weight_decay * _in_one(decayed)
        self._moments = torch.zeros(2, len(self._decay), device=bank.device)
        self._count = torch.zeros(1, dtype=torch.int64, device=bank.device)
        self._tables = [torch.zeros_like(table, device=bank.device) for table in vars(longest).values()]
        self._replay: Callable[[], object] = self._step
        self._stream, self._done, self.left = None, None, 0
        if bank.device.type == "cuda":
            self._stream, self._done = torch.cuda.Stream(), torch.cuda.Event()

    def capture(self, schedule: Schedule) -> None:
        """Makes a graph of the step, on a card; raises RuntimeError where that fails."""
        if self._stream is None:
            return
        self.begin(self.model, schedule)
        torch.cuda.synchronize()
        with torch.cuda.stream(self._stream):
            for _ in range(3):
                self._step()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            self._step()
        torch.cuda.synchronize()
        self._replay = graph.replay

    def begin(self, network: nn.Module, schedule: Schedule) -> None:
        """Starts from the weights of a network of the same shape."""
        with self._on_stream():
            self._weights.copy_(_in_one(_tensors(network)).to(self.bank.device))
            self._averaged.copy_(self._weights)
            self._moments.zero_()
            self._count.zero_()
            for table, values in zip(self._tables, vars(schedule).values(), strict=True):
                table[: len(values)].copy_(values, non_blocking=True)
        self.left = len(schedule.rows)

    @property
    def is_free(self) -> bool:
        """Whether the device has done what it was given."""
        return self._done is None or self._done.query()

    def go_on(self) -> None:
        """Gives the device some more steps."""
        with self._on_stream():
            for _ in range(min(_AT_ONCE, self.left)):
                self._replay()
        self.left -= min(_AT_ONCE, self.left)
        if self._done is not None:
            self._done.record(self._stream)

    def judge(self) -> dict[str, float]:
        """Returns accuracy in % and NLL in nats on every split; waits for the device."""
        figures = {}
        with self._on_stream(), torch.inference_mode():
            for name, (images, labels) in self.bank.judged.items():
                logits = torch.cat([self.average(some) for some in images.split(_JUDGED)])
                figures[f"{name} %"] = 100 * (logits.argmax(dim=1) == labels).double().mean()
                figures[f"{name} nll"] = F.cross_entropy(logits, labels).double()
            numbers = torch.stack(list(figures.values())).tolist()  # on this stream, which has computed them
        return dict(zip(figures, numbers, strict=True))

    def _on_stream(self) -> Any:
        return torch.cuda.stream(self._stream)

    def _step(self) -> None:
        # 1. The numbers of this step.
        rows, places, numbers = (table.index_select(0, self._count)[0] for table in self._tables)
        *objective, rate, pace, first, second = numbers.split(1)
        view, labels = places.split(1)
        # 2. The loss and its gradient, clipped.
        loss = self._loss(self.bank.of_rows(self.bank.views, view, rows), rows, labels, objective)
        parts = torch.autograd.grad(loss, self._parameters)
        with torch.no_grad():
            gradient = _in_one(parts)
            gradient *= (self._fit.clip_norm / (gradient.norm() + 1e-6)).clamp(max=1.0)
            # 3. AdamW, and the moving average of weights and buffers.
            weights, (mean, square) = self._weights[: len(gradient)], self._moments
            mean.lerp_(gradient, 1 - _BETAS[0])
            square.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
            weights.mul_(1 - rate * self._decay)
            weights.sub_(rate / first * mean / ((square / second).sqrt() + _EPSILON))
            self._averaged.lerp_(self._weights, pace)
            self._count.add_(1)

    def _loss(self, views: Tensor, rows: Tensor, labels: Tensor, objective: Sequence[Tensor]) -> Tensor:
        hard_weight, soft_weight, temperature, label_temperature = objective
        logits = self.model(views)
        hard = F.cross_entropy(logits, self.bank.hard_labels.index_select(0, rows), reduction="none")
        teacher = self.bank.of_rows(self.bank.logits, labels, rows).float()
        targets = F.log_softmax(teacher / label_temperature, dim=1)
        student = F.log_softmax(logits / temperature, dim=1)
        soft = temperature**2 * F.kl_div(student, targets, reduction="none", log_target=True).sum(dim=1)
        return (hard_weight * hard + soft_weight * soft).mean()


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    """Yields parameters and then the buffers that training moves."""
    yield from network.parameters()
    for name, buffer in network.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            yield buffer


def _in_one(tensors: Iterable[Tensor]) -> Tensor:
    """Returns tensors one after the other in one, each from a place that a card's kernels want."""
    return torch.cat([F.pad(tensor.detach().reshape(-1), (0, -tensor.numel() % _ALIGNED)) for tensor in tensors])


def _flatten(network: nn.Module) -> Tensor:
    """Puts all that training moves into one tensor, which it returns; theirs become views of it."""
    flat, start = _in_one(_tensors(network)), 0
    for tensor in _tensors(network):
        tensor.data = flat[start : start + tensor.numel()].view(tensor.shape)
        start += tensor.numel() + -tensor.numel() % _ALIGNED
    return flat


def train_all(
    students: Sequence[Student], jobs: Iterator[Callable[[Student], Callable[[dict[str, float]], None]]]
) -> None:
    """Trains jobs, several students at once, until there are no more.

    Args:
        jobs: Each begins a training on a student, and returns what takes its figures.
    """
    at_work: dict[int, Callable[[dict[str, float]], None]] = {}
    idle, is_over = list(range(len(students))), False
    while not is_over or at_work:
        while idle and not is_over:
            if (job := next(jobs, None)) is None:
                is_over = True
                break
            number = idle.pop()
            at_work[number] = job(students[number])
        for number in [each for each in at_work if students[each].is_free]:
            if students[number].left:
                students[number].go_on()
                continue
            at_work.pop(number)(students[number].judge())
            idle.append(number)
