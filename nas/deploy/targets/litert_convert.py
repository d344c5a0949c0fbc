"""Exported programs -> ``.tflite`` files, and float files -> quantised ones; runs in the converters' process.

Responsible for the calls into litert-torch and ai-edge-quantizer. Files have one signature with the input ``input``
``(1, c, h, w)`` and the output ``logits`` ``(1, classes)``.

Static ranges. The quantizer's own calibration takes a *moving average* of the extremes of each image (0.95 of the old),
which clips: on the networks of `experiments/targets_mobile` the largest error of a logit was 4 to 8 times that of the
true extremes. Its calibrator takes another rule, so that the true extremes are used here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas.errors import UserError, first_line

SIGNATURE, INPUT, OUTPUT = "serving_default", "input", "logits"
_UNSUPPORTED = "leave the operator out of the space, or ship the ONNX file"


class _Named(nn.Module):
    """Gives the signature its names."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, input: Tensor) -> dict[str, Tensor]:  # noqa: A002 the name is the signature's
        return {OUTPUT: self.module(input)}


def convert(program: str, path: str) -> None:
    """Writes an exported program (``.pt2``) as a float32 ``.tflite``.

    Raises:
        UserError: an operator has no LiteRT form; names it.
    """
    module, example = _load(program)
    _write(_Named(module), example, path)


def convert_calibrated(program: str, path: str, calibration: str) -> None:
    """Writes an INT8 ``.tflite`` whose ranges torch observed (pt2e); input and output are int8.

    Args:
        program: exported program.
        path: of the new file.
        calibration: ``.npy`` of images ``(n, c, h, w)`` float32.

    Raises:
        UserError: an operator has no LiteRT form, or cannot be quantised this way.
    """
    pt2e = importlib.import_module("torchao.quantization.pt2e.quantize_pt2e")
    quantizers = importlib.import_module("litert_torch.quantize.pt2e_quantizer")
    config = importlib.import_module("litert_torch.quantize.quant_config")
    module, example = _load(program)
    quantizer = quantizers.PT2EQuantizer().set_global(
        quantizers.get_symmetric_quantization_config(is_per_channel=True, is_dynamic=False)
    )
    try:
        observed = pt2e.prepare_pt2e(module, quantizer)
        with torch.inference_mode():
            for image in np.load(calibration, mmap_mode="r"):
                observed(torch.from_numpy(np.array(image[None])))
        quantised = pt2e.convert_pt2e(observed, fold_quantize=False)
    except Exception as error:  # torchao raises whatever its parts raise
        raise UserError(Path(path).name, f"cannot be quantised by pt2e, {first_line(error)}", _UNSUPPORTED) from error
    _write(_Named(quantised), example, path, quant_config=config.QuantConfig(pt2e_quantizer=quantizer))


def _load(program: str) -> tuple[nn.Module, Tensor]:
    loaded = torch.export.load(program)
    arguments, _ = loaded.example_inputs
    return loaded.module(), arguments[0]


def _write(module: nn.Module, example: Tensor, path: str, **settings: object) -> None:
    litert_torch = importlib.import_module("litert_torch")
    try:
        litert_torch.convert(module, sample_kwargs={INPUT: example}, **settings).export(path)
    except Exception as error:  # the converter raises whatever its parts raise
        problem = f"cannot be converted to LiteRT, {_culprit(error)}"
        raise UserError(Path(path).name, problem, _UNSUPPORTED) from error


def _culprit(error: BaseException) -> str:
    """The line of a converter's error that names an operator, else its first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = next((line for line in lines if "aten." in line or "legalize" in line or "unsupported" in line.lower()), "")
    return first_line(named or error)


Fill = Callable[[Any, Any], None]
"""Adds a recipe's rules to a ``RecipeManager``; the second argument is the module ``ai_edge_quantizer.qtyping``."""


def _static(rules: Any, kinds: Any) -> None:
    rules.add_static_config(".*", kinds.TFLOperationName.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)


def _dynamic(rules: Any, kinds: Any) -> None:
    rules.add_dynamic_config(".*", kinds.TFLOperationName.ALL_SUPPORTED, num_bits=8)


def _int4_blocks(rules: Any, kinds: Any) -> None:
    _dynamic(rules, kinds)
    rules.add_dynamic_config(
        ".*",
        kinds.TFLOperationName.FULLY_CONNECTED,
        num_bits=4,
        granularity=kinds.QuantGranularity.BLOCKWISE_32,
    )


def _int4_products(rules: Any, kinds: Any) -> None:
    _dynamic(rules, kinds)
    rules.add_dynamic_config(".*", kinds.TFLOperationName.FULLY_CONNECTED, num_bits=4)


def _int4_all(rules: Any, kinds: Any) -> None:
    _int4_products(rules, kinds)
    rules.add_dynamic_config(".*", kinds.TFLOperationName.CONV_2D, num_bits=4)


def _int4_all_blocks(rules: Any, kinds: Any) -> None:
    _int4_blocks(rules, kinds)
    rules.add_dynamic_config(".*", kinds.TFLOperationName.CONV_2D, num_bits=4)


def _float16(rules: Any, kinds: Any) -> None:
    rules.add_quantization_config(
        ".*",
        kinds.TFLOperationName.ALL_SUPPORTED,
        op_config=kinds.OpQuantizationConfig(
            weight_tensor_config=kinds.TensorQuantizationConfig(num_bits=16, dtype=kinds.TensorDataType.FLOAT),
            compute_precision=kinds.ComputePrecision.FLOAT,
            explicit_dequantize=True,
        ),
        algorithm_key="float_casting",
    )


RECIPES: dict[str, Fill] = {
    "static": _static,
    "static-average": _static,
    "dynamic": _dynamic,
    "float16": _float16,
    "int4-all-blocks": _int4_all_blocks,
    "int4-all": _int4_all,
    "int4-products-blocks": _int4_blocks,
    "int4-products": _int4_products,
}


def quantise(float_file: str, path: str, recipe: str, calibration: str = "") -> None:
    """Writes the quantised form of a float32 ``.tflite``.

    Args:
        float_file: of `convert`.
        path: of the new file.
        recipe: one of `RECIPES`: ``static`` (int8, ranges are true extremes), ``static-average`` (ranges as the
            quantizer takes them by itself), ``dynamic`` (weights int8), ``float16`` (weights), ``int4-...`` (weights of
            matrix products, or of convolutions too, in 4 bits, in blocks of 32 or a scale a channel; others int8).
        calibration: ``.npy`` of images; for the static recipes.

    Raises:
        UserError: the quantizer refuses the network.
    """
    quantizers = importlib.import_module("ai_edge_quantizer.quantizer")
    managers = importlib.import_module("ai_edge_quantizer.recipe_manager")
    kinds = importlib.import_module("ai_edge_quantizer.qtyping")
    rules = managers.RecipeManager()
    try:
        RECIPES[recipe](rules, kinds)
        quantizer = quantizers.Quantizer(float_file)
        quantizer.load_quantization_recipe(rules.get_quantization_recipe())
        ranges = _ranges(float_file, rules, recipe, calibration) if recipe.startswith("static") else None
        result = quantizer.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
        result.export_model(path, overwrite=True)
    except Exception as error:  # the quantizer raises whatever its parts raise
        problem = f"cannot be quantised by ai-edge-quantizer ({recipe}), {first_line(error)}"
        raise UserError(Path(path).name, problem, "ship the float32 file") from error


def _ranges(float_file: str, rules: Any, recipe: str, calibration: str) -> Any:
    calibrators = importlib.import_module("ai_edge_quantizer.calibrator")
    statistics = importlib.import_module("ai_edge_quantizer.utils.qsv_utils")
    update = statistics.moving_average_update if recipe == "static-average" else statistics.min_max_update
    calibrator = calibrators.Calibrator(float_file, num_threads=1, qsv_update_func=update)
    images = np.load(calibration, mmap_mode="r")
    calibrator.calibrate({SIGNATURE: [{INPUT: np.array(image[None])} for image in images]}, rules)
    return calibrator.get_model_qsvs()
