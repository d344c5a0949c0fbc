"""Simulated latencies of chains of 22 inverted residuals with 9 operators each, on devices of several kinds.

A testbed of our own for devices that are unlike all known ones: published tables have few of these. Each kernel costs
a launch, its arithmetic at a rate that depends on kind and size, or its traffic, whichever is more; rates, bandwidths
and launches of a device are drawn around those of its kind. Some devices report coarse ticks, as phones do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Channels, blocks, stride of the stages; kernel, expansion, groups of the operators, None is a skip.
STAGES = ((16, 1, 1), (24, 4, 2), (32, 4, 2), (64, 4, 2), (112, 4, 1), (184, 4, 2), (352, 1, 1))
OPERATORS = ((3, 1, 1), (3, 1, 2), (3, 3, 1), (3, 6, 1), (5, 1, 1), (5, 1, 2), (5, 3, 1), (5, 6, 1), None)
ROWS = 5_000


@dataclass(frozen=True)
class Kernel:
    kind: str
    macs: float
    values: float
    weights: float


@dataclass(frozen=True)
class Kind:
    """Typical launch and overhead (s), rate (MAC/s), bandwidth (B/s), half-rate size (MAC), and noise of a kind."""

    launch: float
    rate: float
    bandwidth: float
    depthwise: float
    grouped: float
    half: float
    overhead: float
    noise: float


KINDS = {
    "gpu": Kind(25e-6, 5e12, 4e11, 0.11, 0.4, 3e7, 1.2e-5, 0.03),
    "cpu": Kind(2e-5, 3e11, 3e10, 0.17, 0.6, 3e6, 1e-5, 0.02),
    "phone": Kind(4e-5, 1.2e10, 6e9, 0.37, 0.7, 1e6, 2e-5, 0.04),
    "board": Kind(1e-4, 8e9, 2e9, 0.3, 0.7, 1e6, 1e-5, 0.01),
    "fpga": Kind(1e-5, 1.5e11, 1e10, 0.11, 0.6, 1e5, 0.0, 0.001),
    "asic": Kind(1e-7, 3e10, 1e9, 0.35, 0.9, 1e5, 0.0, 0.001),
}
GPUS = tuple(f"gpu{number}_{batch}" for number in range(4) for batch in (1, 32, 64))
TICKS = ("phone0", "phone1", "phone2")  # report whole ticks
SPLITS = {
    "mixed to boards": (
        ("gpu0_1", "gpu0_32", "gpu0_64", "cpu0", "cpu1", *TICKS, "phone3"),
        ("fpga0", "board0", "asic0"),
    ),
    "five to boards, phones": (
        ("gpu1_1", "phone0", "cpu0", "gpu2_1", "gpu2_32"),
        ("asic0", "fpga0", "board0", "phone1", "phone2"),
    ),
    "CPUs, phones to GPUs": (
        ("phone0", "cpu2", "cpu3", "phone3", "board0"),
        ("gpu0_1", "gpu0_32", "gpu1_32", "gpu2_1", "gpu3_1"),
    ),
    "phones, board to GPUs": (
        ("phone0", "phone4", "phone3", "board0", "phone2"),
        ("gpu0_1", "gpu0_32", "gpu1_1", "gpu2_1", "gpu2_32"),
    ),
    "many to GPU, phones": (
        ("gpu0_64", "gpu1_1", "asic0", "cpu2", "cpu3", "board0", "phone2", "cpu1", "gpu2_1", "gpu2_32"),
        ("gpu0_1", "phone4", "phone0"),
    ),
    "GPUs to CPU, phones": (GPUS, ("cpu2", "phone0", "phone2", "phone4")),
}


def table(seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Codes ``(n, 22)`` and latencies ``(n,)`` in ms by device."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, len(OPERATORS), (ROWS, sum(blocks for _, blocks, _ in STAGES)))
    latency = {}
    for name in dict.fromkeys(name for known, new in SPLITS.values() for name in (*known, *new)):
        hardware, _, batch = name.partition("_")
        kind = KINDS[hardware.rstrip("0123456789")]
        # A GPU is the same GPU at every batch size.
        costs = _costs(kind, int(batch or 1), np.random.default_rng([seed, *hardware.encode()]))
        ms = np.take_along_axis(costs, codes.T, axis=1).sum(axis=0)
        ms = (ms + 0.15 * np.median(ms)) * np.exp(kind.noise * rng.standard_normal(ROWS))
        latency[name] = np.maximum(1.0, np.round(ms * 15 / np.median(ms))) if name in TICKS else ms
    return codes, latency


def _costs(kind: Kind, batch: int, rng: np.random.Generator) -> np.ndarray:
    """Ms of each operator in each block ``(22, 9)``, on a device of a kind."""
    launch, rate, bandwidth, half = (
        typical * np.exp(spread * rng.standard_normal())
        for typical, spread in ((kind.launch, 0.5), (kind.rate, 0.4), (kind.bandwidth, 0.4), (kind.half, 0.8))
    )
    relative = {
        "pointwise": 1.0,
        "grouped": kind.grouped * np.exp(0.3 * rng.standard_normal()),
        "depthwise3": kind.depthwise * np.exp(0.45 * rng.standard_normal()),
        "depthwise5": kind.depthwise * np.exp(0.5 * rng.standard_normal()),
        "memory": 1.0,
    }

    def seconds(kernel: Kernel) -> float:
        macs = kernel.macs * batch
        busy = max(macs / (macs + half), 1e-3)
        compute = macs / (rate * relative[kernel.kind] * busy)
        return max(launch, compute, 4 * (kernel.values * batch + kernel.weights) / bandwidth) + kind.overhead

    return np.array([
        [1e3 * sum(seconds(kernel) for kernel in _kernels(*block, operator)) for operator in OPERATORS]
        for block in _blocks()
    ])  # fmt: skip


def _blocks() -> list[tuple[int, int, int, int]]:
    """Channels in and out, side of the input, stride."""
    found, before, side = [], 16, 112
    for channels, blocks, stride in STAGES:
        for number in range(blocks):
            found.append((before, channels, side, stride if number == 0 else 1))
            side //= found[-1][3]
            before = channels
    return found


def _kernels(before: int, after: int, side: int, stride: int, operator: tuple[int, int, int] | None) -> list[Kernel]:
    pixels, left = side**2, (side // stride) ** 2
    keeps = before == after and stride == 1
    if operator is None:
        values = before * pixels + after * left
        return [] if keeps else [Kernel("pointwise", before * after * left, values, before * after)]
    kernel, expansion, groups = operator
    inner, kind = before * expansion, "grouped" if groups > 1 else "pointwise"
    found = [Kernel(kind, before * inner / groups * pixels, (before + inner) * pixels, before * inner / groups)]
    if groups > 1:
        found.append(Kernel("memory", 0, 2 * inner * pixels, 0))
    found.append(Kernel(f"depthwise{kernel}", kernel**2 * inner * left, inner * (pixels + left), kernel**2 * inner))
    found.append(Kernel(kind, inner * after / groups * left, (inner + after) * left, inner * after / groups))
    return [*found, Kernel("memory", 0, 3 * after * left, 0)] if keeps else found
