"""Networks of the user's in ONNX files, and the teacher that a configuration names.

Responsible for what such a file must be, for bringing it to this library's form, and for running one as a teacher on a
training's batches; it shows scores and no feature maps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import ModelProto, TensorProto, helper, version_converter
from torch import Tensor

from nas.deploy.export import BATCH, INPUT, OPSET, OUTPUT
from nas.deploy.graph import lean, write_model
from nas.deploy.judge import run_file, session
from nas.deploy.profiling.work import node_macs, shapes_of
from nas.errors import UserError, first_line
from nas.train.compression.distillation import Distillation, Signals, Teacher
from nas.train.compression.options import CompressOptions
from nas.train.compression.teachers import TorchTeacher, import_teacher, resized

_WHERE = "compress.distil"
_LEAST_OPSET = 13  # from which weights may have a scale an output channel
_INTEGER = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger")
_SAMPLES = 2


def distillation_of(
    options: CompressOptions,
    *,
    input_shape: tuple[int, int, int],
    num_classes: int,
    allow: Sequence[str] = (),
    largest: TorchTeacher | None = None,
) -> Distillation | None:
    """The teacher that ``compress.distil`` names, and how much it counts; None where it names none.

    Args:
        options: of compression.
        input_shape: channels, height and width of the task's images.
        num_classes: of the task.
        allow: packages that a teacher's function may come from.
        largest: the largest network of the front, trained; None while it is itself being trained, which is without a
            teacher then.

    Raises:
        UserError: a teacher that is not there, or that does not score these images.
    """
    teacher: Teacher | None = None
    kind = options.distil_kind
    if kind == "largest":
        teacher = largest
    elif kind == "function":
        teacher = import_teacher(options.distil, input_shape=input_shape, num_classes=num_classes, allow=allow)
    elif kind == "onnx":
        teacher = OnnxTeacher(Path(options.distil).expanduser(), channels=input_shape[0], num_classes=num_classes)
        teacher(torch.zeros(2, *input_shape))  # what does not fit is told before anything is trained
    return None if teacher is None else Distillation(teacher=teacher, options=options.distil_options)


class OnnxTeacher:
    """A teacher that onnxruntime runs on the CPU, with one thread; `nas.train.compression.distillation.Teacher`.

    Args:
        path: of a file with one input ``(batch, c, h, w)`` float32, normalised as the task's images are, and scores
            ``(batch, classes)`` as its first output. Images of another height and width than it fixes are resized.
        channels: of the task's images.
        num_classes: of the task.

    Raises:
        UserError: no such file, or one that does not score these images.
    """

    def __init__(self, path: Path, *, channels: int, num_classes: int) -> None:
        if not path.is_file():
            raise UserError(_WHERE, f"must name a file, there is no {path}")
        self._session = session(path)
        self._path = path
        entry = self._session.get_inputs()[0]
        shape = entry.shape
        if len(self._session.get_inputs()) != 1 or len(shape) != 4 or entry.type != "tensor(float)":
            problem = f"{path.name} must take one input (batch, {channels}, h, w) of float32, it takes {shape}"
            raise UserError(_WHERE, problem)
        if isinstance(shape[1], int) and shape[1] != channels:
            raise UserError(_WHERE, f"{path.name} must take {channels} channels as the data has, it takes {shape[1]}")
        self._name = entry.name
        self._batch = shape[0] if isinstance(shape[0], int) else None
        height, width = shape[2:]
        self._size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
        self._num_classes = num_classes
        self.digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]

    def map_shapes(self, images: Tensor) -> Mapping[str, tuple[int, ...]]:
        """Nothing: a file shows no feature maps."""
        return {}

    def __call__(self, images: Tensor, maps: tuple[str, ...] = ()) -> Signals:
        """Scores ``(b, k)`` on the images' device.

        Raises:
            UserError: the file cannot be run, or gives something else than one score a class.
        """
        assert not maps
        values = np.ascontiguousarray(resized(images.detach().float(), self._size).cpu().numpy())
        step = self._batch or len(values)
        try:
            parts = [self._run(values[start : start + step], step) for start in range(0, len(values), step)]
        except Exception as error:  # onnxruntime's errors share no public base class
            raise UserError(_WHERE, f"{self._path.name} cannot be run, {first_line(error)}") from error
        logits = torch.from_numpy(np.concatenate(parts).astype(np.float32))
        if logits.shape != (len(values), self._num_classes):
            got = f"an output {tuple(logits.shape)} for {len(values)} images"
            raise UserError(_WHERE, f"{self._path.name} must give {self._num_classes} scores an image, got {got}")
        return Signals(logits=logits.to(images.device))

    def _run(self, values: np.ndarray, step: int) -> np.ndarray:
        """Outputs for at most ``step`` images, filled up where the file fixes its batch."""
        count = len(values)
        if self._batch is not None and count < step:
            values = np.concatenate([values, np.repeat(values[-1:], step - count, axis=0)])
        output: np.ndarray = self._session.run(None, {self._name: values})[0]
        return output[:count] if self._batch is not None else output


def file_work(path: Path) -> tuple[int, int]:
    """Multiply-accumulates of an ONNX file for one sample, and the numbers that it holds."""
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    shapes = shapes_of(onnx.shape_inference.infer_shapes(model).graph)
    macs = sum(node_macs(node, shapes) or 0 for node in model.graph.node)
    floats = [tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT]
    return macs, sum(int(np.prod(tensor.dims)) for tensor in floats)


def take_file(where: str, source: Path, path: Path, *, input_shape: tuple[int, int, int], num_classes: int) -> None:
    """Writes a user's file in the form of `nas.deploy.export`: the same network, checked on random images.

    Args:
        where: the field that names it, for errors.
        source: of the file.
        path: of the new file.
        input_shape: channels, height and width of the images that it is going to get.
        num_classes: of the task.

    Raises:
        UserError: no such file, or one that is not float32, does not score these images, or takes a fixed batch.
    """
    if not source.is_file():
        raise UserError(where, f"must be an ONNX file, there is no {source}")
    try:
        model = onnx.load(source)
        onnx.checker.check_model(model)
    except Exception as error:  # onnx and protobuf raise whatever their parts raise
        raise UserError(where, f"{source.name} is no valid ONNX file, {first_line(error)}") from error
    _check_interface(where, model, source.name, input_shape)
    loaded = session(source)
    entry, output = loaded.get_inputs()[0], loaded.get_outputs()[0]
    batch = entry.shape[0] if isinstance(entry.shape[0], int) else _SAMPLES
    images = np.random.default_rng(0).standard_normal((batch, *input_shape)).astype(np.float32)
    try:
        before = loaded.run([output.name], {entry.name: images})[0]
    except Exception as error:  # onnxruntime's errors share no public base class
        raise UserError(where, f"{source.name} cannot be run by onnxruntime, {first_line(error)}") from error
    if before.shape != (batch, num_classes):
        problem = f"must give {num_classes} scores an image, as the data has classes, got an output {before.shape}"
        raise UserError(where, f"{source.name} {problem} for {batch} images")
    write_model(lean(_in_our_form(where, model, source.name, num_classes)), path)
    both = np.concatenate([images, images])
    try:
        after = run_file(path, both, batch=len(both))[: len(images)]
    except UserError as error:
        problem = f"{source.name} must take any number of images at once, its batch is fixed at {batch}"
        raise UserError(where, problem, "export it with a dynamic batch axis") from error
    assert np.allclose(before, after, atol=1e-4 * max(1.0, float(np.abs(before).max()))), "the form changes nothing"


def _check_interface(where: str, model: ModelProto, name: str, input_shape: tuple[int, int, int]) -> None:
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise UserError(where, f"{name} must have one input, images, it has {len(inputs)} ({names})")
    tensor = inputs[0].type.tensor_type
    sizes = [dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or "?") for dim in tensor.shape.dim]
    told = " x ".join(map(str, sizes))
    if tensor.elem_type != TensorProto.FLOAT or len(sizes) != 4:
        kind = TensorProto.DataType.Name(tensor.elem_type).lower()
        raise UserError(where, f"{name} must take float32 images (batch, c, h, w), it takes {kind} ({told})")
    if not all(isinstance(size, int) for size in sizes[1:]):
        problem = f"{name} must have fixed channels, height and width, it takes {told}"
        raise UserError(where, problem, "python -m onnxruntime.tools.make_dynamic_shape_fixed fixes them")
    if tuple(sizes[1:]) != input_shape:
        given, wanted = "x".join(map(str, sizes[1:])), "x".join(map(str, input_shape))
        advice = f"give input={given} to have the images resized" if sizes[1] == input_shape[0] else "give its own data"
        raise UserError(where, f"{name} takes {given}, the images are {wanted}", advice)
    found = sorted({node.op_type for node in model.graph.node} & set(_INTEGER))
    if found:
        raise UserError(where, f"{name} must be float32, it is quantised already ({', '.join(found)})")
    if len(model.graph.output) > 1:
        names = ", ".join(value.name for value in model.graph.output)
        raise UserError(where, f"{name} must have one output, scores, it has {len(model.graph.output)} ({names})")


def _in_our_form(where: str, model: ModelProto, name: str, num_classes: int) -> ModelProto:
    """The same network with a free batch, our names for input and output, operators with names like paths."""
    version = next((entry.version for entry in model.opset_import if not entry.domain), 0)
    if version < OPSET:
        try:
            model = version_converter.convert_version(model, OPSET)
        except Exception as error:  # it raises whatever its adapters raise
            if version < _LEAST_OPSET:
                problem = f"{name} must have opset {_LEAST_OPSET} or later, it has {version}, {first_line(error)}"
                raise UserError(where, problem, "export it again") from error
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    images = next(value for value in graph.input if value.name not in constants)
    sizes = [dim.dim_value for dim in images.type.tensor_type.shape.dim][1:]
    # Inner values that are called as our input or output are called otherwise.
    renamed = {INPUT: f"{INPUT}_of_model", OUTPUT: f"{OUTPUT}_of_model"}
    renamed |= {images.name: INPUT, graph.output[0].name: OUTPUT}
    del graph.input[:], graph.output[:], graph.value_info[:]
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [BATCH, *sizes]))
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [BATCH, num_classes]))
    for tensor in graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
    for number, node in enumerate(graph.node):
        node.input[:] = [renamed.get(value, value) for value in node.input]
        node.output[:] = [renamed.get(value, value) for value in node.output]
        if "/" not in node.name:
            node.name = f"/{node.op_type.lower()}_{number}/{node.op_type}"
    return onnx.shape_inference.infer_shapes(model)
