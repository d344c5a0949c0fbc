"""What is in a ``.tflite`` file: operators, input and output, memory plan; and float inputs for an int8 file.

Responsible for reading and editing the flatbuffer without running it.

References:
    [Pisarchyk2020] Pisarchyk, Lee, Efficient Memory Management for Deep Neural Net Inference, MLSys workshop 2020.
"""

from __future__ import annotations

import copy
import importlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nas.errors import UserError, first_line

ALIGNMENT = 16
# Bytes of an element by flatbuffer type; types of less than a byte are rounded up.
_BYTES = {"FLOAT32": 4.0, "FLOAT16": 2.0, "INT64": 8.0, "INT32": 4.0, "INT16": 2.0, "INT8": 1.0, "UINT8": 1.0}
_BYTES |= {"INT4": 0.5, "INT2": 0.25, "BOOL": 1.0}


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a file holds.

    Attributes:
        operators: builtin name -> how often.
        weights: element type -> bytes of constants.
        arena_bytes: one block for all tensors that are computed, with an offset each: largest first, each at the
            lowest free offset ([Pisarchyk2020], greedy by size), aligned to 16 bytes.
        num_tensors: in the graph, constants too.
        num_channels: scales of quantised constants, each of which an interpreter keeps a multiplier and a shift for.
    """

    operators: dict[str, int]
    weights: dict[str, int]
    arena_bytes: int
    num_tensors: int
    num_channels: int


def read_contents(path: Path) -> Contents:
    """What a file holds.

    Raises:
        UserError: it is missing, or no ``.tflite``.
    """
    model = _read(path)
    tools = _tools()
    graph = model.subgraphs[0]
    operators = Counter(str(tools.opcode_to_name(model, operator.opcodeIndex)) for operator in graph.operators)
    constants = [tensor for tensor in graph.tensors if _is_constant(model, tensor)]
    weights: Counter[str] = Counter()
    for tensor in constants:
        weights[_type(tensor)] += _size(tensor)
    scales = (tensor.quantization.scale for tensor in constants if tensor.quantization is not None)
    return Contents(
        operators=dict(operators),
        weights=dict(weights),
        arena_bytes=_arena(model),
        num_tensors=len(graph.tensors),
        num_channels=sum(len(scale) for scale in scales if scale is not None),
    )


def give_float_interface(path: Path) -> None:
    """Puts a quantisation before an int8 input and a dequantisation behind an int8 output.

    Ends that are float stay as they are. Names and signature stay as they were. The file is replaced.
    """
    schema, tools = _schema(), _tools()
    model = _read(path)
    graph = model.subgraphs[0]
    for kind, ends, place in (("QUANTIZE", graph.inputs, 0), ("DEQUANTIZE", graph.outputs, len(graph.operators))):
        old = int(ends[0])
        if _type(graph.tensors[old]) == "FLOAT32":
            continue
        outer = copy.copy(graph.tensors[old])
        outer.type, outer.quantization, outer.buffer = schema.TensorType.FLOAT32, None, 0
        graph.tensors[old].name = _text(graph.tensors[old].name) + "_int8"
        graph.tensors.append(outer)
        new = len(graph.tensors) - 1
        operator = schema.OperatorT()
        operator.opcodeIndex = _code(model, kind, schema)
        operator.inputs, operator.outputs = ([new], [old]) if kind == "QUANTIZE" else ([old], [new])
        graph.operators.insert(len(graph.operators) if place else 0, operator)
        for signature in model.signatureDefs or ():
            for entry in (*signature.inputs, *signature.outputs):
                entry.tensorIndex = new if entry.tensorIndex == old else entry.tensorIndex
        ends[0] = new
    tools.write_model(model, str(path))


def _code(model: Any, name: str, schema: Any) -> int:
    """Index of an operator's code, added where the file has none."""
    builtin = getattr(schema.BuiltinOperator, name)
    for index, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == builtin:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _read(path: Path) -> Any:
    if not path.is_file():
        raise UserError(str(path), "must be a .tflite file, there is none", "export the model again")
    data = path.read_bytes()
    if data[4:8] != b"TFL3":
        raise UserError(str(path), "must be a .tflite file, its identifier is missing", "export the model again")
    try:
        return _tools().read_model_from_bytearray(bytearray(data))
    except Exception as error:  # truncated flatbuffers fail anywhere
        problem = f"cannot be read as a .tflite file, {first_line(error)}"
        raise UserError(str(path), problem, "export the model again") from error


def _tools() -> Any:
    return importlib.import_module("ai_edge_litert.tools.flatbuffer_utils")


def _schema() -> Any:
    return importlib.import_module("ai_edge_litert.schema_py_generated")


def _type(tensor: Any) -> str:
    return str(_tools().type_to_name(tensor.type))


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _size(tensor: Any) -> int:
    elements = int(np.prod(tensor.shape)) if tensor.shape is not None else 1
    return int(np.ceil(elements * _BYTES.get(_type(tensor), 4.0)))


def _is_constant(model: Any, tensor: Any) -> bool:
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def _arena(model: Any) -> int:
    """See `Contents.arena_bytes`."""
    graph = model.subgraphs[0]
    last = len(graph.operators)
    first: dict[int, int] = {int(index): 0 for index in graph.inputs}
    until: dict[int, int] = {int(index): last for index in graph.outputs}
    for step, operator in enumerate(graph.operators):
        for index in operator.outputs:
            first.setdefault(int(index), step)
            until.setdefault(int(index), step)
        for index in operator.inputs:
            if int(index) in first:
                until[int(index)] = max(until.get(int(index), 0), step)
    spans = [
        (-(-_size(graph.tensors[index]) // ALIGNMENT) * ALIGNMENT, begin, until.get(index, begin))
        for index, begin in first.items()
        if not _is_constant(model, graph.tensors[index])
    ]
    return plan(spans)


def plan(spans: list[tuple[int, int, int]]) -> int:
    """Bytes of one block that holds buffers of ``(size, first step, last step)``, greedy by size."""
    placed: list[tuple[int, int, int, int]] = []
    for size, first, last in sorted(spans, key=lambda span: (-span[0], span[1])):
        offset = 0
        for start, length, begin, end in sorted(placed):
            if begin > last or end < first:
                continue
            if start - offset >= size:
                break
            offset = max(offset, start + length)
        placed.append((offset, size, first, last))
    return max((offset + size for offset, size, _, _ in placed), default=0)
