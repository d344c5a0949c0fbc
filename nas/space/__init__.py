"""Search spaces: templates with holes, the networks they resolve to, and moves over populations of choices."""

from nas.space.architecture import Architecture
from nas.space.build import choose, use
from nas.space.choice import Choice
from nas.space.load import load_space
from nas.space.network import Cell, Edge, Layer, Network
from nas.space.slot import ResolutionSlot, Slot
from nas.space.space import SearchSpace

__all__ = [
    "Architecture",
    "Cell",
    "Choice",
    "Edge",
    "Layer",
    "Network",
    "ResolutionSlot",
    "SearchSpace",
    "Slot",
    "choose",
    "load_space",
    "use",
]
