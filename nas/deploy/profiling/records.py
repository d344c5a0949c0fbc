"""What a profile says.

Responsible for the value types that profiling yields, for their sums by stage and by family, and for their plain JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nas.device.protocol import Measurement

Mapped = Literal["name", "tensor", "neighbour", "none"]
Family = Literal[
    "conv", "pointwise", "depthwise", "grouped", "linear", "pool", "elementwise", "normalisation", "convert", "other"
]
Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class OperatorProfile:
    """One kernel call of the runtime.

    Attributes:
        kind: the runtime's operator, e.g. ``QLinearConv``.
        family: what it does; ``convert`` is layout, type and quantisation.
        computes: operators of the file that it computes, e.g. ``("Conv", "HardSwish")``; empty for a conversion that
            only the runtime knows.
        stage: of the network that it belongs to; "" where that is not known.
        layer: path of the module within the network, ``s1_inverted_residual/expand/conv``; "" where not known.
        mapped: how the layer was found: by the operator's own name, by the name of the tensor that it makes, from the
            operators around it, or not at all.
        recorded_us: time in the profiler's record with what recording costs, mean over the faster half of the runs.
        share: of the file's time, in [0, 1]; see `FileProfile.gauge_us`.
        time_ms: ``share`` of the unprofiled latency.
        in_shape, out_shape: of its first input and output as they are when it runs: with padded channels in a blocked
            layout, channels last in INT8.
        dtype: element type of the output.
        activation_bytes, parameter_bytes, output_bytes: of all tensors that it reads and writes, once each.
        macs: multiply-accumulates of the file's operators that it computes, without padding; None where unknown.
    """

    kind: str
    family: Family
    computes: tuple[str, ...]
    stage: str
    layer: str
    mapped: Mapped
    recorded_us: float
    share: float
    time_ms: float
    in_shape: Shape
    out_shape: Shape
    dtype: str
    activation_bytes: int
    parameter_bytes: int
    output_bytes: int
    macs: int | None

    @property
    def total_bytes(self) -> int:
        """What it reads and writes: logical traffic, of which caches may serve any part."""
        return self.activation_bytes + self.parameter_bytes + self.output_bytes

    @property
    def bytes_per_second(self) -> float:
        """Effective bandwidth."""
        return self.total_bytes / (self.time_ms / 1e3)

    @property
    def macs_per_second(self) -> float | None:
        """None where the multiply-accumulates are not known."""
        return None if self.macs is None else self.macs / (self.time_ms / 1e3)

    def to_record(self) -> dict[str, object]:
        """As plain JSON."""
        return {
            "kind": self.kind,
            "family": self.family,
            "computes": list(self.computes),
            "stage": self.stage,
            "layer": self.layer,
            "mapped": self.mapped,
            "share": self.share,
            "time_ms": self.time_ms,
            "recorded_us": self.recorded_us,
            "in_shape": list(self.in_shape),
            "out_shape": list(self.out_shape),
            "dtype": self.dtype,
            "activation_bytes": self.activation_bytes,
            "parameter_bytes": self.parameter_bytes,
            "output_bytes": self.output_bytes,
            "macs": self.macs,
            "bytes_per_second": self.bytes_per_second,
            "macs_per_second": self.macs_per_second,
        }


@dataclass(frozen=True, kw_only=True)
class Part:
    """Operators taken together.

    Attributes:
        name: of the stage or family.
        num_operators: how many kernels.
        share, time_ms, macs, total_bytes: their sums; operators of unknown MACs count none.
    """

    name: str
    num_operators: int
    share: float
    time_ms: float
    macs: int
    total_bytes: int

    def to_record(self) -> dict[str, object]:
        """As plain JSON."""
        return {
            "name": self.name,
            "num_operators": self.num_operators,
            "share": self.share,
            "time_ms": self.time_ms,
            "macs": self.macs,
            "total_bytes": self.total_bytes,
        }


@dataclass(frozen=True, kw_only=True)
class FileProfile:
    """Where the time of a file goes on a device.

    Attributes:
        file: that was profiled.
        device: its name.
        threads, batch: that it ran with.
        latency: of the file itself, without profiler, by the timing protocol.
        profiled_ms: of a run under the profiler, mean over the faster half.
        runs: recorded runs that the means are over.
        gauge_us: what the profiler records for an operator that does next to nothing. It is taken off every operator's
            record before shares are formed, because it is the price of recording and not of computing.
        operators: in the order in which they ran.
    """

    file: Path
    device: str
    threads: int
    batch: int
    latency: Measurement
    profiled_ms: float
    runs: int
    gauge_us: float
    operators: tuple[OperatorProfile, ...]

    @property
    def recorded_ms(self) -> float:
        """Sum of the operators' times as they were recorded."""
        return sum(operator.recorded_us for operator in self.operators) / 1e3

    @property
    def inflation(self) -> float:
        """How many times longer a run takes under the profiler."""
        return self.profiled_ms / self.latency.latency_ms

    @property
    def macs(self) -> int:
        """Of all operators whose MACs are known."""
        return sum(operator.macs or 0 for operator in self.operators)

    def mapped_share(self, *ways: Mapped) -> float:
        """Share of the time in operators whose layer was found in one of ``ways``; in any, where none is given."""
        wanted = ways or ("name", "tensor", "neighbour")
        return sum(operator.share for operator in self.operators if operator.mapped in wanted)

    def stages(self) -> tuple[Part, ...]:
        """Sums by stage, in the order in which stages begin; conversions, which may run early, begin none."""
        working = [operator for operator in self.operators if operator.family != "convert"]
        order = list(dict.fromkeys(operator.stage for operator in (*working, *self.operators)))
        return tuple(sorted(_parts(self.operators, lambda operator: operator.stage), key=lambda p: order.index(p.name)))

    def families(self) -> tuple[Part, ...]:
        """Sums by family, the longest first."""
        parts = _parts(self.operators, lambda operator: operator.family)
        return tuple(sorted(parts, key=lambda part: -part.time_ms))

    def to_record(self) -> dict[str, object]:
        """As plain JSON; the file by its name only."""
        return {
            "file": self.file.name,
            "device": self.device,
            "threads": self.threads,
            "batch": self.batch,
            "latency": self.latency.to_record(),
            "profiled_ms": self.profiled_ms,
            "recorded_ms": self.recorded_ms,
            "inflation": self.inflation,
            "runs": self.runs,
            "gauge_us": self.gauge_us,
            "macs": self.macs,
            "mapped_share": self.mapped_share(),
            "mapped_by_name_share": self.mapped_share("name", "tensor"),
            "stages": [part.to_record() for part in self.stages()],
            "families": [part.to_record() for part in self.families()],
            "operators": [operator.to_record() for operator in self.operators],
        }


def _parts(operators: Sequence[OperatorProfile], key: Callable[[OperatorProfile], str]) -> tuple[Part, ...]:
    groups: dict[str, list[OperatorProfile]] = {}
    for operator in operators:
        groups.setdefault(key(operator), []).append(operator)
    return tuple(
        Part(
            name=name,
            num_operators=len(group),
            share=sum(operator.share for operator in group),
            time_ms=sum(operator.time_ms for operator in group),
            macs=sum(operator.macs or 0 for operator in group),
            total_bytes=sum(operator.total_bytes for operator in group),
        )
        for name, group in groups.items()
    )
