"""Ways to regress a target on encodings of architectures, each folded into look-up tables.

Responsible for the numerics of a single fit; which encoding and which way is taken is decided in
`nas.device.encoded`, by cross-validation.

Ridge regression takes the penalty with the smallest leave-one-out error. The Gaussian process has the same linear form
(its kernel is a weighted sum of the parts' inner products), and takes weights and noise by marginal likelihood
[Rasmussen2006, ch. 5]. A leaf of boosted trees of depth two [Friedman2001] depends on two options at most, hence they
are sums of tables over pairs of choices.

References:
    [Friedman2001] J. H. Friedman. Greedy function approximation: a gradient boosting machine. Annals of Statistics 29,
        2001.
    [Rasmussen2006] C. E. Rasmussen, C. K. I. Williams. Gaussian Processes for Machine Learning. MIT Press, 2006.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingRegressor

from nas.device.encoders import Encoder
from nas.device.lookup import Floats, Lookup, Term
from nas.space.moves import Population

Regressor = Callable[[Encoder, Sequence[str], Population, Floats], Lookup]

_PENALTIES = np.logspace(-6, 1, 22)
_NOISES = np.logspace(-5, 1, 19)
_RELATIVE_WEIGHTS = (0.03, 0.3)
_TREES = 400
MIN_SAMPLES_OF_TREES = 100
MAX_SAMPLES_OF_TREES = 3_000  # with more, pairs of options are well determined at a tenth of the time


class _Spectrum:
    """Centred, scaled columns of parts and their decomposition: every penalty's fit costs two products then."""

    def __init__(self, parts: Sequence[Floats], weights: Sequence[float]) -> None:
        centred, self.scales, self.means = [], [], []
        for part, weight in zip(parts, weights, strict=True):
            mean = part.mean(axis=0)
            spread = float(np.square(part - mean).sum(axis=1).mean())
            scale = np.sqrt(weight / spread) if spread > 0 else 0.0
            centred.append((part - mean) * scale)
            self.scales.append(scale)
            self.means.append(mean)
        self.matrix = np.concatenate(centred, axis=1)
        n, d = self.matrix.shape
        gram = self.matrix @ self.matrix.T if n <= d else self.matrix.T @ self.matrix
        values, vectors = np.linalg.eigh(gram)
        kept = values > max(values.max(), 0.0) * 1e-10
        self.values = values[kept]
        root = np.sqrt(self.values)
        # (n, r): orthonormal directions of the fitted values; weights are matrix.T @ left / values * ...
        self.left = vectors[:, kept] if n <= d else self.matrix @ vectors[:, kept] / root

    def lookup(self, encoder: Encoder, names: Sequence[str], target: Floats, penalty: float) -> Lookup:
        """The fit with ``penalty``, folded."""
        projected = self.left.T @ (target - target.mean())
        weights = self.matrix.T @ (self.left @ (projected / (self.values + penalty)))
        offset, start = float(target.mean()), 0
        terms: list[Term] = []
        for name, scale, mean in zip(names, self.scales, self.means, strict=True):
            own = weights[start : start + len(mean)] * scale
            start += len(mean)
            offset -= float(mean @ own)
            terms += encoder.terms(name, own)
        return Lookup.of(encoder.space, offset, terms)


def ridge(encoder: Encoder, parts: Sequence[str], population: Population, target: Floats) -> Lookup:
    """Least squares with the penalty whose leave-one-out error ``(n,)`` is smallest."""
    spectrum = _Spectrum([encoder.encode(part, population) for part in parts], [1.0] * len(parts))
    centred = target - target.mean()
    projected = spectrum.left.T @ centred
    errors = []
    penalties = _PENALTIES * len(target)
    for penalty in penalties:
        shrink = spectrum.values / (spectrum.values + penalty)
        leverage = np.square(spectrum.left) @ shrink + 1 / len(target)
        residuals = (centred - spectrum.left @ (shrink * projected)) / np.maximum(1 - leverage, 1e-6)
        errors.append(float(np.square(residuals).mean()))
    return spectrum.lookup(encoder, parts, target, float(penalties[int(np.argmin(errors))]))


def gaussian_process(encoder: Encoder, parts: Sequence[str], population: Population, target: Floats) -> Lookup:
    """The mean of a Gaussian process: weight of the second part and noise have the largest marginal likelihood."""
    encoded = [encoder.encode(part, population) for part in parts]
    centred = target - target.mean()
    best: tuple[float, _Spectrum, float] | None = None
    for weight in _RELATIVE_WEIGHTS if len(parts) > 1 else (1.0,):
        spectrum = _Spectrum(encoded, [1.0, *[weight] * (len(parts) - 1)])
        power = np.square(spectrum.left.T @ centred)
        rest = max(float(centred @ centred - power.sum()), 0.0)
        for noise in _NOISES:
            fit = float((power / (spectrum.values + noise)).sum()) + rest / noise
            flat = len(target) - 1 - len(power)
            volume = float(np.log(spectrum.values + noise).sum()) + max(flat, 0) * np.log(noise)
            evidence = -0.5 * volume - 0.5 * (len(target) - 1) * np.log(max(fit, 1e-300))
            if best is None or evidence > best[0]:
                best = (evidence, spectrum, float(noise))
    assert best is not None
    return best[1].lookup(encoder, parts, target, best[2])


def boosted_trees(encoder: Encoder, parts: Sequence[str], population: Population, target: Floats) -> Lookup:
    """Boosted trees of depth two on the options chosen. Deterministic; ``parts`` must be the one-hot encoding."""
    assert tuple(parts) == ("one-hot",)
    model = GradientBoostingRegressor(
        n_estimators=_TREES, max_depth=2, learning_rate=0.08, subsample=0.5, max_features=0.3, random_state=0
    )
    model.fit(encoder.encode("one-hot", population), target)
    place = [(column, k) for column, choice in enumerate(encoder.space.choices) for k in range(choice.num_options)]
    sizes = [choice.num_options + 1 for choice in encoder.space.choices]
    tables: dict[tuple[int, ...], Floats] = defaultdict(lambda: np.zeros(0))
    offset = float(target.mean())
    for tree in model.estimators_[:, 0]:
        for conditions, value in _leaves(tree.tree_, 0, ()):
            columns = tuple(sorted({place[feature][0] for feature, _ in conditions}))
            if not columns:
                offset += model.learning_rate * value
                continue
            if not tables[columns].size:
                tables[columns] = np.zeros([sizes[column] for column in columns])
            holds = np.ones(tables[columns].shape, dtype=bool)
            for feature, chosen in conditions:
                column, option = place[feature]
                shape = [sizes[column] if other == column else 1 for other in columns]
                holds &= ((np.arange(sizes[column]) == option) == chosen).reshape(shape)
            tables[columns][holds] += model.learning_rate * value
    return Lookup.of(encoder.space, offset, [Term(columns=key, table=table) for key, table in tables.items()])


def _leaves(
    tree: object, node: int, conditions: tuple[tuple[int, bool], ...]
) -> Iterator[tuple[tuple[tuple[int, bool], ...], float]]:
    """What must hold for a leaf (a column of the one-hot encoding, and whether it is 1), and the leaf's value."""
    left, right = int(tree.children_left[node]), int(tree.children_right[node])  # type: ignore[attr-defined]
    if left < 0:
        yield conditions, float(tree.value[node, 0, 0])  # type: ignore[attr-defined]
        return
    feature = int(tree.feature[node])  # type: ignore[attr-defined]
    yield from _leaves(tree, left, (*conditions, (feature, False)))
    yield from _leaves(tree, right, (*conditions, (feature, True)))


REGRESSORS: dict[str, Regressor] = {
    "ridge": ridge,
    "Gaussian process": gaussian_process,
    "boosted trees": boosted_trees,
}


def suits(regressor: str, encoding_parts: Sequence[str], num_samples: int) -> bool:
    """Whether a regressor can be tried: trees take options only, and enough samples to split."""
    if regressor != "boosted trees":
        return True
    enough = MIN_SAMPLES_OF_TREES <= num_samples <= MAX_SAMPLES_OF_TREES
    return enough and tuple(encoding_parts) == ("one-hot",)


def interleaved_folds(n: int, folds: int) -> list[NDArray[np.intp]]:
    """``folds`` disjoint sets of indices below ``n``, drawn the same way every time."""
    order = np.random.default_rng(0).permutation(n)
    return [np.sort(order[fold::folds]) for fold in range(folds)]
