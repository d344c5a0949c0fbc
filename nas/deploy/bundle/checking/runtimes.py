"""Files of targets run on golden inputs, by whichever runtimes are installed.

Responsible for one way to run each kind of file, one sample at a time as on a device: 8-bit activations whose ranges
are found at run time depend on what else is in a batch.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np


def _run_onnxruntime(path: Path, inputs: np.ndarray) -> Iterator[np.ndarray]:
    onnxruntime = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    for image in inputs:
        yield np.asarray(session.run(None, {name: image[None]})[0])


def _run_openvino(path: Path, inputs: np.ndarray) -> Iterator[np.ndarray]:
    core = importlib.import_module("openvino").Core()
    compiled = core.compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    for image in inputs:
        yield np.asarray(compiled(np.ascontiguousarray(image[None]))[compiled.output(0)]).copy()


def _run_litert(path: Path, inputs: np.ndarray) -> Iterator[np.ndarray]:
    interpreter = importlib.import_module("ai_edge_litert.interpreter").Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    entry, leaving = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    for image in inputs:
        value = image if tuple(entry["shape"][1:]) == image.shape else image.transpose(1, 2, 0)
        interpreter.set_tensor(entry["index"], _encoded(value[None], entry))
        interpreter.invoke()
        yield _decoded(interpreter.get_tensor(leaving["index"]), leaving)


def _run_executorch(path: Path, inputs: np.ndarray) -> Iterator[np.ndarray]:
    torch = importlib.import_module("torch")
    program = importlib.import_module("executorch.runtime").Runtime.get().load_program(path)
    method = program.load_method("forward")
    for image in inputs:
        yield method.execute((torch.from_numpy(np.ascontiguousarray(image[None])),))[0].clone().numpy()


def _encoded(value: np.ndarray, entry: Mapping[str, Any]) -> np.ndarray:
    """In the element type of a quantised input."""
    scale, zero = entry["quantization"]
    if not scale:
        return np.ascontiguousarray(value, dtype=entry["dtype"])
    limits = np.iinfo(entry["dtype"])
    whole = np.clip(np.round(value / scale) + zero, limits.min, limits.max)
    return np.ascontiguousarray(whole, dtype=entry["dtype"])


def _decoded(value: np.ndarray, entry: Mapping[str, Any]) -> np.ndarray:
    scale, zero = entry["quantization"]
    return (value.astype(np.float32) - zero) * scale if scale else np.array(value)


# Target -> module to import, how its files are run, their suffixes, and the package that brings the module.
_RUNNERS: dict[str, tuple[str, Callable[[Path, np.ndarray], Iterator[np.ndarray]], tuple[str, ...], str]] = {
    "onnxruntime": ("onnxruntime", _run_onnxruntime, (".onnx",), "onnxruntime"),
    "openvino": ("openvino", _run_openvino, (".xml",), "openvino"),
    "litert": ("ai_edge_litert.interpreter", _run_litert, (".tflite",), "ai-edge-litert"),
    "executorch": ("executorch.runtime", _run_executorch, (".pte",), "executorch"),
}


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Nothing reaches the native error stream: runtimes greet there, and tell what they looked for."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def run_golden(target: str, path: Path, inputs: np.ndarray) -> np.ndarray | None:
    """Outputs ``(n, classes)`` float32 of a file, one sample a run, as on a device; None: nothing here can run it.

    Args:
        target: name of the file's target.
        path: of the file.
        inputs: ``(n, c, h, w)`` float32, as the model takes them.
    """
    if target not in _RUNNERS or path.is_dir() or path.suffix not in _RUNNERS[target][2]:
        return None
    with _silenced():
        outputs = [part.reshape(1, -1) for part in _RUNNERS[target][1](path, inputs)]
    return np.concatenate(outputs).astype(np.float32, copy=False)


def missing_runtime(target: str) -> str:
    """Empty where the runtime of a target can be imported; else one line: what is missing and how to get it."""
    if target not in _RUNNERS:
        return f"files of {target} cannot be run on this machine"
    module, _, _, package = _RUNNERS[target]
    try:
        with _silenced():
            importlib.import_module(module)
    except ImportError:
        return f"{module.partition('.')[0]} is not installed (pip install {package})"
    return ""
