"""Files of several precisions that keep to a size or to a latency.

Responsible for what an operator costs in each precision, for the file of the precisions that the exact solver allots,
and for trying again where the file came out larger than its parts had said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nas.deploy.options import DeployOptions, Precision
from nas.deploy.precision.allocation import Option, allocate
from nas.deploy.precision.assignment import Assignment, Wish, assign, follow
from nas.deploy.precision.calibration import check_images
from nas.deploy.precision.gate import hold_agreement
from nas.deploy.precision.makers import calibrated_network
from nas.deploy.precision.sensitivity import Network, weight_counts
from nas.errors import UserError

_NOISE_IMAGES = 64
_TRIES = 6
_FLOAT_BYTES = 4.0
_BYTES: Mapping[Precision, float] = {"float32": 4.0, "int8": 1.0}
Latencies = Mapping[str, Mapping[Precision, float]]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a file must keep to.

    Attributes:
        size_bytes: of the file.
        latency_ms: sum of the latencies of its operators.
    """

    size_bytes: float = math.inf
    latency_ms: float = math.inf


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A file that was made to a budget.

    Attributes:
        assignment: operator -> precision; the others are in float32.
        reverted: operators that have more bits than the solver allotted, as the file would not have agreed.
        agreement: with the float file, on the calibration images.
        size_bytes: of the file.
        latency_ms: sum over operators as it was told; 0 where no latencies were.
        loss: sum of noise over signal.
    """

    assignment: Assignment
    reverted: tuple[str, ...]
    agreement: float
    size_bytes: int
    latency_ms: float
    loss: float


def fit_budget(
    float32_file: Path,
    path: Path,
    calibration: np.ndarray,
    options: DeployOptions,
    *,
    budget: Budget,
    precisions: Sequence[Precision] = ("float32", "int8", "int4"),
    latencies: Latencies | None = None,
) -> Fitted:
    """Writes the file with the least noise that keeps to a budget.

    The noise of an operator in a precision is measured for all at once; operators with constant weights are chosen
    for, the others go to 8 bits with what they read. Where the file agrees too rarely with the float file, operators go
    back as long as the file keeps to the budget (``options.revert``).

    Args:
        float32_file: of `nas.deploy.export`.
        path: of the new file; replaced in one step.
        calibration: ``(n, c, h, w)`` float32.
        options: sign, method, blocks, gate.
        budget: for the file.
        precisions: to choose from.
        latencies: operator -> precision -> ms, e.g. of a device's kernel model; needed for a budget on latency;
            what is not named counts as 0.

    Raises:
        UserError: the budget cannot be met (says what the least is), or as `nas.deploy.precision.makers.make_file`.
    """
    if math.isfinite(budget.latency_ms) and not latencies:
        raise UserError("budget.latency", "needs the latency of operators, got none", "give a budget on size")
    check_images(float32_file, calibration)
    network = calibrated_network(float32_file, calibration, options)
    table = _Table.of(network, calibration[:_NOISE_IMAGES], precisions, latencies or {})
    left = budget.size_bytes - table.graph_bytes
    for _ in range(_TRIES):
        found = allocate(table.options, max_size_bytes=max(left, 0.0), max_latency_ms=budget.latency_ms)
        assignment = table.assignment(found.chosen)
        network.write(assignment, path)
        excess = path.stat().st_size - budget.size_bytes
        if excess <= 0:
            break
        left = min(left, found.size_bytes) - excess
    else:
        path.unlink()
        raise UserError("budget.size", f"cannot be met, got {budget.size_bytes:.4g} bytes", "relax it")
    held = hold_agreement(network, assignment, calibration, min_agreement=options.min_agreement, most=options.revert)
    reverted: tuple[str, ...] = ()
    if held.reverted:
        draft = path.with_name(f".{path.name}.reverted")
        network.write(held.assignment, draft)
        latency = table.latency(held.assignment)
        if draft.stat().st_size <= budget.size_bytes and latency <= budget.latency_ms:
            draft.replace(path)
            assignment, reverted = dict(held.assignment), held.reverted
        draft.unlink(missing_ok=True)
        held = replace(held, agreement=held.agreement if reverted else float("nan"))
    return Fitted(
        assignment=assignment,
        reverted=reverted,
        agreement=held.agreement,
        size_bytes=path.stat().st_size,
        latency_ms=table.latency(assignment),
        loss=found.loss,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Table:
    """What each operator with weights costs in each precision.

    Attributes:
        network: in float.
        operators: with weights, in the order of the graph.
        options: of each of them.
        graph_bytes: of a file, beside weights: that of the INT8 file, the larger one.
        latencies: operator -> precision -> ms.
    """

    network: Network
    operators: tuple[str, ...]
    options: tuple[tuple[Option, ...], ...]
    graph_bytes: float
    latencies: Latencies

    @classmethod
    def of(cls, network: Network, images: np.ndarray, precisions: Sequence[Precision], latencies: Latencies) -> _Table:
        wished = {name: assign(network.prepared, Wish(precision=name)) for name in precisions if name != "float32"}
        losses: dict[Precision, dict[str, float]] = {
            name: {noise.operator: noise.share for noise in network.noise(given, images)}
            for name, given in wished.items()
        }
        weights = {name: count for name, count in weight_counts(network.prepared).items() if count}
        weighted = assign(network.prepared, Wish(precision="int8-dynamic"))
        operators = tuple(name for name in weighted if name in weights)
        options = tuple(
            tuple(
                Option(
                    precision=precision,
                    loss=losses.get(precision, {}).get(name, 0.0),
                    size_bytes=_bytes(precision, network.block) * weights[name],
                    latency_ms=latencies.get(name, {}).get(precision, 0.0),
                )
                for precision in precisions
                if precision == "float32" or wished[precision].get(name) == precision
            )
            for name in operators
        )
        return cls(
            network=network,
            operators=operators,
            options=options,
            graph_bytes=max(0.0, network.path.stat().st_size - _FLOAT_BYTES * sum(weights[name] for name in operators)),
            latencies=latencies,
        )

    def assignment(self, chosen: Sequence[int]) -> dict[str, Precision]:
        own = {
            name: options[index].precision
            for name, options, index in zip(self.operators, self.options, chosen, strict=True)
        }
        given: dict[str, Precision] = {name: precision for name, precision in own.items() if precision != "float32"}
        return follow(self.network.prepared, given)

    def latency(self, assignment: Assignment) -> float:
        return sum(self.latencies.get(name, {}).get(assignment.get(name, "float32"), 0.0) for name in self.operators)


def _bytes(precision: Precision, block: int) -> float:
    return 0.5 + _FLOAT_BYTES / block if precision == "int4" else _BYTES[precision]
