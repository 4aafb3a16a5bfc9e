"""Angles between the examples of a group, compared on two sides: the value and its gradient."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

Vectors = Float[Tensor, "group dimensions"]
OfPairs = Float[Tensor, "group group"]
OfTriplets = Float[Tensor, "some group group"]

_CLOSE = 1e-6  # of the mean distance: examples that are the same have no angle
_AT_ONCE = 1 << 17  # triplets


def distances(vectors: Vectors) -> OfPairs:
    """Returns the distance of each example to each."""
    return torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist")


class AngleLosses(torch.autograd.Function):
    """The sum over the triplets of a group of huber(a - b), with a and b the cosine at j between
    i and k on either side.

    Triplets are as many as the cube of a group, so what counts is how often one goes through them,
    and whether they stay in the cache: some j at a time, in the same memory. The gradient is worked
    out while their cosines are at hand.
    """

    @staticmethod
    def forward(ctx: Any, features: Vectors, stored: Float[Tensor, "group stored"]) -> Float[Tensor, ""]:
        own, other = Relations.of(features), Relations.of(stored)
        count, total = len(features), features.new_zeros(())
        for_distances, for_products = torch.empty_like(own.inverse), torch.zeros_like(own.inverse)
        some = max(1, _AT_ONCE // count**2)
        memory = features.new_empty(3, min(some, count), count, count)
        for start in range(0, count, some):
            places = range(start, min(start + some, count))
            cosines, differences, slopes = memory[:, : len(places)]
            # 1. The differences of cosines. Where two of the three are the same example both sides
            # count 0; to pick out the others would take longer than all the rest.
            own.cosines(places, cosines)
            other.cosines(places, differences)
            torch.sub(cosines, differences, out=differences)
            differences.diagonal(dim1=1, dim2=2).zero_()
            # 2. The loss of a difference d is d^2 / 2 with slope d up to 1; beyond, |d| - 1/2
            # with 1.
            torch.clamp(differences, -1, 1, out=slopes)
            each = slopes.flatten()
            total += torch.dot(each, differences.flatten()) - torch.dot(each, each) / 2
            # 3. The gradient for the distances, of which a cosine has two, and for the products:
            # those of i and k, of j with either, and of j with itself.
            here = slice(places.start, places.stop)
            torch.sum(cosines.mul_(slopes), dim=2, out=for_distances[here])
            slopes.mul_(own.inverse[here, None]).mul_(own.inverse[here][..., None])
            of_pairs = slopes.sum(dim=2)
            for_products += slopes.sum(dim=0)
            for_products[here] -= 2 * of_pairs
            for_products.diagonal()[here] += of_pairs.sum(dim=1)
        ctx.save_for_backward(own.gradient(for_distances.mul_(own.inverse).mul_(-2), for_products))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        return ctx.saved_tensors[0] * slope, None


@dataclass(frozen=True)
class Relations:
    """The vectors of a group from their mean, their products x_i . x_k, and 1 / |x_i - x_j|, 0
    where both are the same.
    """

    vectors: Vectors
    products: OfPairs
    inverse: OfPairs

    @classmethod
    def of(cls, vectors: Vectors) -> "Relations":
        centred = vectors - vectors.mean(dim=0)  # that changes no angle, and little cancels
        between = distances(vectors)
        apart = between > _CLOSE * between.mean()
        inverse = torch.where(apart, 1 / torch.where(apart, between, 1.0), 0.0)
        return cls(centred, centred @ centred.T, inverse)

    def cosines(self, places: range, out: OfTriplets) -> None:
        """Works out (x_i - x_j) . (x_k - x_j) / |x_i - x_j| / |x_k - x_j|, by j, i, k, of some j.

        From the products of pairs that takes far less memory than the differences.
        """
        here = slice(places.start, places.stop)
        inverse = self.inverse[here]
        from_own = self.products.diagonal()[here, None] - self.products[here]
        torch.sub(self.products[None], self.products[here, None], out=out)
        torch.addcmul((from_own * inverse)[..., None], out, inverse[..., None], out=out)
        out.mul_(inverse[:, None])

    def gradient(self, for_distances: OfPairs, for_products: OfPairs) -> Vectors:
        """Returns the gradient for the vectors: d(x_i . x_k) = dx_i . x_k + x_i . dx_k, and
        d|x_i - x_j| is the change along the difference.
        """
        along = for_distances * self.inverse
        along = along + along.T
        pull = for_products + for_products.T - along
        pull.diagonal().add_(along.sum(dim=1))
        return pull @ self.vectors
