"""A mixture of Gaussian processes over blocks of features, for a handful of labels.

Responsible for the numerics of a transfer: which mixture of given blocks explains some twenty latencies, what each
sample would have been predicted as without its label, and how far off that is expected to be.

Each member is a Gaussian process with a linear kernel: a weighted sum of the blocks' inner products, plus noise, with a
flat prior on the mean and the scale integrated out ([Rasmussen2006] ch. 2.7 and 5). Members differ in
the blocks' weights, drawn once from a broad prior in which blocks are often absent; they are averaged by their marginal
likelihoods, so that blocks that do not help lose their weight instead of being chosen or not.

References:
    [Rasmussen2006] C. E. Rasmussen, C. K. I. Williams. Gaussian Processes for Machine Learning. MIT Press, 2006.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MEMBERS = 400
_LOG_WEIGHTS = (-2.0, 1.5)  # of a block, base 10
_LOG_NOISES = (-3.0, 0.0)  # relative to the mean squared length of a feature vector
_NEGLIGIBLE = 1e-4  # of a member's share


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixture:
    """The averaged fit.

    Attributes:
        offset: of the mean prediction.
        weights: for each block, ``(d,)``: the mean prediction is ``offset + sum(block @ weights)``.
        left_out: ``(n,)``, each sample predicted without its label.
        left_out_deviation: ``(n,)``, standard deviation that the model gives a label around that prediction.
    """

    offset: float
    weights: tuple[Floats, ...]
    left_out: Floats
    left_out_deviation: Floats
    _members: tuple[_Member, ...]
    _blocks: tuple[Floats, ...]
    _scale: float

    def deviation(self, blocks: Sequence[Floats]) -> Floats:
        """Standard deviation ``(k,)`` of a fresh label around its prediction, for features ``blocks`` ``(k, d)``."""
        k = len(blocks[0])
        cross = [own @ other.T for own, other in zip(blocks, self._blocks, strict=True)]
        squares = [np.square(own).sum(axis=1) for own in blocks]
        mean, second, spread = np.zeros(k), np.zeros(k), np.zeros(k)
        for member in self._members:
            kernel = sum((w * c for w, c in zip(member.weights, cross, strict=True)), np.zeros((k, 1)))
            prior = sum((w * s for w, s in zip(member.weights, squares, strict=True)), np.zeros(k)) + member.noise
            predicted = member.mean + kernel @ member.dual
            # The second term is what not knowing the mean adds.
            reduced = prior - np.einsum("ij,jk,ik->i", kernel, member.inverse, kernel)
            reduced += np.square(1 - kernel @ member.ones) / member.ones.sum()
            mean += member.share * predicted
            second += member.share * np.square(predicted)
            spread += member.share * member.variance * reduced
        return np.asarray(np.sqrt(np.maximum(spread + second - np.square(mean), 0.0)) * self._scale)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Member:
    """One Gaussian process: its part in the mixture, its kernel and its fit to standardised labels."""

    share: float
    weights: Floats
    noise: float
    mean: float
    variance: float
    dual: Floats
    ones: Floats
    inverse: Floats


def fit_mixture(blocks: Sequence[Floats], target: Floats, *, often: Sequence[float]) -> Mixture:
    """The mixture for labels ``target`` ``(n,)``, n at least 4 and not all the same. Deterministic.

    Args:
        blocks: features ``(n, d)`` each, centred and scaled so that squared lengths are 1 on average over the space.
        target: labels.
        often: for each block, the prior probability that a member has it.
    """
    n, scale = len(target), float(target.std())
    assert n >= 4
    assert scale > 0
    centred = (target - target.mean()) / scale
    grams = np.array([block @ block.T for block in blocks])
    drawn, noises = _prior(np.asarray(often))
    evidence, means, deviations = (np.zeros((len(drawn), *shape)) for shape in ((), (n,), (n,)))
    for k, (weights, noise) in enumerate(zip(drawn, noises, strict=True)):
        kernel = np.tensordot(weights, grams, axes=1) + noise * np.eye(n)
        evidence[k], means[k], deviations[k] = _left_out(kernel, centred)
    shares = np.exp(evidence - evidence.max())
    shares /= shares.sum()
    members = tuple(
        _member(shares[k], drawn[k], noises[k], grams, centred) for k in np.flatnonzero(shares > _NEGLIGIBLE)
    )
    total = sum(member.share for member in members)
    weights = tuple(
        scale / total * block.T @ sum((m.share * m.weights[place] * m.dual for m in members), np.zeros(n))
        for place, block in enumerate(blocks)
    )
    left_out, spread = _averaged(evidence, means, deviations, centred)
    return Mixture(
        offset=float(target.mean() + scale * sum(m.share * m.mean for m in members) / total),
        weights=weights,
        left_out=target.mean() + scale * left_out,
        left_out_deviation=scale * np.sqrt(spread),
        _members=members,
        _blocks=tuple(blocks),
        _scale=scale,
    )


def _prior(often: Floats) -> tuple[Floats, Floats]:
    """Weights ``(members, blocks)``, each member's adding up to 1, and noises ``(members,)``; the same every time."""
    rng = np.random.default_rng(0)
    weights = 10 ** rng.uniform(*_LOG_WEIGHTS, (_MEMBERS, len(often)))
    present = rng.random(weights.shape) < often
    # A member without blocks would predict the mean for everything.
    present[~present.any(axis=1), int(np.argmax(often))] = True
    weights = weights * present
    return weights / weights.sum(axis=1, keepdims=True), 10 ** rng.uniform(*_LOG_NOISES, _MEMBERS)


def _left_out(kernel: Floats, centred: Floats) -> tuple[float, Floats, Floats]:
    """Logarithm of the marginal likelihood, and the leave-one-out mean and deviation of each label ``(n,)``."""
    n = len(centred)
    inverse = np.linalg.inv(kernel)
    ones = inverse.sum(axis=1)
    # With a flat prior on the mean, this takes the inverse's place.
    reduced = inverse - np.outer(ones, ones) / ones.sum()
    dual = reduced @ centred
    power = float(centred @ dual)
    volume = float(np.linalg.slogdet(kernel)[1])
    evidence = -0.5 * volume - 0.5 * float(np.log(ones.sum())) - 0.5 * (n - 1) * float(np.log(power))
    diagonal = np.diag(reduced)
    residuals = dual / diagonal
    # The scale, too, is estimated without the label.
    deviations = np.sqrt(np.maximum(power - dual * residuals, 1e-12) / (n - 2) / diagonal)
    return evidence, centred - residuals, deviations


def _averaged(evidence: Floats, means: Floats, deviations: Floats, centred: Floats) -> tuple[Floats, Floats]:
    """Mean and variance ``(n,)`` of each label under the mixture that the other labels alone would have given.

    A member's marginal likelihood without a label is that with it, over what it gave the label: Student's density.
    """
    degrees = len(centred) - 2
    standard = (centred - means) / deviations
    given = -np.log(deviations) - 0.5 * (degrees + 1) * np.log1p(np.square(standard) / degrees)
    without = evidence[:, None] - given
    shares = np.exp(without - without.max(axis=0))
    shares /= shares.sum(axis=0)
    left_out = (shares * means).sum(axis=0)
    variance = (shares * (np.square(deviations) + np.square(means))).sum(axis=0) - np.square(left_out)
    return left_out, variance


def _member(share: float, weights: Floats, noise: float, grams: Floats, centred: Floats) -> _Member:
    n = len(centred)
    inverse: Floats = np.asarray(np.linalg.inv(np.tensordot(weights, grams, axes=1) + noise * np.eye(n)), dtype=float)
    ones = inverse.sum(axis=1)
    mean = float(ones @ centred / ones.sum())
    dual = inverse @ (centred - mean)
    return _Member(
        share=float(share),
        weights=weights,
        noise=float(noise),
        mean=mean,
        variance=float((centred - mean) @ dual) / (n - 1),
        dual=dual,
        ones=ones,
        inverse=inverse,
    )
