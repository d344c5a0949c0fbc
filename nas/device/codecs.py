"""What each kind of predictor puts into its file, and how it is made of that again.

Responsible for the kinds: a record (plain JSON) and arrays of each. The file around them is `nas.device.store`'s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.device.encoded import EncodedPredictor, Regression
from nas.device.formula import Formula
from nas.device.lookup import Lookup, Term
from nas.device.operators_predictor import OperatorsPredictor, decode_operators, encode_operators
from nas.device.predictor import Calibration, CostPredictor, Scope
from nas.device.quality import Quality
from nas.device.transfer import TransferPredictor
from nas.model.population_costs import PopulationCosts

Arrays = Mapping[str, NDArray[Any]]
Record = Mapping[str, Any]
StoredPredictor = CostPredictor | EncodedPredictor | TransferPredictor | OperatorsPredictor


@dataclass(frozen=True, kw_only=True)
class Codec:
    """A kind of predictor.

    Attributes:
        predictor: its type.
        arrays: names of those that its file must have.
        encode: predictor -> what it adds to the record, and its arrays.
        needs: costs -> entries of the record that must be as they are here.
        decode: the inverse of ``encode``, with what all kinds have in common.
    """

    predictor: type
    arrays: tuple[str, ...]
    encode: Callable[[Any], tuple[dict[str, Any], dict[str, NDArray[Any]]]]
    needs: Callable[[PopulationCosts | None], dict[str, object]]
    decode: Callable[[Record, Arrays, Scope, Any, Quality, Calibration], StoredPredictor]


def kind_of(predictor: StoredPredictor) -> str:
    """The name in `CODECS` of a predictor's kind."""
    return next(kind for kind, codec in CODECS.items() if isinstance(predictor, codec.predictor))


def _encode_cost(predictor: CostPredictor) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    formula = predictor.formula
    record = {
        **_features(predictor.costs),
        "method": predictor.fit,
        "log_offset": formula.log_offset,
        "floor_ms": formula.floor_ms,
    }
    return record, {
        "weights": formula.weights,
        "log_factors": formula.log_factors,
        "log_residuals": predictor.log_residuals,
    }


def _decode_cost(
    record: Record, arrays: Arrays, scope: Scope, costs: PopulationCosts, quality: Quality, calibration: Calibration
) -> CostPredictor:
    return CostPredictor(
        scope=scope,
        costs=costs,
        fit=str(record["method"]),
        formula=Formula(
            weights=arrays["weights"],
            log_factors=arrays["log_factors"],
            log_offset=float(record["log_offset"]),
            floor_ms=float(record["floor_ms"]),
        ),
        log_residuals=arrays["log_residuals"],
        quality=quality,
        calibration=calibration,
    )


def _features(costs: PopulationCosts | None) -> dict[str, object]:
    """Which features the weights belong to; None where there are no costs, which fits no file."""
    if costs is None:
        return {"features": None}
    return {"features": hashlib.sha256("\n".join(costs.feature_names).encode()).hexdigest()[:16]}


def _encode_encoded(predictor: EncodedPredictor) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    regression = predictor.regression
    record, arrays = _encode_lookup(regression.lookup)
    record |= {"method": regression.method, "scale": regression.scale, "floor_ms": regression.floor_ms}
    return record, {**arrays, "log_residuals": regression.log_residuals}


def _decode_encoded(
    record: Record, arrays: Arrays, scope: Scope, costs: object, quality: Quality, calibration: Calibration
) -> EncodedPredictor:
    regression = Regression(
        method=str(record["method"]),
        scale=str(record["scale"]),
        lookup=_decode_lookup(record, arrays, scope),
        floor_ms=float(record["floor_ms"]),
        log_residuals=arrays["log_residuals"],
    )
    return EncodedPredictor(scope=scope, regression=regression, quality=quality, calibration=calibration)


def _encode_transfer(predictor: TransferPredictor) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    record, arrays = _encode_lookup(predictor.lookup)
    record |= {
        "method": f"transfer from {', '.join(predictor.sources)}",
        "sources": list(predictor.sources),
        "floor_ms": predictor.floor_ms,
        "deviation_ms": predictor.deviation_ms,
        "typical_ms": predictor.typical_ms,
    }
    return record, {**arrays, "residuals": predictor.residuals}


def _decode_transfer(
    record: Record, arrays: Arrays, scope: Scope, costs: object, quality: Quality, calibration: Calibration
) -> TransferPredictor:
    return TransferPredictor(
        scope=scope,
        sources=tuple(record["sources"]),
        lookup=_decode_lookup(record, arrays, scope),
        floor_ms=float(record["floor_ms"]),
        residuals=arrays["residuals"],
        deviation_ms=float(record["deviation_ms"]),
        typical_ms=float(record["typical_ms"]),
        quality=quality,
        calibration=calibration,
    )


def _encode_lookup(lookup: Lookup) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Terms end to end in one array; their columns are in the record."""
    tables = [term.table.ravel() for term in lookup.terms]
    record = {"offset": lookup.offset, "terms": [list(term.columns) for term in lookup.terms]}
    return record, {"tables": np.concatenate([np.zeros(0), *tables])}


def _decode_lookup(record: Record, arrays: Arrays, scope: Scope) -> Lookup:
    widths = tuple(choice.num_options for choice in scope.space.choices)
    terms, start = [], 0
    for columns in record["terms"]:
        shape = tuple(widths[column] + 1 for column in columns)
        size = int(np.prod(shape))
        terms.append(Term(columns=tuple(columns), table=arrays["tables"][start : start + size].reshape(shape)))
        start += size
    return Lookup(widths=widths, offset=float(record["offset"]), terms=tuple(terms))


def _nothing(costs: PopulationCosts | None) -> dict[str, object]:
    return {}


CODECS: dict[str, Codec] = {
    "cost": Codec(
        predictor=CostPredictor,
        arrays=("weights", "log_factors", "log_residuals"),
        encode=_encode_cost,
        needs=_features,
        decode=_decode_cost,
    ),
    "encoded": Codec(
        predictor=EncodedPredictor,
        arrays=("tables", "log_residuals"),
        encode=_encode_encoded,
        needs=_nothing,
        decode=_decode_encoded,
    ),
    "transfer": Codec(
        predictor=TransferPredictor,
        arrays=("tables", "residuals"),
        encode=_encode_transfer,
        needs=_nothing,
        decode=_decode_transfer,
    ),
    "operators": Codec(
        predictor=OperatorsPredictor,
        arrays=("rates", "log_residuals"),
        encode=encode_operators,
        needs=_features,
        decode=decode_operators,
    ),
}
