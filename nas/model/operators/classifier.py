"""The operator that ends an image classifier."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from nas.model.operators.layers import ACTIVATIONS, GlobalAveragePool
from nas.model.operators.parameters import MAX_CHANNELS, check_activation, check_integer, check_number
from nas.model.shapes import InputShape


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """``classifier``: mean of each channel, then one score a class.

    Attributes:
        hidden: width of a linear layer with activation in between; 0 for none.
        dropout: share of values dropped before the last layer while training, in [0, 1).
        activation: of the hidden layer.
    """

    hidden: int = 0
    dropout: float = 0.0
    activation: str = "relu"

    def __post_init__(self) -> None:
        check_integer("hidden", self.hidden, least=0, most=MAX_CHANNELS)
        check_number("dropout", self.dropout, least=0, below=1)
        check_activation(self.activation)

    def build(self, in_shape: InputShape, num_classes: int) -> nn.Module:
        layers: OrderedDict[str, nn.Module] = OrderedDict(pool=GlobalAveragePool(), flatten=nn.Flatten())
        width = in_shape[0]
        if self.hidden:
            layers["hidden"] = nn.Linear(width, self.hidden)
            layers["activation"] = ACTIVATIONS[self.activation]()
            width = self.hidden
        if self.dropout:
            layers["dropout"] = nn.Dropout(self.dropout)
        layers["scores"] = nn.Linear(width, num_classes)
        return nn.Sequential(layers)
