"""Networks that were trained with rounding -> INT8 ONNX files with the scales that the training settled on.

Responsible for the QDQ form of `nas.train.compression.qat.prepare_qat`'s modules. Nothing is calibrated here: every
scale and zero point is the module's own.
"""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from nas.deploy.export import export_onnx
from nas.deploy.graph import lean, shorten_names, write_model
from nas.deploy.qat_graph import QdqGraph
from nas.errors import UserError
from nas.train.compression.fake_quantise import (
    GRIDS,
    FakeQuantise,
    Profile,
    QuantisedLayer,
    apply_layer,
    weight_scale,
)


def write_qat_file(module: nn.Module, input_shape: tuple[int, int, int], path: Path) -> Profile:
    """Writes the INT8 file of a network that was trained with rounding; two calls give equal bytes.

    With unsigned activations biases are int32, and activations that only cut off are part of the layer before them.
    With signed ones every zero point is 0 and biases stay in float, without nodes around them, as TensorRT wants it.

    Args:
        module: of `prepare_qat`, trained; not changed.
        input_shape: channels, height and width of what it takes.
        path: of the file; replaced in one step.

    Returns:
        The profile of its activations.

    Raises:
        UserError: a module without rounding, or an operator that has no ONNX form.
    """
    profiles = {part.profile for part in module.modules() if isinstance(part, FakeQuantise)}
    if len(profiles) != 1:
        problem = "must round its values to be written as INT8, it does not"
        raise UserError("network", problem, "train what prepare_qat gives")
    profile = profiles.pop()
    with tempfile.TemporaryDirectory(prefix="nas-qat-") as folder:
        plain = Path(folder) / "rounding.onnx"
        # torch's newer exporter cannot follow the operators that round (torch 2.13).
        export_onnx(_with_fixed_scales(module), input_shape, plain, exporter="torchscript")
        model = onnx.load(plain)
    graph = QdqGraph(model)
    graph.store_weights_as_integers()
    if profile == "unsigned":
        graph.drop_cuts_that_rounding_does()
        graph.store_biases_as_integers()
    named = {name for node in model.graph.node if "Linear" not in node.op_type for name in node.output}
    write_model(shorten_names(lean(graph.model), named), path)
    return profile


def _with_fixed_scales(module: nn.Module) -> nn.Module:
    """A copy whose scales are constants, so that an exporter sees numbers and not how they came to be."""
    fixed = copy.deepcopy(module).cpu().eval()
    for name, part in list(fixed.named_modules()):
        if isinstance(part, FakeQuantise | QuantisedLayer):
            parent, _, last = name.rpartition(".")
            new = _FixedValue(part) if isinstance(part, FakeQuantise) else _FixedLayer(part)
            setattr(fixed.get_submodule(parent), last, new)
    return fixed


class _FixedValue(nn.Module):
    def __init__(self, rounding: FakeQuantise) -> None:
        super().__init__()
        scale, zero_point = rounding.scale_and_zero_point()
        grid = GRIDS[rounding.profile]
        self._grid = (float(scale), int(zero_point), grid.low, grid.high)

    def forward(self, x: Tensor) -> Tensor:
        return torch.fake_quantize_per_tensor_affine(x, *self._grid)


class _FixedLayer(nn.Module):
    weight: Tensor
    bias: Tensor | None
    scale: Tensor
    zero_point: Tensor

    def __init__(self, rounded: QuantisedLayer) -> None:
        super().__init__()
        weight, bias = rounded.folded()
        self.register_buffer("weight", weight.detach().clone())
        self.register_buffer("bias", None if bias is None else bias.detach().clone())
        self.register_buffer("scale", weight_scale(weight))
        self.register_buffer("zero_point", torch.zeros_like(self.scale, dtype=torch.int32))
        self._layer = [rounded.layer]  # in a list, so that its own weight is no part of this module

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.fake_quantize_per_channel_affine(self.weight, self.scale, self.zero_point, 0, -128, 127)
        return apply_layer(self._layer[0], x, weight, self.bias)
