"""The module of a network: a sequence of stages."""

from __future__ import annotations

from torch import nn


class Stages(nn.Sequential):
    """The stages of a network one after another.

    A type of its own, because the border between two stages means something: nothing is fused across it.
    """
