"""Probes: short chains of layers whose measured times tell what kernels cost on a device.

Responsible for which layers are tried. Widths, maps, windows, strides and groups are drawn over the ranges that
networks for small devices have, on a logarithmic scale, and every operator about as often as others; so a model that
is fitted to probes knows of no search space, and serves each. A chain is timed as a whole: a kernel starts with the
cache as its predecessor left it, as it does in a network, and the cost of a call is not hidden by that of a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from nas.model.shapes import DoesNotFit, InputShape
from nas.model.stage_figures import StageFigures
from nas.space.network import Cell, Edge, Layer, Network, Parameter

Option = TypeVar("Option")

NUM_CLASSES = 10
MAX_MACS = 40_000_000
"""Of one probe: larger ones take long, and tell little that many small ones do not."""

_LAYERS = (1, 7)
_SIZES = (3, 40)
_WIDTHS = (4, 192)
_WINDOWS = (1, 3, 3, 5, 5, 7)
_ACTIVATIONS = ("none", "relu", "relu", "relu6", "hardswish", "hardswish", "silu", "gelu")
_CLASSIFIER = Layer(op="classifier", parameters={})


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A chain of layers on an image, ended by a classifier of `NUM_CLASSES` classes.

    Attributes:
        in_shape: channels, height, width of the image.
        stages: layers, and cells of layers.
        features: ``(F,)``, in the order of `nas.model.features.FEATURE_NAMES`.
    """

    in_shape: InputShape
    stages: tuple[Layer | Cell, ...]
    features: tuple[float, ...] = field(repr=False)

    @property
    def network(self) -> Network:
        """What `nas.model.build.build` takes, with ``in_shape`` and `NUM_CLASSES`."""
        stages = (*self.stages, _CLASSIFIER)
        text = repr((self.in_shape, [_plain(stage) for stage in stages]))
        return Network(resolution=None, stages=stages, digest=hashlib.sha256(text.encode()).hexdigest()[:16])


def draw_probes(n: int, rng: np.random.Generator) -> tuple[Probe, ...]:
    """``n`` probes that can be built, each within `MAX_MACS`. Equal generators give equal probes."""
    figures = StageFigures(num_classes=NUM_CLASSES)
    probes: list[Probe] = []
    while len(probes) < n:
        probe = _draw(rng, figures)
        if probe is not None:
            probes.append(probe)
    return tuple(probes)


def _draw(rng: np.random.Generator, figures: StageFigures) -> Probe | None:
    """A probe; None where nothing that was drawn fitted."""
    size = _log_integer(rng, *_SIZES)
    image: InputShape = (_pick(rng, (1, 3)), size, size)
    stem = Layer(op="conv", parameters={"channels": _width(rng), "kernel": _pick(rng, (3, 5)), "stride": 1})
    stages: list[Layer | Cell] = [stem]
    found = figures.find(stem, image)
    shape, macs, features = found.out_shape, found.costs.macs, np.array(found.features)
    # Files of one kind tell its cost apart from others', files of many kinds tell how they meet.
    kinds = rng.choice(list(_DRAWS), size=int(rng.integers(1, 4)), replace=False)
    for _ in range(int(rng.integers(_LAYERS[0], _LAYERS[1] + 1))):
        stage = _DRAWS[str(rng.choice(kinds))](rng, shape)
        try:
            found = figures.find(stage, shape)
        except DoesNotFit:
            continue
        if macs + found.costs.macs <= MAX_MACS:
            stages.append(stage)
            shape, macs, features = found.out_shape, macs + found.costs.macs, features + found.features
    if len(stages) == 1 or macs > MAX_MACS:
        return None
    features = features + figures.find(_CLASSIFIER, shape).features
    return Probe(in_shape=image, stages=tuple(stages), features=tuple(features.tolist()))


Shape = tuple[int, ...]
_Draw = Callable[[np.random.Generator, Shape], Layer | Cell]


def _conv(rng: np.random.Generator, shape: Shape) -> Layer:
    return _layer(rng, "conv", channels=_width(rng), kernel=_pick(rng, _WINDOWS), stride=_stride(rng))


def _pointwise(rng: np.random.Generator, shape: Shape) -> Layer:
    return _layer(rng, "conv", channels=_width(rng), kernel=1, stride=1)


def _grouped(rng: np.random.Generator, shape: Shape) -> Layer:
    if shape[0] % 32 == 0 and rng.random() < 0.5:
        # Groups of whole blocks of channels.
        groups = _pick(rng, [groups for groups in (2, 4) if shape[0] % (16 * groups) == 0])
        channels = groups * 16 * _log_integer(rng, 1, 3)
    else:
        groups = _pick(rng, [groups for groups in (2, 4, 8, 16) if shape[0] % groups == 0] or [1])
        channels = groups * _log_integer(rng, 1, 48)
    return _layer(rng, "conv", channels=channels, kernel=_pick(rng, (3, 3, 5)), stride=_stride(rng), groups=groups)


def _depthwise(rng: np.random.Generator, shape: Shape) -> Layer:
    return _layer(rng, "depthwise", kernel=_pick(rng, (3, 3, 5, 5, 7)), stride=_stride(rng))


def _inverted_residual(rng: np.random.Generator, shape: Shape) -> Layer:
    return _layer(
        rng,
        "inverted_residual",
        channels=shape[0] if rng.random() < 0.5 else _width(rng),
        kernel=_pick(rng, (3, 5, 7)),
        expansion=_pick(rng, (1, 2, 3, 4, 6)),
        squeeze_excite=bool(rng.random() < 0.5),
        stride=_stride(rng),
    )


def _basic_block(rng: np.random.Generator, shape: Shape) -> Layer:
    return _layer(rng, "basic_block", channels=_kept_or_new(rng, shape), kernel=_pick(rng, (3, 5)), stride=_stride(rng))


def _bottleneck(rng: np.random.Generator, shape: Shape) -> Layer:
    expansion = _pick(rng, (2, 4))
    channels = _kept_or_new(rng, shape)
    return _layer(
        rng, "bottleneck", channels=channels, expansion=expansion, kernel=_pick(rng, (3, 5)), stride=_stride(rng)
    )


def _pool(rng: np.random.Generator, shape: Shape) -> Layer:
    op = str(rng.choice(("max_pool", "avg_pool")))
    return Layer(op=op, parameters={"kernel": _pick(rng, (2, 3, 5)), "stride": _stride(rng)})


def _norm_activation(rng: np.random.Generator, shape: Shape) -> Layer:
    return _layer(rng, "norm_activation")


def _relu_conv_norm(rng: np.random.Generator, shape: Shape) -> Layer:
    return Layer(op="relu_conv_norm", parameters={"kernel": _pick(rng, (1, 3, 5))})


def _reduction_block(rng: np.random.Generator, shape: Shape) -> Layer:
    return Layer(op="reduction_block", parameters={"channels": _width(rng), "stride": 2})


def _cell(rng: np.random.Generator, shape: Shape) -> Cell:
    num_nodes = int(rng.integers(3, 5))
    kept = (
        Layer(op="identity", parameters={}),
        Layer(op="avg_pool", parameters={"kernel": 3}),
        Layer(op="max_pool", parameters={"kernel": 3}),
        Layer(op="relu_conv_norm", parameters={"kernel": 1}),
        Layer(op="relu_conv_norm", parameters={"kernel": 3}),
        Layer(op="depthwise", parameters={"kernel": 3}),
    )
    edges = [
        Edge(source=source, target=target, layer=kept[int(rng.integers(len(kept)))])
        for target in range(1, num_nodes)
        for source in range(target)
        # An edge from each node's predecessor, so that nothing hangs in the air.
        if source == target - 1 or rng.random() < 0.6
    ]
    return Cell(num_nodes=num_nodes, edges=tuple(edges))


_DRAWS: dict[str, _Draw] = {
    "conv": _conv,
    "pointwise": _pointwise,
    "grouped": _grouped,
    "depthwise": _depthwise,
    "inverted_residual": _inverted_residual,
    "basic_block": _basic_block,
    "bottleneck": _bottleneck,
    "pool": _pool,
    "norm_activation": _norm_activation,
    "relu_conv_norm": _relu_conv_norm,
    "reduction_block": _reduction_block,
    "cell": _cell,
}


def _layer(rng: np.random.Generator, op: str, **parameters: Parameter) -> Layer:
    return Layer(op=op, parameters={**parameters, "activation": _pick(rng, _ACTIVATIONS)})


def _kept_or_new(rng: np.random.Generator, shape: Shape) -> int:
    return shape[0] if rng.random() < 0.5 else _width(rng)


def _width(rng: np.random.Generator) -> int:
    """A multiple of 4, as designers take them, most often of 8."""
    width = _log_integer(rng, *_WIDTHS)
    unit = 4 if rng.random() < 0.25 else 8
    return max(unit, round(width / unit) * unit)


def _stride(rng: np.random.Generator) -> int:
    return 2 if rng.random() < 0.25 else 1


def _log_integer(rng: np.random.Generator, least: int, most: int) -> int:
    return int(np.exp(rng.uniform(np.log(least), np.log(most + 1))))


def _pick(rng: np.random.Generator, options: Sequence[Option]) -> Option:
    return options[int(rng.integers(len(options)))]


def _plain(stage: Layer | Cell) -> object:
    if isinstance(stage, Layer):
        return stage.op, sorted(stage.parameters.items())
    return stage.num_nodes, [(edge.source, edge.target, _plain(edge.layer)) for edge in stage.edges]
