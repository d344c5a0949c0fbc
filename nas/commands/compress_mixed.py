"""Files of several precisions under the user's budgets.

Responsible for the latency of each operator in each precision, which the exact solver asks for: it is taken from
profiles of the files of one precision, on the machine that runs the command.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nas.commands.compress_bench import Bench, Made, Maker
from nas.deploy.options import Precision
from nas.deploy.precision.assignment import counts
from nas.deploy.precision.budget import Budget, Fitted, Latencies, fit_budget
from nas.deploy.precision.calibration import prepare
from nas.deploy.precision.makers import make_file
from nas.deploy.profiling.labels import label_operators
from nas.deploy.profiling.profile import profile_file
from nas.deploy.profiling.records import FileProfile
from nas.deploy.quantise import host_activations, tool_errors
from nas.device.protocol import FULL
from nas.device.where.measure import measure_on
from nas.errors import UserError
from nas.units import format_quantity

_CHOICES: tuple[Precision, ...] = ("float32", "int8", "int4")
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_QUICK = replace(FULL, blocks=8)
_TRIES = 3  # files made for a latency, each under a tighter sum


@dataclass(frozen=True, kw_only=True)
class OperatorTimes:
    """Where the time of a network goes, by precision.

    Attributes:
        of_operators: operator with weights -> precision -> ms.
        rest_ms: everything else in the slowest of the files that were profiled.
    """

    of_operators: Latencies
    rest_ms: float


def mixed_maker(bench: Bench, float_file: Path) -> Maker:
    """What writes the file of mixed precision that keeps the budgets on size and latency."""

    def make(path: Path) -> Made:
        size = bench.limit("size") or float("inf")
        latency = bench.limit("latency")
        if latency is None:
            fitted = _fit(bench, float_file, path, Budget(size_bytes=size), None)
        else:
            fitted = _fit_latency(bench, float_file, path, size, latency)
        return _made(bench, float_file, fitted)

    return make


def operator_times(bench: Bench, float_file: Path) -> OperatorTimes:
    """Times of operators in float32 and in 8 bits (4 bits, where there are matrix products), profiled here.

    Raises:
        UserError: the device is elsewhere, or operators cannot be told apart in the profile.
    """
    options = replace(bench.settings.deploy, revert=0)
    images = bench.samples.calibration[: options.calibration_images]
    with tool_errors(float_file, "quantised"):
        graph = prepare(float_file).graph
    names: dict[tuple[str, str], list[str]] = {}
    for node, path in zip(graph.node, label_operators(graph), strict=True):
        if node.op_type in _WEIGHTED:
            names.setdefault(("/".join(path), node.op_type), []).append(node.name)
    times: dict[str, dict[Precision, float]] = {name: {} for group in names.values() for name in group}
    rest = 0.0
    for precision in _CHOICES:
        file = bench.scratch / f"profiled.{precision}.onnx"
        try:
            make_file(precision, float_file, file, images, options)
        except UserError:
            continue  # no operator of this network can have it
        profile = profile_file(file, bench.device, protocol=_QUICK)
        rest = max(rest, _assigned(profile, names, times, precision))
    if not any(times.values()):
        problem = "cannot be divided among operators, the profile does not tell them apart"
        raise UserError("budget.latency", problem, "give budget.size")
    return OperatorTimes(of_operators=times, rest_ms=rest)


def _assigned(
    profile: FileProfile,
    names: Mapping[tuple[str, str], list[str]],
    times: dict[str, dict[Precision, float]],
    precision: Precision,
) -> float:
    """Adds the times of a profile to their operators, in equal parts where several look alike; gives what is left."""
    rest = 0.0
    for kernel in profile.operators:
        found = [names[kernel.layer, kind] for kind in kernel.computes if (kernel.layer, kind) in names]
        if not found:
            rest += kernel.time_ms
            continue
        for name in found[0]:
            times[name][precision] = times[name].get(precision, 0.0) + kernel.time_ms / len(found[0])
    return rest


def _fit(bench: Bench, float_file: Path, path: Path, budget: Budget, times: OperatorTimes | None) -> Fitted:
    options = bench.settings.deploy
    images = bench.samples.calibration[: options.calibration_images]
    latencies = None if times is None else times.of_operators
    return fit_budget(float_file, path, images, options, budget=budget, precisions=_CHOICES, latencies=latencies)


def _fit_latency(bench: Bench, float_file: Path, path: Path, size: float, latency: float) -> Fitted:
    """The file whose measured latency keeps the budget: sums of operators are only near it, so it is tried again."""
    times = operator_times(bench, float_file)
    left = latency - times.rest_ms
    for number in range(_TRIES):
        if left <= 0:
            least = format_quantity(times.rest_ms, "time")
            raise UserError("budget.latency", f"cannot be met, {least} go elsewhere than into weights", "relax it")
        fitted = _fit(bench, float_file, path, Budget(size_bytes=size, latency_ms=left), times)
        excess = measure_on(bench.device, [path], protocol=_QUICK)[0].latency_ms - latency
        if excess <= 0 or number == _TRIES - 1:
            break
        left = min(left, fitted.latency_ms) - 1.2 * excess
    return fitted


def _made(bench: Bench, float_file: Path, fitted: Fitted) -> Made:
    with tool_errors(float_file, "quantised"):
        num_operators = len(prepare(float_file).graph.node)
    found = counts(fitted.assignment, num_operators)
    if not fitted.assignment:
        raise UserError("budget", "is kept by the float32 file, nothing has to be mixed")
    options = bench.settings.deploy
    signed = (options.activations or host_activations()) == "signed"
    eight = "int8, symmetric, a scale a tensor" if signed else "uint8, a scale a tensor"
    weights = {"int8": "int8, symmetric, a scale an output channel", "int4": "int4, symmetric, a scale a block"}
    record: dict[str, object] = {
        "form": "QDQ",
        "weights": "; ".join(text for name, text in weights.items() if name in found) or "float32",
        "activations": eight if "int8" in found else "float32",
        "method": None if options.method == "auto" else options.method,
        "num_calibration_samples": min(options.calibration_images, len(bench.samples.calibration)),
        "calibration_split": "train",
        "calibration_sha256": None,
        "operators": found,
    }
    record |= {"reverted": list(fitted.reverted)} if fitted.reverted else {}
    record |= {"block": options.int4_block} if "int4" in found else {}
    listed = ", ".join(f"{count} operators in {name}" for name, count in found.items())
    agreed = "" if np.isnan(fitted.agreement) else f", same class for {fitted.agreement:.1%} of calibration images"
    return Made(
        quantisation=record,
        precision="int4" if "int4" in found else "int8",
        text=f"{listed}{agreed}",
    )
