"""Looking into a network while it runs.

Responsible for hooks: what is kept of a forward pass, and that no hook stays behind.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from nas.train.scores.score import Need

ACTIVATIONS = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ELU,
    nn.CELU,
    nn.SELU,
    nn.GELU,
    nn.SiLU,
    nn.Hardswish,
    nn.Mish,
)
"""Modules whose input's sign says whether a unit is on; gates such as the sigmoid are none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Watched:
    """What was kept of one forward pass of ``n`` images.

    Attributes:
        patterns: of each call of an activation, ``(n, units)`` bool: whether its input is positive.
        outputs: of each stage that gives a map and is not the identity, ``(n, c, h, w)``, with its graph.
        maps: of each convolution, ``(c, h * w)`` of the first image.
    """

    patterns: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    maps: list[Tensor] = field(default_factory=list)


@contextmanager
def watching(module: nn.Module, needs: Collection[Need], *, num_images: int) -> Iterator[Watched]:
    """Keeps what ``needs`` asks for of the forward passes within; stages are the children of a sequential network."""
    watched = Watched()

    def keep_pattern(_: nn.Module, args: tuple[Any, ...]) -> None:
        if isinstance(args[0], Tensor) and len(args[0]) == num_images:
            watched.patterns.append((args[0].detach() > 0).flatten(1))

    def keep_map(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        watched.maps.append(output[0].detach().flatten(1))

    def keep_stage(_: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor | None:
        if not isinstance(output, Tensor) or output.dim() != 4 or (output is args[0] and output._version == 0):
            return None  # a stage that wrote into its input, and hands it on, is not the identity
        watched.outputs.append(output)
        return output.clone()  # the next stage may write into what it gets

    hooks = []
    try:
        for part in module.modules():
            if "patterns" in needs and isinstance(part, ACTIVATIONS):
                hooks.append(part.register_forward_pre_hook(keep_pattern))
            if "maps" in needs and isinstance(part, nn.Conv2d):
                hooks.append(part.register_forward_hook(keep_map))
        if "stages" in needs and isinstance(module, nn.Sequential):
            hooks.extend(part.register_forward_hook(keep_stage) for part in module.children())
        yield watched
    finally:
        for hook in hooks:
            hook.remove()
