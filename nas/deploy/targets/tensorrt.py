"""TensorRT on NVIDIA GPUs: an ONNX file that is checked to be fit, and a script that builds and times it there.

Responsible for what TensorRT's parser asks for: 8-bit numbers that are signed with zero points of 0, biases in float, a
fixed batch, and operators that it knows. Nothing of TensorRT runs here: the answers of the file are judged in
onnxruntime, the engine that the script builds is not seen, and the level is ``script-only``.

The table of operators follows the support matrix of ONNX-TensorRT for TensorRT 10.1 (opsets 9 to 20).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from nas.deploy.graph_checks import asymmetries
from nas.deploy.judge import run_file
from nas.deploy.options import DeployOptions
from nas.deploy.targets.fallbacks import OperatorTable, by_table
from nas.deploy.targets.onnx_files import with_batch, write_onnx
from nas.deploy.targets.target import Artifact, Fallback, Level, Source, Verification, check_precision, verified
from nas.errors import UserError

_FILES = {"float32": "model.fp32.onnx", "float16": "model.fp16.onnx", "int8": "model.int8.onnx"}
_MAX_OPSET = 20
_NEVER = "has no layer in TensorRT; its parser refuses the model"
TABLE = OperatorTable(
    source="ONNX-TensorRT operators.md for TensorRT 10.1; not run here",
    accelerated=frozenset(
        {"Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Conv", "DequantizeLinear", "Div"}
        | {"Erf", "Flatten", "Gather", "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish"}
        | {"LayerNormalization", "LeakyRelu", "MatMul", "Max", "MaxPool", "Min", "Mul", "Neg", "Pad", "PRelu", "Pow"}
        | {"QuantizeLinear", "ReduceMax", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Resize", "Sigmoid", "Slice"}
        | {"Softmax", "Softplus", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Transpose", "Unsqueeze", "Where"}
    ),
    others=dict.fromkeys(
        ("ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"), ("refused", _NEVER)
    ),
    unknown="refused",
)


@dataclass(frozen=True, kw_only=True)
class TensorRt:
    """See `nas.deploy.targets.target.Target`. Needs nothing here: the GPU and TensorRT are on the device.

    Attributes:
        options: how files are made that the model folder does not have in the form wanted.
    """

    options: DeployOptions = field(default_factory=DeployOptions)
    name: str = field(default="tensorrt", init=False)
    level: Level = field(default="script-only", init=False)
    precisions: tuple[str, ...] = field(default=tuple(_FILES), init=False)

    def available(self) -> str:
        """Empty: files and scripts are written anywhere."""
        return ""

    def export(self, source: Source, folder: Path, precision: str) -> Artifact:
        """Writes the ONNX file, a script ``build_and_bench.<precision>.sh``, and what the script checks answers by.

        Raises:
            UserError: an operator that TensorRT's parser refuses.
        """
        check_precision(self, precision)
        path = folder / _FILES[precision]
        with tempfile.TemporaryDirectory(prefix="nas-tensorrt-") as scratch:
            free = Path(scratch) / "free.onnx"
            write_onnx(source, precision, free, self.options, activations="signed" if precision == "int8" else None)
            with_batch(free, path, 1)
        problems = _unfit(path, precision)
        if problems:
            path.unlink()
            raise UserError("target tensorrt", f"cannot take the model, {problems[0]}", _MORE if problems[1:] else "")
        extras = _write_script(path, source)
        return Artifact(path=path, precision=precision, extras=extras, notes=_NOTES)

    def verify(self, artifact: Artifact, source: Source) -> Verification:
        """Checks fitness and the script's syntax, and judges the file's answers in onnxruntime in TensorRT's stead."""
        if not artifact.path.is_file():
            raise UserError(str(artifact.path), "must be an ONNX file, there is none", "export the model again")
        logits = run_file(artifact.path, source.samples.test, batch=1)
        figures: dict[str, float | str | None] = {
            "runtime": "tensorrt",
            "runtime_version": None,
            "judged_in": f"onnxruntime {onnxruntime.__version__}",
            "latency_ms": None,
            "peak_bytes": None,
        }
        found = verified(logits, source, artifact, level=self.level, options=self.options, figures=figures)
        problems = [*_unfit(artifact.path, artifact.precision), *_broken_scripts(artifact.extras)]
        if not problems:
            return found
        return Verification(level=self.level, judgement=found.judgement, reason=problems[0], figures=figures)

    def fallbacks(self, float32_file: Path, precision: str) -> Sequence[Fallback]:
        """Operators that TensorRT's parser refuses. It has no other processor to fall back on."""
        check_precision(self, precision)
        return by_table(float32_file, TABLE)


_MORE = "nas check target=tensorrt lists all"
_NOTES = (
    "nothing of TensorRT ran where this was made: run the script on the device, it builds, checks and times",
    "takes one image at a time",
)


def _unfit(path: Path, precision: str) -> list[str]:
    """Why TensorRT would not take a file, one line a reason."""
    model = onnx.load(path)
    found = [f"{finding.operator} ({finding.node or 'no name'}) {finding.reason}" for finding in TABLE.findings(model)]
    opset = max((entry.version for entry in model.opset_import if not entry.domain), default=0)
    if opset > _MAX_OPSET:
        found.append(f"it is of opset {opset}, must be at most {_MAX_OPSET}")
    sizes = [dim.dim_value for value in model.graph.input for dim in value.type.tensor_type.shape.dim]
    if not all(sizes):
        found.append(f"its input must have fixed sizes, has {sizes}")
    if precision == "int8":
        kinds = {node.op_type for node in model.graph.node}
        found += asymmetries(model) if "QuantizeLinear" in kinds else ["it must be quantised, has no QuantizeLinear"]
    return found


def _write_script(path: Path, source: Source) -> tuple[Path, ...]:
    """The script, and beside it an image as raw little-endian float32 with the file's own answer to it."""
    image = np.ascontiguousarray(source.samples.test[:1], dtype="<f4")
    stem = path.name.removesuffix(".onnx")
    raw, answer = path.with_name(f"{stem}.input.bin"), path.with_name(f"{stem}.logits.json")
    raw.write_bytes(image.tobytes())
    logits = run_file(path, image, batch=1)[0]
    answer.write_text(json.dumps([float(value) for value in logits]) + "\n", encoding="utf-8")
    script = path.with_name(f"build_and_bench.{stem.removeprefix('model.')}.sh")
    text = (Path(__file__).with_name("tensorrt.sh").read_text(encoding="utf-8")).replace("@STEM@", stem)
    script.write_text(text, encoding="utf-8")
    script.chmod(0o755)
    return script, raw, answer


def _broken_scripts(extras: Sequence[Path]) -> list[str]:
    """What bash finds wrong with the scripts without running them; nothing where there is no bash."""
    bash = shutil.which("bash")
    if bash is None:
        return []
    checked = [(script, _check(bash, script)) for script in extras if script.suffix == ".sh"]
    return [f"{script.name} is no valid script, {text}" for script, text in checked if text]


def _check(bash: str, script: Path) -> str:
    done = subprocess.run([bash, "-n", str(script)], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else " ".join(done.stderr.split())
