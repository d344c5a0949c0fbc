"""The two graphs of a profile: the file's own, and the one that onnxruntime makes of it for this processor.

Responsible for giving every operator of both a name by which it is known again. onnxruntime renames, fuses and adds
operators and keeps no metadata, but it derives names from names: the file's operator 17 is called ``@17`` before the
runtime sees it, so that ``@17_token_5`` can be nothing else.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from onnx import ModelProto, shape_inference

from nas.errors import UserError, first_line

SOURCE_PREFIX = "@"
KERNEL_PREFIX = "kernel"


@dataclass(frozen=True, kw_only=True, eq=False)
class Graphs:
    """Both graphs, in onnx's form.

    Attributes:
        source: the file's graph; its operators keep their names, and shapes are inferred for the batch.
        runtime: what onnxruntime runs; operators are named ``kernel0``, ``kernel1``, ...
        kernel_names: the name that onnxruntime gave to each operator of ``runtime``, made from ``@<source index>``.
    """

    source: ModelProto
    runtime: ModelProto
    kernel_names: tuple[str, ...]


def read_graphs(path: Path, options: Any, *, batch: int) -> Graphs:
    """The graphs of the file at ``path``.

    Args:
        path: an ONNX file that onnxruntime can run with ``options``.
        options: session options that the file is timed with; changed in place.
        batch: for dimensions that the file leaves open.

    Raises:
        UserError: not an ONNX file, or onnxruntime cannot write the graph that it makes of it.
    """
    source = read_source(path)
    free = {dim.dim_param for value in source.graph.input for dim in value.type.tensor_type.shape.dim if dim.dim_param}
    for name in sorted(free):
        options.add_free_dimension_override_by_name(name, batch)
    # Tensors in files beside the model are found from its folder, which bytes do not have.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.resolve().parent))
    with tempfile.TemporaryDirectory(prefix="nas-profile-") as folder:
        target = Path(folder) / "runtime.onnx"
        options.optimized_model_filepath = str(target)
        try:
            content = _numbered(source).SerializeToString()
            onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            runtime = onnx.load(target, load_external_data=False)
        except Exception as error:  # errors of onnx and onnxruntime share no public base class
            raise UserError(str(path), f"cannot be profiled, {first_line(error)}", "export the model again") from error
    names = tuple(node.name for node in runtime.graph.node)
    for index, node in enumerate(runtime.graph.node):
        node.name = f"{KERNEL_PREFIX}{index}"
    return Graphs(source=_with_shapes(source, batch), runtime=runtime, kernel_names=names)


def read_source(path: Path) -> ModelProto:
    """The model in the file, without tensors that lie in other files.

    Raises:
        UserError: no such file, or not an ONNX model.
    """
    if not path.is_file():
        raise UserError(str(path), "must be an ONNX file, there is none", "give the path of a .onnx file")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf raises errors of its own
        raise UserError(str(path), "must be an ONNX file, it is none", "give the path of a .onnx file") from error
    if not model.graph.node:
        raise UserError(str(path), "must be an ONNX file with operators, it has none", "give the path of a .onnx file")
    return model


def _numbered(model: ModelProto) -> ModelProto:
    numbered = ModelProto.FromString(model.SerializeToString())
    for index, node in enumerate(numbered.graph.node):
        node.name = f"{SOURCE_PREFIX}{index}"
    return numbered


def _with_shapes(model: ModelProto, batch: int) -> ModelProto:
    """The model with what is known about the shape of every value; open dimensions are the batch."""
    fixed = ModelProto.FromString(model.SerializeToString())
    for value in (*fixed.graph.input, *fixed.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if not dim.dim_value:
                dim.dim_value = batch
    del fixed.graph.value_info[:]
    try:
        return shape_inference.infer_shapes(fixed, data_prop=True)
    except Exception:  # operators that onnx does not know: MACs stay unknown, nothing else needs the shapes
        return fixed
