"""Layouts and work of kernels against graphs that onnxruntime makes, and against counting by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nas.deploy.export import export_onnx
from nas.model.fusion import Kernel, fuse
from nas.model.layer_table import LayerRow
from nas.model.layouts import BLOCK, is_blocked, reads_plain, reordered_values
from nas.model.operators.layers import ConvNorm, SqueezeExcite
from nas.model.operators.residual import BasicBlock, InvertedResidual
from nas.model.passes import gathered, padded_macs, work_of
from nas.model.trace import trace


def head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]


def basic(channels: int) -> nn.Module:
    return BasicBlock(channels=channels).build((channels, 8, 8), 10)


def inverted(channels: int) -> nn.Module:
    return InvertedResidual(channels=channels, expansion=4, squeeze_excite=True).build((channels, 8, 8), 10)


CHAINS: dict[str, list[nn.Module]] = {
    "wide": [ConvNorm(3, 32, kernel=3, activation="relu"), ConvNorm(32, 48, kernel=1), *head(48)],
    "narrow": [ConvNorm(3, 8, kernel=3, activation="relu"), ConvNorm(8, 12, kernel=3), *head(12)],
    "depthwise": [ConvNorm(3, 24, kernel=3), ConvNorm(24, 24, kernel=5, groups=24), *head(24)],
    "odd width": [ConvNorm(3, 18, kernel=3), ConvNorm(18, 18, kernel=3), ConvNorm(18, 18, kernel=3), *head(18)],
    "few groups": [ConvNorm(3, 32, kernel=3), ConvNorm(32, 32, kernel=3, groups=2), *head(32)],
    "many groups": [ConvNorm(3, 32, kernel=3), ConvNorm(32, 32, kernel=3, groups=8), *head(32)],
    "pooling of whole blocks": [ConvNorm(3, 16, kernel=3), nn.MaxPool2d(2), ConvNorm(16, 16, kernel=3), *head(16)],
    "pooling of parts": [ConvNorm(3, 24, kernel=3), nn.MaxPool2d(2), ConvNorm(24, 16, kernel=3), *head(16)],
    "sum": [ConvNorm(3, 16, kernel=3), basic(16), *head(16)],
    "narrow sum": [ConvNorm(3, 8, kernel=3), basic(8), *head(8)],
    "gates": [ConvNorm(3, 16, kernel=3), SqueezeExcite(16), ConvNorm(16, 16, kernel=1), *head(16)],
    "inverted residual": [ConvNorm(3, 12, kernel=3), inverted(12), *head(12)],
}


@pytest.mark.parametrize("name", CHAINS)
def test_changes_of_layout_are_those_of_onnxruntime(name: str, tmp_path: Path) -> None:
    module = nn.Sequential(*CHAINS[name])
    file, optimised = tmp_path / "m.onnx", tmp_path / "o.onnx"
    export_onnx(module, (3, 16, 16), file)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(optimised)
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(optimised).graph.node
    convolutions = [node for node in nodes if node.op_type in ("Conv", "FusedConv")]
    weights = {entry.name: entry.dims for entry in onnx.load(optimised).graph.initializer}
    if not any("nchwc" in node.domain for node in nodes) or weights[convolutions[0].input[1]][0] % BLOCK:
        pytest.skip(f"this processor has no blocks of {BLOCK} channels")
    table = trace(module, (3, 16, 16))
    kernels, _ = fuse(table)
    expected = sum(
        is_blocked(kernel) for kernel in kernels if kernel.row.kind in ("conv", "pointwise", "depthwise", "grouped")
    )
    assert sum("nchwc" in node.domain for node in convolutions) == expected
    assert sum(node.op_type.startswith("Reorder") for node in nodes) == len(reordered_values(table, kernels))


def kernel_of(kind: str, in_shape: tuple[int, ...], channels: int, window: int, *, stride: int = 1) -> Kernel:
    sizes = [(size + 2 * (window // 2) - window) // stride + 1 for size in in_shape[1:]]
    groups = in_shape[0] if kind == "depthwise" else 1
    row = LayerRow(
        kind=kind,
        in_shape=in_shape,
        out_shape=(channels, *sizes),
        kernel=(window, window),
        stride=(stride, stride),
        groups=groups,
    )
    return Kernel(row=row, inputs=(-1,), output=0, stored=0)


def test_the_work_of_a_blocked_convolution_is_what_its_loops_do() -> None:
    # 64 channels are one set of four blocks; a row of 8 pixels is 1 + 6 + 1, in 22 rows of taps and 32 channels.
    work = work_of(kernel_of("conv", (32, 8, 8), 64, 3))
    assert work.steps == 22 * 32 * (2 * 2 * 4 + 3 * 24)
    assert work.loads == 22 * 32 * (2 * 2 + 3) * 4
    assert work.calls == 8 * 2


def test_the_work_of_a_1x1_convolution_goes_through_the_whole_map_at_once() -> None:
    # 64 pixels are 10 times 6 and 2 times 2; 80 channels a set of four blocks and one of one.
    work = work_of(kernel_of("pointwise", (160, 8, 8), 80, 1))
    assert work.steps == 160 * ((10 * 24 + 2 * 8) + (10 * 6 + 2 * 4))
    assert work.loads == 160 * 12 * 5
    assert work.calls == 2 * 2


def test_the_work_of_a_depthwise_convolution_counts_blocks_once() -> None:
    work = work_of(kernel_of("depthwise", (24, 4, 4), 24, 3))
    # A row is 1 + 2 + 1 pixels with 2, 3 and 2 taps, in 10 rows of taps, for two blocks; a step waits for three more.
    assert work.steps == 10 * 2 * (2 + 3 + 2) * 4
    assert work.calls == 4 * 2


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["conv", "pointwise", "depthwise"]),
    blocks=st.integers(1, 9),
    size=st.integers(1, 20),
    window=st.sampled_from([1, 3, 5, 7]),
    stride=st.integers(1, 3),
    out=st.integers(1, 100),
)
def test_steps_are_never_fewer_than_the_multiply_adds_that_must_be_done(
    kind: str, blocks: int, size: int, window: int, stride: int, out: int
) -> None:
    channels = BLOCK * blocks
    window = 1 if kind == "pointwise" else window
    kernel = kernel_of(kind, (channels, size, size), channels if kind == "depthwise" else out, window, stride=stride)
    work = work_of(kernel)
    assert not reads_plain(kernel)
    assert work.steps >= padded_macs(kernel) / BLOCK * (1 - 1e-12)
    assert work.steps <= 4 * padded_macs(kernel) / BLOCK * (1 + 1e-12)
    assert 0 < work.loads <= work.steps
    assert work.calls >= 1
    assert gathered(kernel) >= np.prod(kernel.row.out_shape[1:]) * channels
