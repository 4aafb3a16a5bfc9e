"""A simulated teacher of many classes: logits with the statistics of an ImageNet network.

    python -m benchmarks.simulated_teacher

Classes form groups of about five (breeds of one animal) and groups form families of about ten. A
class's logit is the sum of

- a part that depends on the label's class: kinship, and an affinity that all labels of it share;
- features of the image, a few dozen numbers, that raise and lower whole families, groups and
  classes together;
- noise of this label and class alone, more of it for distant classes.

The label's own class stands out by a margin, and all logits are stretched, both by amounts that
differ from image to image. The mean margin is the one that gives the wanted mean entropy. So a
class-conditional mean knows only part of a label's tail.

The constants were fitted, on 50,000 labels of 1,000 classes with seed 0, to the figures of an
earlier simulation (in brackets): mean entropy 0.475 nats (0.47), top-10 mass 0.987 (0.988), and
these mean KL in nats of truncated labels:

| kept classes | uniform tail | mean tail of the top-1 class |
|---|---|---|
| 3 | 0.212 | 0.032 (0.0230) |
| 5 | 0.101 | 0.022 (0.0182) |
| 10 | 0.035 (0.0355) | 0.0110 (0.0109) |
| 16 | 0.019 (0.0180) | 0.0071 |

Views of one image (`simulated_views`) share a part of the variance of everything that is drawn for
a label; the rest is drawn for each view. With `SHARED` and 1,000 classes, the variance of a class's
log-probability over an image's views is the same share of its variance over the classes as with
EfficientNet-Lite0 on photographs (`benchmarks.many_classes --fit`).

The mean tail is that of the very labels that it decodes, about 50 of a class, which flatters it:
with 250 of a class the KL is 0.037, 0.025 and 0.0130 for 3, 5 and 10 kept classes. Seeds 1 to 3
give 0.473 to 0.485 nats of entropy, 0.033 to 0.040 for 10 classes with a uniform tail and 0.0090 to
0.0108 with the mean tail.
"""

import math
from dataclasses import dataclass

import torch
import typer

from pipeline.core.seeding import derive_seed

GROUP_CLASSES = (2, 8)  # smallest and largest group
FAMILY_GROUPS = (5, 15)
NUM_FEATURES = 32
# All in nats of logit; "std" of a normal distribution.
FAMILY_BONUS, GROUP_BONUS = 5.9, 4.9  # a class of the same family; of the same group besides
FAMILY_AFFINITY_STD, GROUP_AFFINITY_STD, CLASS_AFFINITY_STD = 0.63, 1.18, 0.62
FEATURE_STD = 1.03
GROUP_NOISE_STD, FAMILY_NOISE_STD, NOISE_STD = 0.8, 1.4, 1.87
MARGIN_STD = 2.45
STRETCH_STD = 0.065  # of the stretch's logarithm
MEAN_ENTROPY_NATS = 0.47
SHARED = 0.58  # by the views of an image, of the variance of what is drawn
_BLOCK = 4096


@dataclass(frozen=True)
class _Classes:
    """The properties that all labels have in common."""

    affinity: torch.Tensor  # [classes, classes]: the label's class, the other class
    noise_std: torch.Tensor  # the same
    features: torch.Tensor  # [classes, features]


@dataclass(frozen=True)
class _Draws:
    """The draws behind labels: standard normal numbers beside their own classes."""

    own: torch.Tensor  # [labels]: the label's class
    noise: torch.Tensor  # [labels, classes]
    features: torch.Tensor  # [labels, features]
    stretch: torch.Tensor  # [labels]
    margin: torch.Tensor  # [labels]

    def mixed(self, other: "_Draws", shared: float) -> "_Draws":
        """Returns draws of the same distribution that share a part of their variance with these."""

        def mix(one: torch.Tensor, another: torch.Tensor) -> torch.Tensor:
            return math.sqrt(shared) * one + math.sqrt(1 - shared) * another

        return _Draws(
            self.own,
            mix(self.noise, other.noise),
            mix(self.features, other.features),
            mix(self.stretch, other.stretch),
            mix(self.margin, other.margin),
        )


@dataclass(frozen=True)
class _Block:
    """A block of labels before their own class has its logit."""

    own: torch.Tensor  # [labels]: the label's class
    logits: torch.Tensor  # [labels, classes], stretched
    margin_noise: torch.Tensor  # [labels]
    stretch: torch.Tensor  # [labels]

    def own_logits(self, margin: float) -> torch.Tensor:
        return self.stretch * (margin + self.margin_noise)


def simulated_logits(num_labels: int, num_classes: int = 1000, seed: int = 0) -> torch.Tensor:
    """Returns float32 logits [labels, classes]; the first rows do not depend on `num_labels`."""
    classes = _draw_classes(num_classes, _generator(seed, "classes"))
    margin = _margin(_draw_block(classes, _generator(seed, "block 0")))
    logits = torch.empty(num_labels, num_classes)
    for number, part in enumerate(logits.split(_BLOCK)):
        block = _draw_block(classes, _generator(seed, f"block {number}"))
        block.logits[torch.arange(_BLOCK), block.own] = block.own_logits(margin)
        part.copy_(block.logits[: len(part)])
    return logits


def simulated_views(
    num_images: int, num_views: int, num_classes: int = 1000, seed: int = 0, shared: float = SHARED
) -> torch.Tensor:
    """Returns float32 logits [views, images, classes] of several views of each image."""
    classes = _draw_classes(num_classes, _generator(seed, "classes"))
    margin = _margin(_draw_block(classes, _generator(seed, "block 0")))
    image = _draw(num_images, num_classes, _generator(seed, "images"))
    logits = torch.empty(num_views, num_images, num_classes)
    for view in range(num_views):
        block = _block(classes, image.mixed(_draw(num_images, num_classes, _generator(seed, f"view {view}")), shared))
        logits[view] = block.logits.scatter(1, block.own[:, None], block.own_logits(margin)[:, None])
    return logits


def _generator(seed: int, use: str) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, use) % 2**63)


def _draw_classes(num_classes: int, generator: torch.Generator) -> _Classes:
    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    def symmetric(count: int) -> torch.Tensor:
        square = normal(count, count)
        return (square + square.T) / 2**0.5

    group = _draw_sizes(num_classes, GROUP_CLASSES, generator)
    num_groups = int(group.max()) + 1
    family = _draw_sizes(num_groups, FAMILY_GROUPS, generator)[group]
    num_families = int(family.max()) + 1
    same_group, same_family = group[:, None] == group, family[:, None] == family
    affinity = (
        FAMILY_BONUS * same_family
        + GROUP_BONUS * same_group
        + FAMILY_AFFINITY_STD * symmetric(num_families)[family][:, family]
        + GROUP_AFFINITY_STD * symmetric(num_groups)[group][:, group]
        + CLASS_AFFINITY_STD * normal(num_classes, num_classes)
    )
    near = torch.where(same_family, FAMILY_NOISE_STD, NOISE_STD)
    features = normal(num_families, NUM_FEATURES)[family] + normal(num_groups, NUM_FEATURES)[group]
    features = (features + normal(num_classes, NUM_FEATURES)) / (3 * NUM_FEATURES) ** 0.5
    return _Classes(affinity, torch.where(same_group, GROUP_NOISE_STD, near), features)


def _draw_sizes(count: int, limits: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """Returns the number of its set for each of `count` items.

    Neighbours share a set, of a size drawn between the limits.
    """
    smallest, largest = limits
    sizes = torch.randint(smallest, largest + 1, (count,), generator=generator)
    return torch.repeat_interleave(torch.arange(count), sizes)[:count]


def _draw_block(classes: _Classes, generator: torch.Generator) -> _Block:
    return _block(classes, _draw(_BLOCK, len(classes.affinity), generator))


def _draw(count: int, num_classes: int, generator: torch.Generator) -> _Draws:
    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    own = torch.randint(num_classes, (count,), generator=generator)
    return _Draws(own, normal(count, num_classes), normal(count, NUM_FEATURES), normal(count), normal(count))


def _block(classes: _Classes, draws: _Draws) -> _Block:
    own = draws.own
    logits = draws.noise.mul(classes.noise_std[own]).add_(classes.affinity[own])
    logits.addmm_(draws.features, classes.features.T, alpha=FEATURE_STD)
    stretch = (STRETCH_STD * draws.stretch).exp()
    return _Block(own, logits.mul_(stretch[:, None]), MARGIN_STD * draws.margin, stretch)


def _margin(block: _Block) -> float:
    """Returns the mean margin that brings a block's labels nearest to the wanted mean entropy.

    The entropy of a label is that of "own class or not" and, with the probability of "not", that
    among the others.
    """
    others = block.logits.double().scatter(1, block.own[:, None], float("-inf"))
    log_sum = others.logsumexp(dim=1)
    entropy = torch.special.entr((others - log_sum[:, None]).exp()).sum(dim=1)
    low, high = float(log_sum.mean()), 100.0  # at `low` half of the mass is on the own class
    for _ in range(40):
        margin = (low + high) / 2
        missed = torch.sigmoid(log_sum - block.own_logits(margin))
        mean = (torch.special.entr(missed) + torch.special.entr(1 - missed) + missed * entropy).mean()
        low, high = (margin, high) if mean > MEAN_ENTROPY_NATS else (low, margin)
    return (low + high) / 2


def statistics(logits: torch.Tensor) -> dict[str, float]:
    """Returns statistics of a teacher: means over labels and shares of labels (0 to 1).

    All of them are at temperature 1.
    """
    top = min(10, logits.shape[1])
    sums: dict[str, float] = {}
    for block in logits.split(_BLOCK):
        log_probs = torch.log_softmax(block.double(), dim=1)
        probs = log_probs.exp()
        mass = probs.sort(dim=1, descending=True).values.cumsum(dim=1)
        figures = {
            "entropy_nats": -(probs * log_probs).sum(dim=1),
            "top1_mass": mass[:, 0],
            f"top{top}_mass": mass[:, top - 1],
            "top1_above_0.99": mass[:, 0] > 0.99,
            "top1_below_0.5": mass[:, 0] < 0.5,
            "classes_for_99_percent": (mass < 0.99).sum(dim=1) + 1,
            "logit_std": block.std(dim=1),
        }
        for name, values in figures.items():
            sums[name] = sums.get(name, 0.0) + float(values.sum())
    return {name: value / len(logits) for name, value in sums.items()}


def truncation_kl(logits: torch.Tensor, kept: int, *, class_prior: bool) -> float:
    """Returns the mean KL in nats of labels whose `kept` largest classes are exact.

    The other classes share the rest evenly or, with `class_prior`, as the mean tail of all labels
    with the same top-1 class does (of these very labels, with a hundredth spread evenly).
    """
    num_classes = logits.shape[1]
    tails = torch.ones(num_classes, num_classes)
    if class_prior:
        tails.zero_()
        for block in logits.split(_BLOCK):
            probs = block.softmax(dim=1)
            top = probs.topk(kept, dim=1).indices
            tails.index_add_(0, top[:, 0], probs.scatter(1, top, 0))
        tails = tails / tails.sum(dim=1, keepdim=True).clamp(min=1e-30) + 0.01 / num_classes
    total = 0.0
    for block in logits.split(_BLOCK):
        log_probs = torch.log_softmax(block.double(), dim=1)
        top = log_probs.topk(kept, dim=1).indices
        rest = log_probs.exp().scatter(1, top, 0)
        shares = tails[top[:, 0]].double().scatter(1, top, 0)
        shares *= rest.sum(dim=1, keepdim=True) / shares.sum(dim=1, keepdim=True)
        total += float(torch.where(rest > 0, rest * (log_probs - shares.clamp(min=1e-300).log()), 0).sum())
    return total / len(logits)


def main(labels: int = 50_000, seed: int = 0) -> None:
    logits = simulated_logits(labels, seed=seed)
    for name, value in statistics(logits).items():
        print(f"{name:24} {value:.4f}")
    for kept in (1, 3, 5, 10, 16):
        uniform, prior = (truncation_kl(logits, kept, class_prior=with_prior) for with_prior in (False, True))
        print(f"top {kept:2}: mean KL {uniform:.4f} with a uniform tail, {prior:.4f} with the mean tail of the class")


if __name__ == "__main__":
    typer.run(main)
