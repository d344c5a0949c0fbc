"""The C files of a network for TensorFlow Lite Micro, and their check by a compiler.

Responsible for filling the templates in ``microcontroller_files``. It makes no file of the network itself.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nas.deploy.targets.litert_flatbuffer import Contents
from nas.errors import UserError

TEMPLATES = Path(__file__).with_name("microcontroller_files")
FILES = ("nas_model_data.h", "nas_model_data.c", "nas_model.h", "nas_model.cc", "main.c")
_HEAD = "Written by nas; do not edit."
_SCHEMA = 3
_BYTES_A_LINE = 16
# TensorFlow Lite Micro's resolver names operators so: each word's first letter is large, but for these.
_METHODS = {
    "BATCH_MATMUL": "AddBatchMatMul",
    "L2_POOL_2D": "AddL2Pool2D",
    "PADV2": "AddPadV2",
    "TRANSPOSE_CONV": "AddTransposeConv",
}
# Operators of `MicroMutableOpResolver` that a network of images may hold.
SUPPORTED = frozenset(
    {"ABS", "ADD", "ADD_N", "ARG_MAX", "AVERAGE_POOL_2D", "BATCH_MATMUL", "CAST", "CONCATENATION", "CONV_2D"}
    | {"DEPTHWISE_CONV_2D", "DEQUANTIZE", "DIV", "ELU", "EXP", "EXPAND_DIMS", "FULLY_CONNECTED", "GATHER", "HARD_SWISH"}
    | {"LEAKY_RELU", "LOG", "LOGISTIC", "LOG_SOFTMAX", "MAXIMUM", "MAX_POOL_2D", "MEAN", "MINIMUM", "MIRROR_PAD"}
    | {"MUL", "NEG", "PACK", "PAD", "PADV2", "PRELU", "QUANTIZE", "REDUCE_MAX", "RELU", "RELU6", "RESHAPE"}
    | {"RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "RSQRT", "SELECT_V2", "SLICE", "SOFTMAX", "SPACE_TO_DEPTH"}
    | {"SPLIT", "SPLIT_V", "SQRT", "SQUARE", "SQUARED_DIFFERENCE", "SQUEEZE", "STRIDED_SLICE", "SUB", "SUM", "TANH"}
    | {"TRANSPOSE", "TRANSPOSE_CONV", "UNPACK"}
)
# What an interpreter keeps beside the plan: allocator and graph, then by operator, tensor, and scale of a channel. An
# estimate on the high side, with pointers of 8 bytes; nothing here runs the interpreter.
_FIXED, _BY_OPERATOR, _BY_TENSOR, _BY_CHANNEL = 6144, 384, 64, 16
_ROUND = 1024


@dataclass(frozen=True, kw_only=True)
class Interface:
    """The ends of an int8 file.

    Attributes:
        shape: channels, height, width.
        input_scale, input_zero_point, output_scale, output_zero_point: ``value = (integer - zero_point) * scale``.
    """

    shape: tuple[int, int, int]
    input_scale: float
    input_zero_point: int
    output_scale: float
    output_zero_point: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """An image and its answer, both as the file takes and gives them: int8, ``(c, h, w)`` and ``(classes,)``."""

    image: np.ndarray
    logits: np.ndarray


def arena_bytes(contents: Contents) -> int:
    """Bytes that TensorFlow Lite Micro needs for a file, computed, a multiple of 1 KiB.

    The plan of all activations, which is exact for reference kernels, and an estimate of what the interpreter keeps for
    operators, tensors and scales where pointers have 8 bytes (a controller's have 4). Scratch memory of optimised
    kernels (CMSIS-NN, ESP-NN) is not in it.
    """
    kept = _FIXED + _BY_OPERATOR * sum(contents.operators.values())
    kept += _BY_TENSOR * contents.num_tensors + _BY_CHANNEL * contents.num_channels
    return -(-(contents.arena_bytes + kept) // _ROUND) * _ROUND


def check_operators(contents: Contents) -> None:
    """Raises `UserError` where TensorFlow Lite Micro has no kernel for an operator of the file."""
    missing = sorted(contents.operators.keys() - SUPPORTED)
    if missing:
        problem = f"has operators that TensorFlow Lite Micro lacks: {', '.join(missing)}"
        raise UserError("target microcontroller", problem, "leave them out of the space, or ship for litert")


def write_code(
    folder: Path,
    tflite: Path,
    contents: Contents,
    *,
    interface: Interface,
    labels: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    example: Example,
) -> tuple[Path, ...]:
    """Writes the C files of a ``.tflite`` whose input and output are int8; gives their paths, as `FILES` has them."""
    fields = _data_fields(tflite.read_bytes()) | _graph_fields(contents) | _interface_fields(interface)
    fields |= {
        "CLASSES": str(len(labels)),
        "LABELS": "\n".join(f"    {_text(label)}," for label in labels),
        "MEAN": ", ".join(f"{_number(value)}f" for value in mean),
        "STD": ", ".join(f"{_number(value)}f" for value in std),
        "IMAGE": _rows([str(int(value)) for value in example.image.ravel()]),
        "EXPECTED": ", ".join(str(int(value)) for value in example.logits),
        "HEAD": _HEAD,
    }
    paths = []
    for name in FILES:
        path = folder / name
        path.write_text(_filled((TEMPLATES / name).read_text(encoding="utf-8"), fields), encoding="utf-8")
        paths.append(path)
    return tuple(paths)


def _data_fields(data: bytes) -> dict[str, str]:
    return {
        "SIZE": str(len(data)),
        "SHA256": hashlib.sha256(data).hexdigest(),
        "BYTES": _rows([f"0x{byte:02x}" for byte in data]),
    }


def _graph_fields(contents: Contents) -> dict[str, str]:
    calls = [f"  if (resolver.{_method(name)}() != kTfLiteOk) return false;" for name in sorted(contents.operators)]
    return {
        "ARENA": str(arena_bytes(contents)),
        "ARENA_WORDS": (
            f"Computed, not measured: a plan of {contents.arena_bytes} bytes for activations, and an estimate\n"
            "   of what the interpreter keeps with reference kernels. Optimised kernels (CMSIS-NN) may ask for more."
        ),
        "NUM_OPERATORS": str(len(contents.operators)),
        "OPERATORS": "\n".join(calls),
        "SCHEMA": str(_SCHEMA),
    }


def _interface_fields(interface: Interface) -> dict[str, str]:
    return {
        "CHANNELS": str(interface.shape[0]),
        "HEIGHT": str(interface.shape[1]),
        "WIDTH": str(interface.shape[2]),
        "INPUT_SCALE": _number(interface.input_scale),
        "INPUT_ZERO_POINT": str(interface.input_zero_point),
        "OUTPUT_SCALE": _number(interface.output_scale),
        "OUTPUT_ZERO_POINT": str(interface.output_zero_point),
    }


def compiled_bytes(folder: Path) -> tuple[bytes | None, str]:
    """The array as a C compiler lays it out, from ``nas_model_data.c``; with what the compiler said.

    Returns:
        The bytes and "", or None and why there are none: no compiler here, or its first error.
    """
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None:
        return None, "no C compiler is installed here"
    with tempfile.TemporaryDirectory(prefix="nas-microcontroller-") as name:
        dump, program = Path(name) / "dump.c", Path(name) / "dump"
        dump.write_text(_DUMP, encoding="utf-8")
        command = [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{folder}", str(dump)]
        command += [str(folder / "nas_model_data.c"), "-o", str(program)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return None, f"the C compiler refuses it, {_first_error(done.stderr)}"
        ran = subprocess.run([str(program)], capture_output=True, check=False)
        return (ran.stdout, "") if not ran.returncode else (None, "the array is not aligned to 16 bytes")


# Includes the other header too, so that its syntax and unused functions are seen by the compiler.
_DUMP = """#include <stdio.h>
#include "nas_model.h"
#include "nas_model_data.h"
int main(void) {
  if ((unsigned long)(const void *)nas_model_data % 16) return 1;
  if (nas_model_labels[0] == 0 || nas_model_pixel(0, 0) == nas_model_pixel(255, 0)) return 1;
  return fwrite(nas_model_data, 1, NAS_MODEL_DATA_SIZE, stdout) != NAS_MODEL_DATA_SIZE;
}
"""


def _first_error(text: str) -> str:
    return next((line for line in text.splitlines() if "error" in line), text.strip()[:200])


def _method(operator: str) -> str:
    words = operator.split("_")
    return _METHODS.get(
        operator, "Add" + "".join(word.upper() if word == "2D" else word.capitalize() for word in words)
    )


def _filled(template: str, fields: Mapping[str, str]) -> str:
    """The template with each ``@NAME@`` replaced, once, so that values are never read as places."""
    return re.sub(r"@([A-Z0-9_]+)@", lambda match: fields[match.group(1)], template)


def _rows(numbers: Sequence[str]) -> str:
    starts = range(0, len(numbers), _BYTES_A_LINE)
    return "\n".join("    " + ", ".join(numbers[start : start + _BYTES_A_LINE]) + "," for start in starts)


def _number(value: float) -> str:
    """A float literal without its suffix: always with a point or an exponent."""
    text = repr(float(np.float32(value)))
    return text if any(mark in text for mark in ".en") else f"{text}.0"


def _text(label: str) -> str:
    """A C string literal; one with signs that C reads otherwise is spelt as the octal bytes of its UTF-8."""
    if all(" " <= sign <= "~" and sign not in '"\\?' for sign in label):
        return f'"{label}"'
    return '"' + "".join(f"\\{byte:03o}" for byte in label.encode()) + '"'
