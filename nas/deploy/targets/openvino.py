"""OpenVINO on the processor: IR files (``.xml`` with ``.bin``), saved, read back and run.

Responsible for float32 that is float32. On processors with bf16 units OpenVINO computes in bf16 unless it is told
otherwise, and says nothing; every session here pins the precision. The package reports usage to its vendor, through
``openvino_telemetry``; that package is kept out, so that exporting a model tells nobody.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nas.deploy.options import DeployOptions
from nas.deploy.profiling.graphs import read_source
from nas.deploy.profiling.labels import label_operators
from nas.deploy.quiet import quiet_tools
from nas.deploy.targets.calibration import calibration_images
from nas.deploy.targets.extras import Extra
from nas.deploy.targets.onnx_files import check_input, with_batch, write_onnx, write_untrained
from nas.deploy.targets.stopwatch import least_ms
from nas.deploy.targets.target import Artifact, Fallback, Level, Source, Verification, check_precision, verified
from nas.errors import UserError, first_line

OPENVINO = Extra(name="openvino", pins={"openvino": ("2026.4", "2027")})
NNCF = Extra(name="openvino", pins={"openvino": ("2026.4", "2027"), "nncf": ("3.4", "4")})
Quantiser = Literal["qdq", "nncf"]

_FILES = {"float32": "model.fp32.xml", "float16": "model.fp16.xml", "int8": "model.int8.xml"}
_TELEMETRY = "openvino_telemetry"
# What computes: layers of other types hand values on.
_COMPUTING = frozenset(
    {"Convolution", "FullyConnected", "MatMul", "Math", "Eltwise", "Pooling", "Reduce", "Subgraph", "Softmax", "MVN"}
)
_CONVERTING = frozenset({"QuantizeLinear", "DequantizeLinear"})


@dataclass(frozen=True, kw_only=True)
class OpenVino:
    """See `nas.deploy.targets.target.Target`.

    Attributes:
        options: how ONNX files are made that the model folder does not have.
        quantiser: where INT8 comes from: ``qdq`` takes the ONNX file's own ranges over, so that both runtimes ship one
            network; ``nncf`` lets Intel's tool quantise the float32 file for this runtime.
    """

    options: DeployOptions = field(default_factory=DeployOptions)
    quantiser: Quantiser = "qdq"
    name: str = field(default="openvino", init=False)
    level: Level = field(default="executed", init=False)
    precisions: tuple[str, ...] = field(default=tuple(_FILES), init=False)

    def available(self) -> str:
        """Whether openvino (and nncf, where it quantises) is there."""
        return self._extra.missing()

    @property
    def _extra(self) -> Extra:
        return NNCF if self.quantiser == "nncf" else OPENVINO

    def export(self, source: Source, folder: Path, precision: str) -> Artifact:
        """Writes ``model.<precision>.xml`` and ``.bin`` for a batch of one; float16 stores weights in 16 bits."""
        check_precision(self, precision)
        vino = _load(self._extra)
        path = folder / _FILES[precision]
        with tempfile.TemporaryDirectory(prefix="nas-openvino-") as scratch:
            model = self._read(vino, source, precision, Path(scratch))
            # Written elsewhere first: a folder never holds half a model.
            done = Path(scratch) / path.name
            vino.save_model(model, str(done), compress_to_fp16=precision == "float16")
            for part in (done.with_suffix(".bin"), done):
                _move(part, folder / part.name)
        return Artifact(
            path=path, precision=precision, extras=(path.with_suffix(".bin"),), notes=_notes(precision, self.quantiser)
        )

    def _read(self, vino: Any, source: Source, precision: str, scratch: Path) -> Any:
        takes_qdq = precision == "int8" and self.quantiser == "qdq"
        written, file = scratch / "free.onnx", scratch / "fixed.onnx"
        write_onnx(source, "int8" if takes_qdq else "float32", written, self.options)
        with_batch(written, file, 1)
        try:
            model = vino.Core().read_model(str(file))
            if precision == "int8" and not takes_qdq:
                model = self._quantised(model, source)
        except UserError:
            raise
        except Exception as error:  # openvino's errors share no public base class
            problem = f"cannot read the model, {first_line(error)}"
            raise UserError("target openvino", problem, "nas check target=openvino names its operators") from error
        return model

    def _quantised(self, model: Any, source: Source) -> Any:
        nncf = _load(self._extra, "nncf")
        images = calibration_images(source, self.options.calibration_images)
        dataset = nncf.Dataset([image[None] for image in images])
        with quiet_tools():
            return nncf.quantize(model, dataset, subset_size=len(images), preset=nncf.QuantizationPreset.MIXED)

    def verify(self, artifact: Artifact, source: Source) -> Verification:
        """Reads the saved files and runs them on all test images, one by one, on one thread, in pinned precision."""
        vino = _load(OPENVINO)
        compiled = pinned_session(artifact.path)
        check_input([dim.get_length() for dim in compiled.input(0).get_partial_shape()], source, artifact.path)
        request = compiled.create_infer_request()

        def run(image: np.ndarray) -> np.ndarray:
            return np.array(request.infer({0: np.ascontiguousarray(image, dtype=np.float32)})[0])

        images = source.samples.test
        logits = np.concatenate([run(images[start : start + 1]) for start in range(images.shape[0])])
        one = np.ascontiguousarray(images[:1], dtype=np.float32)
        figures: dict[str, float | str | None] = {
            "runtime": "openvino",
            "runtime_version": _version(vino),
            "latency_ms": least_ms(lambda: request.infer({0: one}, share_inputs=True)),
            "peak_bytes": None,
            "inference_precision": _type_name(compiled.get_property("INFERENCE_PRECISION_HINT")),
            "default_precision": _type_name(vino.Core().get_property("CPU", "INFERENCE_PRECISION_HINT")),
        }
        return verified(logits, source, artifact, level=self.level, options=self.options, figures=figures)

    def fallbacks(self, float32_file: Path, precision: str) -> Sequence[Fallback]:
        """Layers of an INT8 model that OpenVINO computes in float32 on this processor; none for other precisions.

        Raises:
            UserError: openvino is missing; only it can tell.
        """
        check_precision(self, precision)
        if precision != "int8":
            return ()
        vino = _load(OPENVINO)
        with tempfile.TemporaryDirectory(prefix="nas-check-") as folder:
            written, file = Path(folder) / "free.onnx", Path(folder) / "fixed.onnx"
            write_untrained(precision, float32_file, written, self.options)
            with_batch(written, file, 1)
            compiled = pinned_session(file)
            return _float_layers(compiled, file, f"run here, openvino {_version(vino)}")


def _load(extra: Extra, module: str = "openvino") -> Any:
    """The module, without the vendor's usage reports."""
    sys.modules.setdefault(_TELEMETRY, None)  # type: ignore[arg-type]  # None makes an import fail, as documented
    return extra.load(module, target="openvino")


def pinned_session(path: Path) -> Any:
    """A file that openvino reads (IR or ONNX), compiled for one thread of this processor, computing in float32.

    Raises:
        UserError: openvino is missing, or cannot load the file.
    """
    vino = _load(OPENVINO)
    if not path.is_file():
        raise UserError(str(path), "must be an OpenVINO model, there is none", "export the model again")
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    try:
        core = vino.Core()
        return core.compile_model(core.read_model(str(path)), "CPU", settings)
    except Exception as error:  # as above
        raise UserError(str(path), f"cannot be loaded by openvino, {first_line(error)}", "export it again") from error


def _float_layers(compiled: Any, file: Path, source: str) -> tuple[Fallback, ...]:
    """The layers that compute in float32, as operators of the file that was compiled."""
    graph = read_source(file).graph
    places: dict[str, tuple[str, str]] = {}
    for node, label in zip(graph.node, label_operators(graph), strict=True):
        if node.op_type not in _CONVERTING and label:
            known = (node.op_type, "/".join(label))
            # openvino calls a layer after the operator, or after what the operator makes.
            places |= {name: known for name in (node.name, *node.output) if name}
    found = []
    for layer in compiled.get_runtime_model().get_ordered_ops():
        facts = layer.get_rt_info()
        kind, precision = facts["layerType"].astype(str), facts["runtimePrecision"].astype(str)
        if kind not in _COMPUTING or precision != "f32":
            continue
        names = facts["originalLayersNames"].astype(str).split(",")
        found += [places[name] for name in reversed(names) if name in places][:1]
    reason = "there is no 8-bit kernel for it, it runs between conversions"
    return tuple(
        Fallback(operator=operator, node=f"/{place}/{operator}", effect="float", reason=reason, source=source)
        for operator, place in dict.fromkeys(found)
    )


def _notes(precision: str, quantiser: Quantiser) -> tuple[str, ...]:
    pinned = "set INFERENCE_PRECISION_HINT=f32: processors with bf16 units compute in bf16 otherwise"
    batch = "takes one image at a time"
    if precision == "int8":
        return (
            "ranges are those of the ONNX file" if quantiser == "qdq" else "quantised by nncf, preset mixed",
            pinned,
            batch,
        )
    if precision == "float16":
        return ("weights are stored in float16; it computes in what INFERENCE_PRECISION_HINT says, float32 here", batch)
    return (pinned, batch)


def _version(vino: Any) -> str:
    """``2026.4.1``, without the build."""
    return str(vino.__version__).partition("-")[0]


def _type_name(kind: Any) -> str:
    """``f32``, ``bf16``, from openvino's type object."""
    return str(kind.get_type_name())


def _move(part: Path, target: Path) -> None:
    partial = target.with_name(f".{target.name}")
    partial.write_bytes(part.read_bytes())
    partial.replace(target)
