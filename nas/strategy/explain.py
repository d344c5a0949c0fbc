"""Which choices move a figure, by how much, and whether the data can tell.

Responsible for a model of a figure on choices alone, and for taking it apart: an additive Gaussian process with
interactions of up to three choices [Duvenaud2011], whose parts have zero mean over the data, so that Shapley values
[Shapley1953] follow exactly from them: each interaction is shared equally by the choices in it. It needs codes of
options and nothing else, so a finished run can be explained from its files.

References:
    [Duvenaud2011] D. Duvenaud, H. Nickisch, C. E. Rasmussen. Additive Gaussian processes. NeurIPS 2011.
    [Durrande2013] N. Durrande, D. Ginsbourger, O. Roustant, L. Carraro. ANOVA kernels and RKHS of zero mean functions
        for model-based sensitivity analysis. Journal of Multivariate Analysis 115, 2013.
    [Shapley1953] L. S. Shapley. A value for n-person games. Contributions to the theory of games II, 1953.
    [Rasmussen2006] C. E. Rasmussen, C. K. I. Williams. Gaussian processes for machine learning. MIT Press 2006.
        (Equations 5.8 and 5.12.)
    [Owen2014] A. B. Owen. Sobol' indices and Shapley value. SIAM/ASA Journal on Uncertainty Quantification 2, 2014.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

MIN_ROWS = 12  # fewer are not taken apart
MAX_ROWS = 300  # that a process is fitted to: its time grows with the cube
_HALVES = 40
_OFFSET = 1.0  # prior variance of the mean, in variances of the data
# Shares of variance of single choices, pairs and triples that are tried.
_ORDERS = ((1.0, 0.0, 0.0), (0.8, 0.2, 0.0), (0.5, 0.5, 0.0), (0.6, 0.25, 0.15), (0.34, 0.33, 0.33))
_NOISES = tuple(float(noise) for noise in np.logspace(-4, 1, 16))  # of an observation, in variances of the process


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A figure taken apart by choices; all in the unit of the figure.

    Attributes:
        mean: of the figure.
        shapley: ``(n, m)`` what each choice adds to a row's figure; a row sums to its fitted figure minus that of the
            data on average.
        shares: ``(m,)`` of the fitted figure's variance; they sum to 1. Below 0 where a choice works against those that
            it comes with.
        shares_low, shares_high: ``(m,)`` range over fits to random halves of the rows. An estimate from half of them
            strays from the one from all about as far as that from the truth; the settings of the model are kept, so the
            range is somewhat too narrow for certainty.
        options: for each choice, what its options add on average: option code -> (effect, low, high), of those that
            occur. A choice that is inactive adds nothing.
        left_out: ``(n,)`` what the model says of each row without having seen it, its settings aside.
        r2: share of the figure's variance that ``left_out`` predicts; at most 1, 0 for no better than the mean.
        interactions: share of the prior's variance that was given to pairs and triples of choices.
    """

    mean: float
    shapley: Floats
    shares: Floats
    shares_low: Floats
    shares_high: Floats
    options: tuple[dict[int, tuple[float, float, float]], ...]
    left_out: Floats
    r2: float
    interactions: float


def explain(
    codes: Codes, figures: Sequence[Floats], *, ordered: Sequence[bool], rng: np.random.Generator
) -> list[Explanation | None]:
    """Takes figures apart by choices.

    Args:
        codes: ``(n, m)`` option codes from 0, -1 where inactive; at least `MIN_ROWS` distinct architectures.
        figures: ``(n,)`` each, finite.
        ordered: of each choice, whether neighbouring options are alike.
        rng: draws the halves of the rows that the ranges come from.

    Returns:
        An explanation a figure; None for one that is the same for all rows, or where no choice varies.
    """
    assert codes.ndim == 2, codes.shape
    assert len(codes) >= MIN_ROWS, codes.shape
    kernel = _ChoiceKernel.of(codes, ordered)
    if not kernel.varying:
        return [None for _ in figures]
    order = np.argsort(rng.random((_HALVES, len(codes))), axis=1)
    halves = order < len(codes) // 2
    spectra = [(orders, *np.linalg.eigh(kernel.matrix(orders))) for orders in kernel.possible(_ORDERS)]
    return [_explained(kernel, spectra, np.asarray(figure, dtype=np.float64), halves) for figure in figures]


@dataclass(frozen=True, kw_only=True)
class _ChoiceKernel:
    """Similarity of rows, choice by choice.

    Attributes:
        codes: ``(n, m)`` as given.
        parts: ``(v, n, n)`` a zero-mean kernel of unit variance for each choice that varies.
        sums: ``(3, n, n)`` of the parts, their squares and their cubes.
        varying: places of those choices.
    """

    codes: Codes
    parts: Floats
    sums: Floats
    varying: tuple[int, ...]

    @classmethod
    def of(cls, codes: Codes, ordered: Sequence[bool]) -> _ChoiceKernel:
        parts, varying = [], []
        for place in range(codes.shape[1]):
            levels, inverse = np.unique(codes[:, place], return_inverse=True)
            if np.count_nonzero(levels >= 0) > 1:
                table = _level_kernel(levels, np.bincount(inverse).astype(np.float64), ordered=ordered[place])
                parts.append(table[np.ix_(inverse, inverse)])
                varying.append(place)
        stacked = np.stack(parts) if parts else np.empty((0, len(codes), len(codes)))
        sums = np.stack([stacked.sum(axis=0), np.einsum("vab,vab->ab", stacked, stacked), _cubes(stacked)])
        return cls(codes=codes, parts=stacked, sums=sums, varying=tuple(varying))

    def possible(self, orders: Sequence[tuple[float, ...]]) -> list[tuple[float, ...]]:
        """Those that ask for no more choices at once than vary."""
        return [shares for shares in orders if all(not share for share in shares[len(self.varying) :])]

    def matrix(self, orders: Sequence[float]) -> Floats:
        """``(n, n)`` kernel: elementary symmetric polynomials of the parts [Duvenaud2011], and the offset's."""
        polynomials = _symmetric(*self.sums)
        result: Floats = np.full(self.parts.shape[1:], _OFFSET)
        for order, share in enumerate(orders, start=1):
            if share:
                result = result + share / comb(len(self.varying), order) * polynomials[order]
        return result

    def shapley(self, orders: Sequence[float], weights: Floats) -> Floats:
        """``(v, n, b)`` what each choice adds at each row, for ``(n, b)`` weights of the rows."""
        first, second, third = self.sums
        found = []
        for part in self.parts:
            square = part * part
            others = _symmetric(first - part, second - square, third - square * part)
            shared = np.zeros_like(part)
            for order, share in enumerate(orders, start=1):
                if share:
                    shared += share / comb(len(self.varying), order) / order * others[order - 1]
            found.append((part * shared) @ weights)
        return np.stack(found)


def _level_kernel(levels: Codes, counts: Floats, *, ordered: bool) -> Floats:
    """``(l, l)`` similarity of options, with zero mean over the rows where the choice is active [Durrande2013] and unit
    mean variance there. It is 0 where the choice is inactive: that is put down to the choice that switched it off."""
    active = levels >= 0
    places = levels[active].astype(np.float64)
    frequencies = counts[active] / counts[active].sum()
    alike = np.eye(len(places))
    if ordered and len(places) > 2:
        alike = np.exp(-2.0 * np.abs(places[:, None] - places[None]) / np.ptp(places))
    means = alike @ frequencies
    centred = alike - means[:, None] - means[None] + frequencies @ means
    result = np.zeros((len(levels), len(levels)))
    result[np.ix_(active, active)] = centred / (frequencies @ np.diag(centred))
    return result


def _cubes(parts: Floats) -> Floats:
    total = np.zeros(parts.shape[1:])
    for part in parts:
        total += part * part * part
    return total


def _symmetric(first: Floats, second: Floats, third: Floats) -> list[Floats]:
    """Elementary symmetric polynomials of orders 0 to 3 from sums of powers (Newton's identities)."""
    pairs = (first * first - second) / 2
    triples = (first * first * first - 3 * first * second + 2 * third) / 6
    return [np.ones_like(first), first, pairs, triples]


def _explained(
    kernel: _ChoiceKernel,
    spectra: Sequence[tuple[tuple[float, ...], Floats, Floats]],
    figure: Floats,
    halves: NDArray[np.bool_],
) -> Explanation | None:
    mean, deviation = float(figure.mean()), float(figure.std())
    if deviation <= 1e-9 * max(abs(mean), 1e-300):
        return None
    target = (figure - mean) / deviation
    orders, noise, left_out = _fit(spectra, target)
    weights = _weights(kernel.matrix(orders), target, noise, halves)
    parts = kernel.shapley(orders, weights) * deviation
    shares = _variance_shares(parts)
    shapley = np.zeros(kernel.codes.shape)
    shapley[:, list(kernel.varying)] = parts[:, :, 0].T
    spread = np.zeros((3, kernel.codes.shape[1]))
    spread[:, list(kernel.varying)] = shares[:, 0], shares.min(axis=1), shares.max(axis=1)
    # The mean, too, is held to what it would be without the row.
    baseline = np.sum((target * len(target) / (len(target) - 1)) ** 2)
    return Explanation(
        mean=mean,
        shapley=shapley,
        shares=spread[0],
        shares_low=spread[1],
        shares_high=spread[2],
        options=_options(kernel, parts),
        left_out=left_out * deviation + mean,
        r2=float(1 - np.sum((target - left_out) ** 2) / baseline),
        interactions=float(sum(orders[1:])),
    )


def _fit(
    spectra: Sequence[tuple[tuple[float, ...], Floats, Floats]], target: Floats
) -> tuple[tuple[float, ...], float, Floats]:
    """Orders and noise of the largest marginal likelihood [Rasmussen2006, eq. 5.8], and predictions of left-out rows
    [Rasmussen2006, eq. 5.12]."""
    best = (-np.inf, spectra[0][0], 1.0, target)
    for orders, values, vectors in spectra:
        turned = vectors.T @ target
        for noise in _NOISES:
            inverse = 1 / (np.maximum(values, 0.0) + noise)
            # The scale of the process is the one that the data give, so its variance drops out.
            evidence = float(np.sum(np.log(inverse)) / 2 - len(target) / 2 * np.log(np.sum(turned**2 * inverse)))
            if evidence > best[0]:
                solved = vectors @ (turned * inverse)
                left_out = target - solved / np.einsum("ij,j,ij->i", vectors, inverse, vectors)
                best = (evidence, orders, noise, left_out)
    return best[1:]


def _weights(matrix: Floats, target: Floats, noise: float, halves: NDArray[np.bool_]) -> Floats:
    """``(n, 1 + b)`` weights of the rows: of a fit to all, then to each half."""
    columns = [np.linalg.solve(matrix + noise * np.eye(len(matrix)), target)]
    for half in halves:
        rows = np.flatnonzero(half)
        column = np.zeros(len(target))
        column[rows] = np.linalg.solve(matrix[np.ix_(rows, rows)] + noise * np.eye(len(rows)), target[rows])
        columns.append(column)
    return np.stack(columns, axis=1)


def _variance_shares(parts: Floats) -> Floats:
    """``(v, b)`` covariance of each choice's part with the whole, over the variance of the whole [Owen2014]."""
    centred = parts - parts.mean(axis=1, keepdims=True)
    whole = centred.sum(axis=0)
    variance = np.sum(whole**2, axis=0)
    return np.asarray(np.sum(centred * whole, axis=1) / np.where(variance > 0, variance, 1.0))


def _options(kernel: _ChoiceKernel, parts: Floats) -> tuple[dict[int, tuple[float, float, float]], ...]:
    found: list[dict[int, tuple[float, float, float]]] = [{} for _ in range(kernel.codes.shape[1])]
    for part, place in zip(parts, kernel.varying, strict=True):
        for code in np.unique(kernel.codes[:, place][kernel.codes[:, place] >= 0]).tolist():
            effects = part[kernel.codes[:, place] == code].mean(axis=0)
            found[place][code] = (float(effects[0]), float(effects.min()), float(effects.max()))
    return tuple(found)
