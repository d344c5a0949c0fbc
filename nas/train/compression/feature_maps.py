"""Feature maps of any module: where they come out, and getting them while it runs.

Responsible for the choice of one map a size, the last: the end of a stage, whatever the stages are made of.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


@torch.no_grad()
def last_maps(module: nn.Module, images: Tensor) -> dict[str, tuple[int, ...]]:
    """Submodule name -> ``(c, h, w)`` of its output, for the last submodule of each size, first to last.

    Maps of a single place are left out: gates and poolings make them anywhere. The module's mode, that of each
    submodule and all statistics are the same afterwards.

    Args:
        module: takes ``images``.
        images: ``(b, c, h, w)``, on the module's device.
    """
    seen: list[tuple[str, tuple[int, ...]]] = []

    def note(name: str, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            seen.append((name, tuple(output.shape[1:])))

    handles = [
        part.register_forward_hook(lambda _part, _inputs, output, name=name: note(name, output))
        for name, part in module.named_modules()
        if name
    ]
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        module(images)
    finally:
        for handle in handles:
            handle.remove()
        for part, training in modes.items():
            part.training = training
    last = {shape[1:]: (name, shape) for name, shape in seen}
    kept = {name for name, _ in last.values()}
    return {name: shape for name, shape in dict(seen).items() if name in kept}


def with_maps(module: nn.Module, images: Tensor, names: Sequence[str]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """What a module gives for images, and the outputs of those submodules on the way, with gradients.

    Of a submodule that is called several times, the last output.
    """
    if not names:
        return module(images), ()
    found: dict[str, Tensor] = {}
    handles = [
        module.get_submodule(name).register_forward_hook(
            lambda _part, _inputs, output, name=name: found.__setitem__(name, output)
        )
        for name in names
    ]
    try:
        scores: Tensor = module(images)
    finally:
        for handle in handles:
            handle.remove()
    return scores, tuple(found[name] for name in names)
