"""Exported programs -> Core ML packages, and their compressed forms; runs in the converters' process.

Responsible for the calls into coremltools. Packages have the input ``input`` ``(1, c, h, w)`` and the output ``logits``
``(1, classes)``, both float32.

INT8 activations. coremltools calibrates activations by running a model, which only macOS can. The way here needs no
Mac: torch's pt2e observes the ranges on the program, coremltools converts its quantise and dequantise operators.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nas.deploy.targets.executorch_lower import xnnpack_quantizer
from nas.errors import UserError, first_line

INPUT, OUTPUT = "input", "logits"
_ADVICE = "leave the operator out of the space, or ship the ONNX file"
# Blocks of weights along the input channels; coremltools leaves a weight as it is, with a log line only, where its
# channels are no multiple of the block.
_BLOCKS = (32, 16)
_SYSTEMS = {"int4": "iOS18"}
SYSTEM = "iOS17"


def convert(
    program: str, path: str, precision: str, calibration: str = "", metadata: dict[str, str] | None = None
) -> None:
    """Writes an exported program as an ``.mlpackage`` in a precision.

    Args:
        program: ``.pt2``.
        path: of the new folder; there must be none.
        precision: one of the target's.
        calibration: ``.npy`` of images ``(n, c, h, w)`` float32; for ``int8``.
        metadata: what is stored in the package for people and apps.

    Raises:
        UserError: an operator has no Core ML form, or the network cannot be compressed this way.
    """
    tools = importlib.import_module("coremltools")
    loaded = torch.export.load(program)
    (example,), _ = loaded.example_inputs
    name = Path(path).name
    try:
        if precision == "int8":
            quantised = _observed(loaded.module(), calibration)
            loaded = torch.export.export(quantised, (example,))
        half = precision != "float32"
        model = tools.convert(
            loaded.run_decompositions({}),
            inputs=[tools.TensorType(name=INPUT, shape=tuple(example.shape), dtype=np.float32)],
            outputs=[tools.TensorType(name=OUTPUT, dtype=np.float32)],
            convert_to="mlprogram",
            minimum_deployment_target=getattr(tools.target, _SYSTEMS.get(precision, SYSTEM)),
            compute_precision=tools.precision.FLOAT16 if half else tools.precision.FLOAT32,
            skip_model_load=True,
        )
        model = _compressed(model, precision)
        for key, value in (metadata or {}).items():
            model.user_defined_metadata[key] = value
        model.save(path)
    except Exception as error:  # coremltools raises whatever its parts raise
        raise UserError(name, f"cannot be converted to Core ML, {first_line(error)}", _ADVICE) from error


def _observed(module: torch.nn.Module, calibration: str) -> torch.nn.Module:
    """Quantised with a scale a tensor for activations and a scale an output channel for weights, all symmetric."""
    pt2e = importlib.import_module("torchao.quantization.pt2e.quantize_pt2e")
    importlib.import_module("torch.ao.quantization.fx._decomposed")
    observed = pt2e.prepare_pt2e(module, xnnpack_quantizer())
    with torch.inference_mode():
        for image in np.load(calibration, mmap_mode="r"):
            observed(torch.from_numpy(np.array(image[None])))
    quantised: torch.nn.Module = pt2e.convert_pt2e(observed)
    return quantised


def _compressed(model: Any, precision: str) -> Any:
    optimize = importlib.import_module("coremltools.optimize.coreml")
    if precision == "int8-weights":
        settings = optimize.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=0)
        return optimize.linear_quantize_weights(model, optimize.OptimizationConfig(global_config=settings))
    if precision == "int4":
        return optimize.linear_quantize_weights(model, _int4(model, optimize))
    if precision.startswith("palette"):
        return optimize.palettize_weights(model, _palettes(model, int(precision[-1]), optimize))
    return model


def _palettes(model: Any, bits: int, optimize: Any) -> Any:
    """Weights by name: ``bits`` a weight, but 8 for depthwise kernels: they are few, and the first to spoil answers."""
    configs = {}
    for name, weight in optimize.get_weights_metadata(model, weight_threshold=0).items():
        depthwise = weight.val.ndim > 1 and weight.val.shape[1] == 1
        configs[name] = optimize.OpPalettizerConfig(mode="kmeans", nbits=8 if depthwise else bits, weight_threshold=0)
    return optimize.OptimizationConfig(op_name_configs=configs)


def _int4(model: Any, optimize: Any) -> Any:
    """Weights by name: blocks of 32 or 16 where the channels allow it, else a scale a channel; depthwise ones int8."""
    configs = {}
    for name, weight in optimize.get_weights_metadata(model, weight_threshold=0).items():
        channels = weight.val.shape[1] if weight.val.ndim > 1 else 0
        settings: dict[str, object] = {"mode": "linear_symmetric", "weight_threshold": 0, "dtype": "int4"}
        block = next((size for size in _BLOCKS if channels and channels % size == 0), 0)
        if channels <= 1:
            settings |= {"dtype": "int8", "granularity": "per_channel"}
        elif block:
            settings |= {"granularity": "per_block", "block_size": block}
        else:
            settings |= {"granularity": "per_channel"}
        configs[name] = optimize.OpLinearQuantizerConfig(**settings)
    return optimize.OptimizationConfig(op_name_configs=configs)
