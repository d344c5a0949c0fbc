"""Which operator of a file gets which precision.

Responsible for going from the precision of a file, of its stages and of single operators to one for each operator.
Operators are known by their names, which begin with the modules that they come from (`nas.deploy.node_names`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from onnx import ModelProto

from nas.deploy.options import PRECISIONS, Precision, Rest
from nas.deploy.precision.calibration import QUANTISABLE
from nas.deploy.precision.dynamic import dynamic_operators
from nas.deploy.precision.int4 import constant_products
from nas.errors import UserError, unknown_name

Assignment = Mapping[str, Precision]
"""Operator -> its precision; operators that are not named stay in float32."""


MOVING = ("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "MaxPool")
"""Operators that hand values on: they move what they read in its own precision."""

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a file should be.

    Attributes:
        precision: of all operators that nothing else is said about.
        stages: beginning of operators' names in whole modules, e.g. ``s2_stage1_0`` or ``blocks/blocks.0`` ->
            precision; where several fit, the longest holds.
        keep_float: operators that stay in float32 whatever else is said.
        rest: precision of what an INT4 file cannot hold in 4 bits.
    """

    precision: Precision
    stages: Mapping[str, Precision] = field(default_factory=dict)
    keep_float: Collection[str] = ()
    rest: Rest = "int8"


def assign(prepared: ModelProto, wish: Wish) -> dict[str, Precision]:
    """The precision of each operator, in the order of the graph; operators that stay in float32 are left out.

    An operator that its precision has no form for gets the nearest one that has: in an INT4 file the operators with
    weights that are no matrix product get ``wish.rest``, and operators without weights follow what they read.

    Args:
        prepared: of `nas.deploy.precision.calibration.prepare`.
        wish: for it.

    Raises:
        UserError: an unknown precision, a stage that no operator belongs to, or an operator that is not there.
    """
    names = [node.name for node in prepared.graph.node]
    _check(wish, names)
    found: dict[str, Precision] = {name: _wished(name, wish) for name in names}
    products, dynamic = set(constant_products(prepared)), set(dynamic_operators(prepared))
    constants = {tensor.name for tensor in prepared.graph.initializer}
    assigned: dict[str, Precision] = {}
    following: set[str] = set()
    for node in prepared.graph.node:
        precision = found[node.name]
        if precision == "float16" or (precision == "int8-dynamic" and node.name in dynamic):
            assigned[node.name] = precision
        elif precision == "int4" and node.name in products:
            assigned[node.name] = "int4"
        elif precision == "int8" and node.op_type in QUANTISABLE:
            assigned[node.name] = "int8"
        elif precision == "int4" and wish.rest == "int8" and node.op_type in QUANTISABLE:
            if node.op_type in _WEIGHTED and node.input[1] in constants:
                assigned[node.name] = "int8"
            else:
                following.add(node.name)
    return follow(prepared, assigned, free=following, fixed=wish.keep_float)


def follow(
    prepared: ModelProto, assignment: Assignment, *, free: Collection[str] | None = None, fixed: Collection[str] = ()
) -> dict[str, Precision]:
    """The same with operators in 8 bits that read nothing but values of operators in 8 bits.

    Conversions are spared so. Operators that only move values follow wherever they are, but for ``fixed`` ones.

    Args:
        prepared: of `nas.deploy.precision.calibration.prepare`.
        assignment: operator -> precision.
        free: operators that may follow; None: all that are not assigned and have no weights.
        fixed: operators that may not.
    """
    constants = {tensor.name for tensor in prepared.graph.initializer} | {""}
    in_8_bits: set[str] = set()
    given: dict[str, Precision] = {}
    for node in prepared.graph.node:
        if node.name in assignment:
            given[node.name] = assignment[node.name]
        elif node.op_type in QUANTISABLE and node.name not in fixed:
            has_weights = node.op_type in _WEIGHTED and node.input[1] in constants
            may = not has_weights if free is None else node.name in free
            reads = [name for name in node.input if name not in constants]
            if node.op_type in MOVING:
                # Else onnxruntime 1.32 puts a pair behind it, with signed integers one it cannot load (opset 21).
                may, reads = True, reads[:1]
            if may and reads and all(name in in_8_bits for name in reads):
                given[node.name] = "int8"
        if given.get(node.name) == "int8":
            in_8_bits.update(node.output)
    return given


def counts(assignment: Assignment, num_operators: int) -> dict[str, int]:
    """Precision -> operators that have it, float32 among them."""
    found = {name: sum(given == name for given in assignment.values()) for name in PRECISIONS}
    found["float32"] = num_operators - len(assignment)
    return {name: count for name, count in found.items() if count}


def _wished(name: str, wish: Wish) -> Precision:
    if name in wish.keep_float:
        return "float32"
    fitting = [stage for stage in wish.stages if _is_in(name, stage)]
    return wish.stages[max(fitting, key=len)] if fitting else wish.precision


def _is_in(name: str, stage: str) -> bool:
    return name.lstrip("/").startswith(stage.strip("/") + "/")


def _check(wish: Wish, names: Collection[str]) -> None:
    for precision in (wish.precision, *wish.stages.values()):
        if precision not in PRECISIONS:
            raise unknown_name("precision", "precision", precision, PRECISIONS)
    for stage in wish.stages:
        if not any(_is_in(name, stage) for name in names):
            known = sorted({name.strip("/").split("/")[0] for name in names if "/" in name.strip("/")})
            raise unknown_name("stages", "stage", stage, known)
    for name in wish.keep_float:
        if name not in names:
            raise unknown_name("keep_float", "operator", name, names)
    mixed = {wish.precision, *wish.stages.values()}
    if "float16" in mixed and mixed & {"int8-dynamic"}:
        raise UserError("stages", "must not mix float16 with int8-dynamic", "take int8 for one of them")
