"""Core ML packages read back: what is in them, and what their programs give when torch computes them.

Responsible for checking a package where Core ML does not run. The program and its weights are read from the saved
files, weights are decompressed by coremltools, and each operator is computed by torch after its definition in MIL, with
every value rounded to its declared type. That shows what conversion and compression did to the answers; it says nothing
of Core ML's own kernels.

References:
    [MIL] coremltools 9, operator definitions of the Model Intermediate Language.
"""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nas.deploy.targets.coreml_operators import OPERATORS, Values
from nas.errors import UserError, first_line

_FLOATS = ("fp16", "fp32")
# Smaller constants, and biases, are not worth a word.
_SMALL = 128


def read(path: str) -> dict[str, Any]:
    """What a package holds.

    Returns:
        ``inputs`` and ``outputs``: name -> [type, shape]; ``operators``: type -> how often; ``weights``: stored type ->
        bytes; ``floats``: names of matrices and kernels of more than 128 numbers that stay floats; ``version``: of the
        specification.

    Raises:
        UserError: it is no Core ML package.
    """
    model, program = _open(path)
    spec = model.get_spec()
    operations = _operations(program)
    weights: Counter[str] = Counter()
    floats: list[str] = []
    for operation in operations:
        kind, size = _stored(operation)
        weights[kind] += size
        if kind in _FLOATS and operation.outputs[0].val.ndim > 1 and operation.outputs[0].val.size > _SMALL:
            floats.append(operation.outputs[0].name)
    del weights[""]
    counted = Counter(
        op.op_type for op in operations if op.op_type != "const" and not op.op_type.startswith("constexpr")
    )
    return {
        "inputs": {entry.name: _feature(entry) for entry in spec.description.input},
        "outputs": {entry.name: _feature(entry) for entry in spec.description.output},
        "operators": dict(counted),
        "weights": dict(weights),
        "floats": floats,
        "version": int(spec.specificationVersion),
    }


def compute(path: str, images: str, logits: str) -> list[str]:
    """Computes a package's program with torch on images, and writes its answers.

    Args:
        path: of the package.
        images: ``.npy`` ``(n, c, h, w)`` float32.
        logits: ``.npy`` that is written, ``(n, classes)`` float32; not written where an operator is not known.

    Returns:
        Types of operators that this module cannot compute; empty where it could.
    """
    _, program = _open(path)
    operations = _operations(program)
    constant = {var.name: _constant(op) for op in operations if _is_constant(op) for var in op.outputs}
    moving = [op for op in operations if not _is_constant(op)]
    unknown = sorted({op.op_type for op in moving} - OPERATORS.keys())
    if unknown:
        return unknown
    (entry,) = program.functions["main"].inputs
    (result,) = program.functions["main"].outputs
    rows = []
    with torch.inference_mode():
        for image in np.load(images, mmap_mode="r"):
            values = constant | {entry: torch.from_numpy(np.array(image[None]))}
            for operation in moving:
                _step(operation, values)
            rows.append(values[result.name].float().numpy()[0])
    np.save(logits, np.stack(rows))
    return []


def _open(path: str) -> tuple[Any, Any]:
    tools = importlib.import_module("coremltools")
    loader = importlib.import_module("coremltools.converters.mil.frontend.milproto.load")
    if not (Path(path) / "Manifest.json").is_file():
        raise UserError(path, "must be a Core ML package, its Manifest.json is missing", "export the model again")
    try:
        model = tools.models.MLModel(path, skip_model_load=True)
        spec = model.get_spec()
        program = loader.load(spec, specification_version=spec.specificationVersion, file_weights_dir=model.weights_dir)
    except Exception as error:  # coremltools and protobuf raise whatever their parts raise
        problem = f"cannot be read as a Core ML package, {first_line(error)}"
        raise UserError(path, problem, "export the model again") from error
    return model, program


def _operations(program: Any) -> list[Any]:
    return list(program.functions["main"].operations)


def _feature(entry: Any) -> list[Any]:
    kind = entry.type.multiArrayType
    return [kind.ArrayDataType.Name(kind.dataType), list(kind.shape)]


def _is_constant(operation: Any) -> bool:
    kind = str(operation.op_type)
    return kind == "const" or kind.startswith("constexpr")


def _constant(operation: Any) -> Any:
    value = operation.outputs[0].val
    if operation.op_type.startswith("constexpr"):
        value = operation.materialized_val_inference()
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32))
    return value


def _stored(operation: Any) -> tuple[str, int]:
    """Type and bytes of what an operator stores of a network's weights; ``("", 0)`` where it stores none."""
    value = operation.outputs[0].val if operation.op_type == "const" else None
    if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size > 1:
        users = [child.op_type for child in operation.outputs[0].child_ops]
        if not any(user.startswith("constexpr") for user in users):
            return ("fp16" if value.dtype == np.float16 else "fp32"), value.nbytes
    if operation.op_type in _COMPRESSED:
        held = getattr(operation, _COMPRESSED[operation.op_type])
        kind = getattr(held, "dtype", None)
        name = _type_name(operation, held, kind)
        bits = int("".join(filter(str.isdigit, name)) or 8)
        return name, int(np.ceil(np.prod(operation.outputs[0].shape) * bits / 8))
    return "", 0


_COMPRESSED = {
    "constexpr_affine_dequantize": "quantized_data",
    "constexpr_blockwise_shift_scale": "data",
    "constexpr_lut_to_dense": "indices",
}


def _type_name(operation: Any, held: Any, kind: Any) -> str:
    if operation.op_type == "constexpr_lut_to_dense":
        entries = int(np.asarray(operation.lut.val).size)
        return f"palette{max(1, int(np.ceil(np.log2(entries))))}"
    types = importlib.import_module("coremltools.converters.mil.mil.types")
    return str(types.builtin_to_string(kind)) if kind is not None else "int8"


def _step(operation: Any, values: dict[str, Any]) -> None:
    """Computes one operator and stores its outputs, rounded to their types."""
    inputs: Values = {}
    for name, var in operation.inputs.items():
        if isinstance(var, (list, tuple)):
            inputs[name] = [values.get(one.name, one.val) for one in var]
        elif var is not None:
            inputs[name] = values.get(var.name, var.val)
    results = OPERATORS[operation.op_type](inputs)
    several = results if isinstance(results, (list, tuple)) else [results]
    for var, result in zip(operation.outputs, several, strict=True):
        values[var.name] = _rounded(result, var)


def _rounded(value: Tensor, var: Any) -> Tensor:
    types = importlib.import_module("coremltools.converters.mil.mil.types")
    return value.half().float() if var.dtype == types.fp16 else value
