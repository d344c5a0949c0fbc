"""Exported programs -> ``.pte`` files for XNNPACK, and their runs; runs in the converters' process.

Responsible for the calls into ExecuTorch and torchao.
"""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nas.deploy.targets.stopwatch import least_ms
from nas.errors import UserError, first_line

_ADVICE = "leave the operator out of the space, or ship the ONNX file"
# They hand memory about, or read a delegate's outputs, and cost next to nothing.
_GLUE = ("alloc", "getitem", "executorch_call_delegate", "_to_dim_order_copy")


def lower(program: str, path: str, precision: str = "float32", calibration: str = "") -> dict[str, Any]:
    """Writes an exported program as a ``.pte`` whose operators are XNNPACK's.

    Args:
        program: ``.pt2``, float or with quantisation in it (pt2e).
        path: of the new file.
        precision: ``int8`` quantises the program first, with ranges observed on the calibration images.
        calibration: ``.npy`` of images ``(n, c, h, w)`` float32; for ``int8``.

    Returns:
        ``delegates``: how many parts XNNPACK took; ``left``: operators that stay outside -> how often.

    Raises:
        UserError: the program cannot be quantised or lowered.
    """
    importlib.import_module("torch.ao.quantization.fx._decomposed")  # registers the operators of pt2e
    edge = importlib.import_module("executorch.exir")
    partitioners = importlib.import_module("executorch.backends.xnnpack.partition.xnnpack_partitioner")
    name = Path(path).name
    loaded = torch.export.load(program)
    arguments, _ = loaded.example_inputs
    try:
        if precision == "int8":
            quantised = _quantised(loaded.module(), np.load(calibration, mmap_mode="r"))
            loaded = torch.export.export(quantised, arguments)
        lowered = edge.to_edge_transform_and_lower(loaded, partitioner=[partitioners.XnnpackPartitioner()])
        buffer = bytes(lowered.to_executorch().buffer)
    except Exception as error:  # executorch raises whatever its parts raise
        raise UserError(name, f"cannot be lowered to ExecuTorch, {first_line(error)}", _ADVICE) from error
    Path(path).write_bytes(buffer)
    called = [_name(node.target) for node in lowered.exported_program().graph.nodes if node.op == "call_function"]
    left = Counter(call for call in called if not call.startswith(_GLUE))
    return {"delegates": called.count("executorch_call_delegate"), "left": dict(left)}


def _quantised(module: nn.Module, images: np.ndarray) -> nn.Module:
    pt2e = importlib.import_module("torchao.quantization.pt2e.quantize_pt2e")
    observed = pt2e.prepare_pt2e(module, xnnpack_quantizer())
    with torch.inference_mode():
        for image in images:
            observed(torch.from_numpy(np.array(image[None])))
    quantised: nn.Module = pt2e.convert_pt2e(observed)
    return quantised


def xnnpack_quantizer() -> Any:
    """XNNPACK's quantizer: weights int8, symmetric, a scale an output channel; activations int8, a scale a tensor."""
    quantizers = importlib.import_module("executorch.backends.xnnpack.quantizer.xnnpack_quantizer")
    config = quantizers.get_symmetric_quantization_config(is_per_channel=True)
    return quantizers.XNNPACKQuantizer().set_global(config)


def _name(target: Any) -> str:
    """``aten.mul.Tensor`` -> ``mul``; functions by their name; a delegate's call by its own."""
    schema = getattr(target, "_schema", None)
    whole = schema.name if schema is not None else getattr(target, "__name__", str(target))
    return str(whole).rpartition("::")[2]


def run(path: str, images: str, logits: str) -> dict[str, Any]:
    """Runs a file on all images, one by one, on one thread.

    Args:
        path: of the file.
        images: ``.npy`` ``(n, c, h, w)`` float32.
        logits: ``.npy`` that is written, ``(n, classes)`` float32.

    Returns:
        ``latency_ms``; ``planned_bytes`` of the method's memory plan; ``threads`` that ran.

    Raises:
        UserError: the file is missing, cannot be loaded, or takes other images.
    """
    if not Path(path).is_file():
        raise UserError(path, "must be a .pte file, there is none", "export the model again")
    importlib.import_module("executorch.kernels.quantized")
    native = importlib.import_module("executorch.extension.pybindings.portable_lib")
    threads = _one_thread(native)
    runtime = importlib.import_module("executorch.runtime")
    held = np.load(images, mmap_mode="r")
    try:
        method = runtime.Runtime.get().load_program(Path(path)).load_method("forward")
    except Exception as error:  # native errors are RuntimeErrors with a code
        problem = f"cannot be loaded by ExecuTorch, {first_line(error)}"
        raise UserError(path, problem, "export the model again") from error
    wanted = tuple(method.metadata.input_tensor_meta(0).sizes())
    if wanted[1:] != held.shape[1:]:
        found, given = (" x ".join(map(str, shape)) for shape in (wanted[1:], held.shape[1:]))
        raise UserError(path, f"takes images {found}, the samples are {given}", "export the model again")
    rows = []
    for image in held:
        (answer,) = method.execute((torch.from_numpy(np.array(image[None])),))
        rows.append(answer.numpy()[0].copy())  # the next run writes over it
    np.save(logits, np.stack(rows))
    one = torch.from_numpy(np.array(held[:1]))
    latency = least_ms(lambda: method.execute((one,)))
    return {"latency_ms": latency, "planned_bytes": _planned_bytes(path), "threads": threads}


def _planned_bytes(path: str) -> int:
    """Bytes that the method's memory plan asks for: inputs, outputs, and values between delegates."""
    reader = importlib.import_module("executorch.exir._serialize._program")
    plan = reader.deserialize_pte_binary(Path(path).read_bytes()).program.execution_plan[0]
    return int(sum(plan.non_const_buffer_sizes))


def _one_thread(native: Any) -> int:
    """Gives the runtime a pool of one thread; the number that it has then."""
    native._unsafe_reset_threadpool(1)
    return int(native._threadpool_get_thread_count())
