"""float32 ONNX files -> float16 ONNX files.

Responsible for half precision: weights and activations in 16 bits, inputs and outputs still in float32, so that the
file is used like the one that it came from. Runtimes without float16 kernels (onnxruntime on x86 processors) convert
around every operator and are slower with such a file; GPUs and phones are faster.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from nas.deploy.graph import write_model
from nas.deploy.quiet import quiet_tools
from nas.errors import UserError, first_line


def halve(path_float32: Path, path_float16: Path) -> None:
    """Writes the float16 form of a float32 file; equal inputs give equal bytes.

    Args:
        path_float32: a file of `nas.deploy.export`.
        path_float16: of the new file; replaced in one step.

    Raises:
        UserError: the network cannot be converted.
    """
    try:
        with quiet_tools():
            model = convert_float_to_float16(onnx.load(path_float32), keep_io_types=True)
            # It puts its conversions at the end of the graph, behind the nodes that read them.
            OnnxModel.graph_topological_sort(model.graph)
            write_model(model, path_float16)
    except Exception as error:  # the converter raises whatever its parts raise
        problem = f"cannot be converted to float16, {first_line(error)}"
        raise UserError(path_float32.name, problem, "ship the float32 file") from error
