"""A network with the precision that each of its operators was given.

Responsible for applying one form after the other: what was calibrated first, then what is quantised at run time, then
4 bits, then float16.
"""

from __future__ import annotations

import copy

from onnx import ModelProto
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from nas.deploy.options import Precision
from nas.deploy.precision.assignment import Assignment
from nas.deploy.precision.calibration import Calibrated
from nas.deploy.precision.dynamic import to_dynamic
from nas.deploy.precision.int4 import to_int4


def mixed_model(
    prepared: ModelProto, assignment: Assignment, *, calibrated: Calibrated | None, block: int
) -> ModelProto:
    """The network in the given precisions, as a new model; names are those that the tools give.

    Args:
        prepared: of `nas.deploy.precision.calibration.prepare`; not changed.
        assignment: operator -> precision.
        calibrated: ranges; needed where an operator is ``int8``.
        block: weights that share a scale in 4 bits.
    """

    def given(precision: Precision) -> list[str]:
        return [name for name, own in assignment.items() if own == precision]

    if given("int8"):
        assert calibrated is not None
        model = calibrated.quantised(given("int8"))
    else:
        model = copy.deepcopy(prepared)
    if given("int8-dynamic"):
        model = to_dynamic(model, given("int8-dynamic"))
    if given("int4"):
        model = to_int4(model, given("int4"), block=block)
    if given("float16"):
        half = set(given("float16"))
        kept = [node.name for node in model.graph.node if node.name not in half]
        model = convert_float_to_float16(model, keep_io_types=True, node_block_list=kept)
        # It puts its conversions at the end of the graph, behind the nodes that read them.
        OnnxModel.graph_topological_sort(model.graph)
    return model
