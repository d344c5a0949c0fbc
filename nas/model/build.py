"""From a resolved network to a module.

Responsible for names and order of the parts, and for the place in the template of every error on the way.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from nas.errors import UserError
from nas.model.cell import CellModule, execution_order
from nas.model.layer_table import LayerTable
from nas.model.operators.registry import at_key, operator_of
from nas.model.shapes import DoesNotFit as DoesNotFit
from nas.model.shapes import InputShape, input_shape_of, shape_text
from nas.model.stages import Stages
from nas.model.trace import trace
from nas.space.network import Cell, Layer, Network


def build(network: Network, *, input_shape: InputShape, num_classes: int, allow: Sequence[str] = ()) -> Stages:
    """The module of a network: float32, randomly initialised from torch's generator.

    Its children are the stages in order, named ``s<position>_<operator>``. It takes ``(n, c, h, w)`` of the shape of
    `input_shape_of` for any ``n``, in either memory format, and returns ``(n, num_classes)``.

    Args:
        network: without holes. One that was not folded keeps all operators, also those without effect.
        input_shape: channels, height, width of the data.
        num_classes: of the classifier.
        allow: packages that custom operators may come from.

    Raises:
        UserError: an unknown operator or parameter, an operator that cannot take the shape it gets, or a network
            that does not end in one score a class.
    """
    check_data(input_shape, num_classes)
    shape: tuple[int, ...] = input_shape_of(network, input_shape)
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    for name, stage in zip(module_names(network), network.stages, strict=True):
        module, shape = _build_stage(stage, shape, num_classes, allow)
        stages[name] = module
    if shape != (num_classes,):
        raise no_scores(shape, num_classes, network.stages[-1].where if network.stages else "network")
    return Stages(stages)


def build_layer(layer: Layer, in_shape: tuple[int, ...], *, num_classes: int, allow: Sequence[str]) -> nn.Module:
    """The module of one operator for inputs ``(n, *in_shape)``; it depends on the channels only.

    Raises:
        UserError: an unknown operator or parameter, or one that does not fit the channels.
    """
    operator = operator_of(layer, allow=allow)
    if len(in_shape) != 3:
        rule = f"must stand before the classifier, got an input of {shape_text(in_shape)} scores"
        raise DoesNotFit(layer.where or layer.op, rule)
    channels, height, width = in_shape
    try:
        return operator.build((channels, height, width), num_classes)
    except DoesNotFit as error:
        raise at_shape(layer, in_shape, error) from error
    except UserError as error:
        raise UserError(at_key(layer.where, error.where), error.problem, error.advice) from error


def trace_layer(layer: Layer, module: nn.Module, in_shape: tuple[int, ...]) -> LayerTable:
    """What a built operator computes at a shape. Raises `UserError` with its place where it cannot take the shape."""
    channels, height, width = in_shape
    try:
        return trace(module, (channels, height, width))
    except UserError as error:
        raise DoesNotFit(at_key(layer.where, error.where), error.problem, error.advice) from error


def at_shape(layer: Layer, in_shape: tuple[int, ...], error: UserError) -> DoesNotFit:
    """An error of an operator at a shape, with its place in the template and the shape."""
    given = f"{error.problem} (at an input of {shape_text(in_shape)})"
    return DoesNotFit(at_key(layer.where, error.where), given, error.advice)


def edges_differ(cell: Cell, node: int, one: tuple[int, ...], other: tuple[int, ...]) -> DoesNotFit:
    """The error for edges that cannot be summed."""
    rule = f"must bring equal shapes to node {node}, got {shape_text(one)} and {shape_text(other)}"
    return DoesNotFit(at_key(cell.where, "edges"), rule)


def no_scores(shape: tuple[int, ...], num_classes: int, where: str) -> DoesNotFit:
    """The error for a network that does not end in one score a class."""
    rule = f"must end in {num_classes} scores, one a class, got an output of {shape_text(shape)}"
    return DoesNotFit(where, rule, "end the network with `op: classifier`")


def check_data(input_shape: InputShape, num_classes: int) -> None:
    """Raises `UserError` unless shape and classes are those of a data set."""
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise UserError("input_shape", f"must be channels, height and width of at least 1, got {input_shape}")
    if num_classes < 1:
        raise UserError("num_classes", f"must be at least 1, got {num_classes}")


def module_names(network: Network) -> tuple[str, ...]:
    """What the children of a network's module are called, one a stage: ``s3_inverted_residual``."""
    return tuple(f"s{k}_{stage_name(stage)}" for k, stage in enumerate(network.stages))


def stage_name(stage: Layer | Cell) -> str:
    """The operator's name as it may stand in a module's name."""
    return "cell" if isinstance(stage, Cell) else stage.op.rpartition(".")[2]


def _build_stage(
    stage: Layer | Cell, in_shape: tuple[int, ...], num_classes: int, allow: Sequence[str]
) -> tuple[nn.Module, tuple[int, ...]]:
    if isinstance(stage, Layer):
        module = build_layer(stage, in_shape, num_classes=num_classes, allow=allow)
        return module, trace_layer(stage, module, in_shape).out_shape
    shapes = {0: in_shape}
    operators = []
    for edge in execution_order(stage):
        source = shapes.setdefault(edge.source, in_shape)
        operator, shape = _build_stage(edge.layer, source, num_classes, allow)
        if shapes.setdefault(edge.target, shape) != shape:
            raise edges_differ(stage, edge.target, shapes[edge.target], shape)
        operators.append(operator)
    return CellModule(stage, operators), shapes.get(stage.num_nodes - 1, in_shape)
