"""Which formula fits, how large its errors are, and how good the whole procedure is.

Responsible for cross-validation: nothing is chosen by hand and nothing is judged on what it was fitted on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.device.bound import bound_factor
from nas.device.formula import FITS, Floats, Formula, Samples
from nas.device.quality import Quality, judge

FOLDS = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Selected:
    """The formula that cross-validation chose.

    Attributes:
        fit: its name in `FITS`.
        formula: fitted on all samples.
        log_residuals: ``(r,)``, logarithm of measured over predicted for each sample drawn at random, predicted by
            the same fit without that sample.
    """

    fit: str
    formula: Formula
    log_residuals: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Validated:
    """Cross-validated predictions of the samples drawn at random, in their order.

    Attributes:
        predicted_ms, upper_ms: ``(r,)``; choice of the formula, fit and bound knew nothing of the sample's fold.
        quality: figures of these.
    """

    predicted_ms: Floats
    upper_ms: Floats
    quality: Quality


def select(samples: Samples, random: NDArray[np.bool_]) -> Selected:
    """The fit with the smallest leave-one-out error (mean absolute logarithm) on samples drawn at random.

    Args:
        samples: all that was measured; each fit uses all but one.
        random: ``(n,)``, which were drawn at random. Designed samples lie at the space's edges: they help the fit, but
            errors on them are not errors on what a search will meet.
    """
    drawn = np.flatnonzero(random)
    residuals = {name: _left_out_residuals(samples, name, drawn) for name in FITS}
    best = min(FITS, key=lambda name: float(np.abs(residuals[name]).mean()))
    return Selected(fit=best, formula=FITS[best](samples), log_residuals=residuals[best])


def validate(samples: Samples, random: NDArray[np.bool_], *, confidence: float) -> Validated:
    """The whole procedure, `select` and bound, done anew for each of `FOLDS` folds of the random samples.

    It is a little pessimistic: each fold is predicted from fewer samples than the predictor that is kept.
    """
    drawn = np.flatnonzero(random)
    predicted, upper = np.zeros(len(drawn)), np.zeros(len(drawn))
    fewest = len(samples)
    for fold in range(FOLDS):
        held_out = np.arange(fold, len(drawn), FOLDS)
        kept = np.setdiff1d(np.arange(len(samples)), drawn[held_out])
        selected = select(samples.rows(kept), random[kept])
        test = samples.rows(drawn[held_out])
        predicted[held_out] = selected.formula.apply(test.features, test.one_hot)
        upper[held_out] = predicted[held_out] * bound_factor(selected.log_residuals, confidence)
        fewest = min(fewest, len(kept))
    measured = samples.latency_ms[drawn]
    quality = judge(measured, predicted, upper, confidence=confidence, num_train=fewest, cross_validated=True)
    return Validated(predicted_ms=predicted, upper_ms=upper, quality=quality)


def _left_out_residuals(samples: Samples, name: str, drawn: NDArray[np.intp]) -> Floats:
    """``(r,)``: logarithm of measured over predicted of each random sample, by a fit on all others."""
    everything = np.arange(len(samples))
    residuals = np.zeros(len(drawn))
    for place, index in enumerate(drawn):
        formula = FITS[name](samples.rows(np.delete(everything, index)))
        alone = samples.rows(everything[index : index + 1])
        residuals[place] = np.log(alone.latency_ms / formula.apply(alone.features, alone.one_hot))[0]
    return residuals
