"""The border between scores and what they are made of.

Responsible for the record of what one look at an untrained network shows, and for what a score is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from torch import Tensor

Need = Literal["size", "patterns", "stages", "maps", "gradients", "input_gradients", "flow", "fisher"]
"""A part of `Observed` that takes a computation of its own."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """What leaves one stage of a network.

    Attributes:
        spectrum: ``(k,)`` float64 eigenvalues of the covariance of the channels, over images and places (centred within
            each half of the batch); where there are fewer places than channels, zeros are left out.
        transport: ``(c_in, c)``, mean outer product of what a random ±1 signal at the output sends back to the stage's
            input, and the signal; where the stage shrinks the map, ``c_in`` counts each place of its window. None for
            the first stage, and where nothing is sent back.
    """

    spectrum: Tensor
    transport: Tensor | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Observed:
    """What one look at a network shows, before training; parts that were not asked for, or failed, are None.

    Tensors lie on the CPU, but for ``patterns``. The weights spoken of are those of convolutions and linear layers.

    Attributes:
        parameters: numbers that training may change.
        macs: multiply-accumulates of one image.
        layers: convolutions and linear layers.
        tensors: trainable parameters, counted as tensors.
        patterns: of each call of an activation, ``(n, units)`` bool: whether its input is positive.
        stages: of the chain that the network is, those that give a map and are not the identity.
        maps: of each convolution, ``(c, h * w)`` of the first image.
        gradients: of each weight, ``(2, size)`` of the mean loss of either half of the batch.
        weights: ``(size,)`` each, the same ones.
        input_gradients: ``(n, d)`` of the sum of an image's outputs.
        flow: the sum over weights of weight times gradient, for absolute weights, without normalisation, of the sum of
            the outputs at an input of ones.
        fisher: ``(p, p)`` float64 Fisher information of ``p`` single weights, one of a layer's tensor each.
        failures: part -> one line, why it is None.
    """

    parameters: int | None = None
    macs: int | None = None
    layers: int | None = None
    tensors: int | None = None
    patterns: tuple[Tensor, ...] | None = None
    stages: tuple[Stage, ...] | None = None
    maps: tuple[Tensor, ...] | None = None
    gradients: tuple[Tensor, ...] | None = None
    weights: tuple[Tensor, ...] | None = None
    input_gradients: Tensor | None = None
    flow: float | None = None
    fisher: Tensor | None = None
    failures: dict[Need, str] = field(default_factory=dict)


class Score(Protocol):
    """A frozen record that makes one figure of what was observed; larger goes along with a better network.

    Attributes:
        needs: parts of `Observed` that must not be None.
    """

    @property
    def needs(self) -> tuple[Need, ...]: ...

    def __call__(self, observed: Observed) -> float:
        """The figure; may be NaN or infinite where the network is degenerate."""
        ...
