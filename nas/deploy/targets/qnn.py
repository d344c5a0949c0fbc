"""Qualcomm's NPU (HTP) through onnxruntime's QNN provider: a QDQ file, and the binary that is compiled from it.

Responsible for files of which every operator runs on the NPU. The wheel for x86 Linux brings Qualcomm's simulator of
it: answers there are the device's integer arithmetic, so files are judged on it, with the fallback to the processor
switched off; its times say nothing about a phone's, and none is given.

Every convolution and matrix product is in 8 bits: one in floats made the simulator refuse the whole (error 1002).
Activations are unsigned: with signed ones the provider of version 2.7 leaves every HardSigmoid, and so every
hard-swish, to the processor. Operators are those of the provider's documentation, and of runs here.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from nas.deploy.options import DeployOptions
from nas.deploy.profiling.graphs import read_source
from nas.deploy.profiling.labels import label_operators
from nas.deploy.targets.extras import Extra
from nas.deploy.targets.fallbacks import OperatorTable, by_table
from nas.deploy.targets.onnx_files import check_input, with_batch, write_onnx, write_untrained
from nas.deploy.targets.target import Artifact, Fallback, Level, Source, Verification, check_precision, verified
from nas.errors import UserError, first_line

QNN = Extra(name="qnn", pins={"onnxruntime-qnn": ("2.7", "3"), "onnxruntime": ("1.24.1", "2")})
_PROVIDER = "QNN"
_SILENT = 4
_SAME, _COMPARED = 1e-6, 4
_CONVERTING = frozenset({"QuantizeLinear", "DequantizeLinear"})
TABLE = OperatorTable(
    source="documentation of onnxruntime's QNN provider, version 2.0; not run here",
    accelerated=frozenset(
        {"Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Conv", "DequantizeLinear", "Div", "Exp"}
        | {"Flatten", "Gather", "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish", "Max"}
        | {"LayerNormalization", "LeakyRelu", "MatMul", "MaxPool", "Min", "Mul", "Neg", "Pad", "PRelu", "Pow"}
        | {"QuantizeLinear", "ReduceMax", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Resize", "Sigmoid", "Slice"}
        | {"Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Transpose", "Unsqueeze", "Where"}
    ),
)


@dataclass(frozen=True, kw_only=True)
class Qnn:
    """See `nas.deploy.targets.target.Target`.

    Attributes:
        options: how files are made that the model folder does not have in the form wanted.
        htp_arch: version of the NPU that the binary is compiled for: 68, 69, 73, 75, 79 or 81, as Qualcomm counts.
        images: test images that the simulator runs, at most, spread over the split: it takes 3 to 200 ms for one.
    """

    options: DeployOptions = field(default_factory=DeployOptions)
    htp_arch: int = 73
    images: int = 200
    name: str = field(default="qnn", init=False)
    level: Level = field(default="simulated", init=False)
    precisions: tuple[str, ...] = field(default=("int8",), init=False)

    def available(self) -> str:
        """Whether onnxruntime-qnn is there: wheels are for Linux and Windows on x86, and for Windows on ARM."""
        return QNN.missing()

    def export(self, source: Source, folder: Path, precision: str) -> Artifact:
        """Writes ``model.int8.onnx`` for a batch of one, and the compiled ``model.int8.htp<arch>.onnx``.

        Raises:
            UserError: the provider is missing, or an operator would leave the NPU; names the operators.
        """
        check_precision(self, precision)
        path = folder / "model.int8.onnx"
        compiled = folder / f"model.int8.htp{self.htp_arch}.onnx"
        QNN.check(self.name)
        with tempfile.TemporaryDirectory(prefix="nas-qnn-") as scratch:
            free, fixed, binary = (Path(scratch) / name for name in ("free.onnx", "fixed.onnx", "binary.onnx"))
            write_onnx(source, precision, free, self.options, activations="unsigned", whole=True)
            with_batch(free, fixed, 1)
            _compile(fixed, binary, self.htp_arch)
            for made, target in ((fixed, path), (binary, compiled)):
                partial = target.with_name(f".{target.name}")
                partial.write_bytes(made.read_bytes())
                partial.replace(target)
        notes = (
            f"{compiled.name} is compiled for HTP {self.htp_arch}; elsewhere the provider compiles {path.name} itself",
            "ran on Qualcomm's simulator, with the fallback to the processor switched off; it has no latency to give",
            "takes one image at a time",
        )
        return Artifact(path=path, precision=precision, extras=(compiled,), notes=notes)

    def verify(self, artifact: Artifact, source: Source) -> Verification:
        """Runs the file on the simulator without fallback, and checks that the compiled one gives the same answers."""
        if not artifact.path.is_file():
            raise UserError(str(artifact.path), "must be an ONNX file, there is none", "export the model again")
        count = min(self.images, source.samples.test.shape[0])
        picked = np.linspace(0, source.samples.test.shape[0] - 1, count).round().astype(int)
        loaded = _session(artifact.path, self.htp_arch)
        check_input(loaded.get_inputs()[0].shape, source, artifact.path)
        logits, off = _answers(loaded, source, picked), 0.0
        for extra in artifact.extras:
            answers = _answers(_session(extra, self.htp_arch), source, picked[:_COMPARED])
            off = max(off, float(np.abs(answers - logits[:_COMPARED]).max()))
        figures: dict[str, float | str | None] = {
            "runtime": "onnxruntime-qnn",
            "runtime_version": QNN.versions()["onnxruntime-qnn"],
            "onnxruntime_version": onnxruntime.__version__,
            "htp_arch": self.htp_arch,
            "latency_ms": None,
            "peak_bytes": None,
            "operators_off_the_npu": 0,
        }
        found = verified(
            logits, source, artifact, level=self.level, options=self.options, figures=figures, images=picked
        )
        extent = float(np.ptp(source.reference)) or 1.0
        if off > _SAME * extent:
            return replace(found, reason=f"the compiled file answers otherwise, by {off / extent:.1g} of the range")
        return found

    def fallbacks(self, float32_file: Path, precision: str) -> Sequence[Fallback]:
        """Operators that the provider leaves to the processor; from a run here, or without the extra from a table."""
        check_precision(self, precision)
        if self.available():
            return by_table(float32_file, TABLE)
        with tempfile.TemporaryDirectory(prefix="nas-check-") as scratch:
            free, fixed = Path(scratch) / "free.onnx", Path(scratch) / "fixed.onnx"
            write_untrained(precision, float32_file, free, replace(self.options, activations="unsigned"))
            with_batch(free, fixed, 1)
            return _left_to_processor(fixed, self.htp_arch)


def _devices() -> Sequence[Any]:
    """The NPU's simulator as onnxruntime's device. The provider stays registered in the process once it is asked for.

    Raises:
        UserError: the extra is missing, or there is no simulator for this system.
    """
    provider = QNN.load("onnxruntime_qnn", target="qnn")
    if not _found():
        onnxruntime.register_execution_provider_library(_PROVIDER, provider.get_library_path())
    if not _found():
        raise UserError("target qnn", "the provider finds no device here", "it has a simulator for Linux on x86 only")
    return _found()


def _found() -> Sequence[Any]:
    return [device for device in onnxruntime.get_ep_devices() if device.ep_name == _PROVIDER]


def _session(path: Path, htp_arch: int, *, binary: Path | None = None, fallback: bool = False) -> Any:
    """A session on the simulator.

    Args:
        path: a quantised file with a fixed batch, or a compiled one.
        htp_arch: version of the NPU.
        binary: where to write the compiled file; None: nowhere.
        fallback: whether operators may be left to the processor.

    Raises:
        UserError: an operator would be left to the processor, or the provider cannot compile the file.
    """
    provider = QNN.load("onnxruntime_qnn", target="qnn")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if not fallback:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if binary is not None:
        options.add_session_config_entry("ep.context_enable", "1")
        options.add_session_config_entry("ep.context_embed_mode", "1")
        options.add_session_config_entry("ep.context_file_path", str(binary))
    settings = {"backend_path": provider.get_qnn_htp_path(), "htp_arch": str(htp_arch)}
    devices = _devices()
    with _streams_closed():
        try:
            options.add_provider_for_devices(devices, settings)
            return onnxruntime.InferenceSession(str(path), options)
        except Exception as error:  # onnxruntime's errors share no public base class
            problem = f"cannot be compiled for the NPU, {first_line(error)}"
            advice = "nas check target=qnn names the operators"
            raise UserError(path.name, problem, advice) from error


def _compile(fixed: Path, binary: Path, htp_arch: int) -> None:
    """Writes the compiled file. Raises `UserError` with the operators that stand in the way, where some do."""
    try:
        _session(fixed, htp_arch, binary=binary)
    except UserError as error:
        left = dict.fromkeys(f"{one.operator} ({one.node})" for one in _left_to_processor(fixed, htp_arch) if one.node)
        if not left:
            raise
        problem = f"cannot run the model as a whole, {len(left)} operators would leave the NPU, e.g. {next(iter(left))}"
        raise UserError("target qnn", problem, "nas check target=qnn tells the choices that bring them in") from error


def _answers(loaded: Any, source: Source, picked: np.ndarray) -> np.ndarray:
    """Logits ``(k, classes)`` for test images, one at a time."""
    name = loaded.get_inputs()[0].name
    rows = []
    for index in picked:
        image = np.ascontiguousarray(source.samples.test[index : index + 1], dtype=np.float32)
        rows.append(loaded.run(None, {name: image})[0])
    return np.concatenate(rows).astype(np.float32, copy=False)


def _left_to_processor(path: Path, htp_arch: int) -> Sequence[Fallback]:
    """The operators of a file that a session with fallback gives to onnxruntime's own kernels."""
    try:
        loaded = _session(path, htp_arch, fallback=True)
    except UserError as error:
        source = f"run here, onnxruntime-qnn {QNN.versions()['onnxruntime-qnn']}"
        return (Fallback(operator="model", node="", effect="refused", reason=error.problem, source=source),)
    graph = read_source(path).graph
    places = {node.output[0]: label for node, label in zip(graph.node, label_operators(graph), strict=True)}
    names = {node.name: places[node.output[0]] for node in graph.node if node.name}
    found = []
    for subgraph in loaded.get_provider_graph_assignment_info():
        if subgraph.ep_name == _PROVIDER:
            continue
        for node in subgraph.get_nodes():
            if node.op_type in _CONVERTING:
                continue
            place = "/".join(names.get(node.name, ()))
            found.append(
                Fallback(
                    operator=node.op_type,
                    node=f"/{place}/{node.op_type}" if place else node.name or node.op_type,
                    effect="leaves",
                    reason="the NPU has no kernel for it in this form; the processor runs it",
                    source=f"run here, onnxruntime-qnn {QNN.versions()['onnxruntime-qnn']} on the simulator",
                )
            )
    return tuple(found)


@contextmanager
def _streams_closed() -> Iterator[None]:
    """Nothing on standard output and error within, from native libraries either, which print banners there."""
    kept = [os.dup(stream) for stream in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        yield
    finally:
        for stream, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, stream)
            os.close(copy)
        os.close(nowhere)
