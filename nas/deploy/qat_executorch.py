"""Networks that were trained with rounding -> ExecuTorch programs (XNNPACK), with the scales of the training.

Responsible for the form in which torch's own quantisation flow (pt2e) leaves a converted network: integer weights, and
``quantized_decomposed`` operators around what is computed in 8 bits. Back ends of ExecuTorch find their kernels by it,
so the same training ends in an ONNX file (`nas.deploy.qat`) and in a program for phones.
"""

from __future__ import annotations

import copy
import importlib
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from nas.deploy.quiet import quiet_tools
from nas.errors import UserError, first_line
from nas.train.compression.fake_quantise import (
    GRIDS,
    FakeQuantise,
    QuantisedLayer,
    apply_layer,
    quantised_weight,
    weight_scale,
)

_TARGET = "target executorch"
_INSTALL = "pip install 'executorch>=1.5,<2'"


def integer_module(module: nn.Module) -> nn.Module:
    """A copy in pt2e's converted form, in evaluation mode, for `torch.export.export`.

    Args:
        module: of `nas.train.compression.qat.prepare_qat` with signed activations; not changed.

    Raises:
        UserError: a module without rounding, or with unsigned activations, for which XNNPACK has no kernels.
    """
    profiles = {part.profile for part in module.modules() if isinstance(part, FakeQuantise)}
    if profiles != {"signed"}:
        got = f"{', '.join(sorted(profiles))} ones" if profiles else "no rounding at all"
        problem = f"must have been trained with signed activations, got {got}"
        raise UserError(_TARGET, problem, "prepare it with profile='signed'")
    # Defines the operators; torch moves it to another package some day.
    importlib.import_module("torch.ao.quantization.fx._decomposed")
    fixed = copy.deepcopy(module).cpu().eval()
    assert isinstance(fixed, fx.GraphModule)
    for node in list(fixed.graph.nodes):
        part = fixed.get_submodule(node.target) if node.op == "call_module" else None
        if isinstance(part, FakeQuantise):
            _round_for_each_reader(fixed.graph, node, part)
        elif isinstance(part, QuantisedLayer):
            # XNNPACK has no kernel that reads integers and writes the scores in float: the last layer keeps its rounded
            # weight in float.
            scores = any(user.op == "output" for user in node.users)
            parent, _, last = str(node.target).rpartition(".")
            setattr(fixed.get_submodule(parent), last, _FloatLayer(part) if scores else _IntegerLayer(part))
    fixed.delete_all_unused_submodules()
    fixed.recompile()
    return fixed


def write_qat_pte(module: nn.Module, input_shape: tuple[int, int, int], path: Path) -> None:
    """Writes the ExecuTorch program of a network that was trained with rounding, for XNNPACK and a batch of one.

    Args:
        module: of `prepare_qat`, signed; not changed.
        input_shape: channels, height and width of what it takes.
        path: of the ``.pte``; replaced in one step.

    Raises:
        UserError: ExecuTorch is not installed, see `integer_module`, or it refuses the network.
    """
    integers = integer_module(module)
    with quiet_tools():
        try:
            lowering: Any = importlib.import_module("executorch.exir")
            partition: Any = importlib.import_module("executorch.backends.xnnpack.partition.xnnpack_partitioner")
        except ImportError as error:
            raise UserError(_TARGET, f"executorch cannot be imported, {first_line(error)}", _INSTALL) from error
        try:
            program = torch.export.export(integers, (torch.zeros(1, *input_shape),))
            lowered = lowering.to_edge_transform_and_lower(program, partitioner=[partition.XnnpackPartitioner()])
            content = bytes(lowered.to_executorch().buffer)
        except Exception as error:  # exporter and back end raise whatever their parts raise
            raise UserError(_TARGET, f"cannot lower the network, {first_line(error)}", "ship the ONNX file") from error
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)


def _round_for_each_reader(graph: fx.Graph, node: fx.Node, rounding: FakeQuantise) -> None:
    """Integers once, and floats again for each reader by itself: partitions that share them would form cycles."""
    operators: Any = torch.ops.quantized_decomposed
    scale, zero_point = rounding.scale_and_zero_point()
    grid = GRIDS[rounding.profile]
    parameters = (float(scale), int(zero_point), grid.low, grid.high, torch.int8)
    with graph.inserting_before(node):
        integers = graph.call_function(operators.quantize_per_tensor.default, (*node.args, *parameters))
        for user in list(node.users):
            restored = graph.call_function(operators.dequantize_per_tensor.default, (integers, *parameters))
            user.replace_input_with(node, restored)
    graph.erase_node(node)


class _FloatLayer(nn.Module):
    weight: Tensor
    bias: Tensor | None

    def __init__(self, rounded: QuantisedLayer) -> None:
        super().__init__()
        weight, bias = rounded.folded()
        self.register_buffer("weight", quantised_weight(weight).detach().contiguous())
        self.register_buffer("bias", None if bias is None else bias.detach().clone())
        self._layer = [rounded.layer]  # in a list, so that its own weight is no part of this module

    def forward(self, x: Tensor) -> Tensor:
        return apply_layer(self._layer[0], x, self.weight, self.bias)


class _IntegerLayer(nn.Module):
    weight: Tensor
    bias: Tensor | None
    scale: Tensor
    zero_point: Tensor

    def __init__(self, rounded: QuantisedLayer) -> None:
        super().__init__()
        weight, bias = rounded.folded()
        scale = weight_scale(weight)
        integers = torch.round(weight.detach() / scale.reshape(-1, *[1] * (weight.ndim - 1))).clamp(-127, 127)
        self.register_buffer("weight", integers.to(torch.int8).contiguous())
        self.register_buffer("bias", None if bias is None else bias.detach().clone())
        self.register_buffer("scale", scale)
        self.register_buffer("zero_point", torch.zeros_like(scale, dtype=torch.int64))
        self._layer = [rounded.layer]  # as above

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.ops.quantized_decomposed.dequantize_per_channel(
            self.weight, self.scale, self.zero_point, 0, -127, 127, torch.int8
        )
        return apply_layer(self._layer[0], x, weight, self.bias)
