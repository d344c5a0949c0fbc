"""Which operators there are, and how a layer of a template becomes one.

Responsible for names, unknown parameters, and the place of an error in the template.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

from torch import nn

from nas.errors import UserError, unknown_name
from nas.model.operators.classifier import Classifier
from nas.model.operators.convolutions import Conv, Depthwise, ReluConvNorm
from nas.model.operators.custom import import_operator
from nas.model.operators.passing import Identity, NormActivation, Nothing
from nas.model.operators.pooling import AvgPool, MaxPool
from nas.model.operators.residual import BasicBlock, Bottleneck, InvertedResidual, ReductionBlock
from nas.model.shapes import InputShape
from nas.space.network import Layer


class Operator(Protocol):
    """A kind of layer with its parameters checked."""

    def build(self, in_shape: InputShape, num_classes: int) -> nn.Module:
        """A module for inputs ``(n, *in_shape)``; it depends on the channels only, not on height and width.

        Raises:
            UserError: a parameter that does not fit the channels.
        """


OPERATORS: dict[str, Callable[..., Operator]] = {
    "conv": Conv,
    "depthwise": Depthwise,
    "inverted_residual": InvertedResidual,
    "basic_block": BasicBlock,
    "bottleneck": Bottleneck,
    "max_pool": MaxPool,
    "avg_pool": AvgPool,
    "identity": Identity,
    "none": Nothing,
    "relu_conv_norm": ReluConvNorm,
    "reduction_block": ReductionBlock,
    "norm_activation": NormActivation,
    "classifier": Classifier,
}


def operator_of(layer: Layer, *, allow: Sequence[str] = ()) -> Operator:
    """The operator that a layer of a resolved network names.

    Args:
        layer: name, parameters and place.
        allow: packages that custom operators may come from.

    Raises:
        UserError: unknown operator or parameter, or a value against its rule; the place is ``layer.where``.
    """
    try:
        if layer.op in OPERATORS:
            return _built_in(layer)
        if "." in layer.op:
            return import_operator(layer.op, layer.parameters, allow=allow)
    except UserError as error:
        raise UserError(at_key(layer.where, error.where), error.problem, error.advice) from error
    raise unknown_name(
        at_key(layer.where, "op"), "operator", layer.op, OPERATORS, also="or an import path like my_package.ops.Name"
    )


def at_key(where: str, key: str) -> str:
    """A key below a place in the template: ``network[2].kernel``."""
    return f"{where}.{key}" if where else key


def _built_in(layer: Layer) -> Operator:
    kind = OPERATORS[layer.op]
    assert isinstance(kind, type)
    assert dataclasses.is_dataclass(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name in layer.parameters:
        if name not in fields:
            raise unknown_name(name, f"parameter of {layer.op}", name, fields)
    for name, field in fields.items():
        if field.default is dataclasses.MISSING and name not in layer.parameters:
            raise UserError(name, f"must be given for {layer.op}, it is missing")
    operator: Operator = OPERATORS[layer.op](**layer.parameters)
    return operator
