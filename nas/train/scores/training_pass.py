"""The pass that is like a step of training: forward in training mode, and backward.

Responsible for computing together what several scores share. The batch is passed in two halves: that costs no more
than passing it whole, and gives the two gradients whose agreement `nas.train.scores.zico` wants.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.train.scores.score import Need, Stage
from nas.train.scores.watch import Watched, watching

NEEDS: tuple[Need, ...] = ("patterns", "stages", "maps", "gradients", "input_gradients")
"""What this pass gives."""


def training_pass(
    module: nn.Module, images: Tensor, labels: Tensor, needs: Collection[Need], generator: torch.Generator
) -> dict[str, Any]:
    """The fields of `nas.train.scores.score.Observed` that ``needs`` asks for; without those the network does not have.

    The mode and the running statistics of the module change.

    Args:
        module: in float32; gives ``(n, num_classes)``.
        images: ``(n, c, h, w)``, at least four; the last one of an odd number is left out.
        labels: ``(n,)``.
        needs: some of `NEEDS`.
        generator: on the CPU, for random signals.
    """
    module.train()
    half = len(images) // 2
    weights = list(weights_of(module)) if "gradients" in needs else []
    halves = [
        _half(module, images[start : start + half], labels[start : start + half], needs, weights, generator)
        for start in (0, half)
    ]
    fields: dict[str, Any] = {name: _joined(name, halves) for name in needs if len(halves[0].get(name, ()))}
    if weights:
        fields["weights"] = tuple(weight.detach().cpu().flatten() for weight in weights)
    return fields


def weights_of(module: nn.Module) -> list[nn.Parameter]:
    """The weights of convolutions and linear layers that are the layer's own and that training may change."""
    layers = [part for part in module.modules() if isinstance(part, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear)]
    own = [layer.weight for layer in layers if isinstance(layer.weight, nn.Parameter)]
    return [weight for weight in own if weight.requires_grad]


def _half(
    module: nn.Module,
    images: Tensor,
    labels: Tensor,
    needs: Collection[Need],
    weights: Sequence[Tensor],
    generator: torch.Generator,
) -> Mapping[str, Any]:
    given = images.detach().clone().requires_grad_("input_gradients" in needs)
    with watching(module, needs, num_images=len(images)) as watched:
        logits = module(given)
    found: dict[str, Any] = {"patterns": tuple(watched.patterns)}
    found["maps"] = tuple(values.cpu() for values in watched.maps)
    if "stages" in needs:
        found["stages"] = _stages(watched, generator)
    if "input_gradients" in needs:
        (gradient,) = torch.autograd.grad(logits.sum(), given, retain_graph=bool(weights))
        found["input_gradients"] = gradient.detach().flatten(1).cpu()
    if weights:
        loss = functional.cross_entropy(logits, labels)
        gradients = torch.autograd.grad(loss, list(weights), materialize_grads=True, allow_unused=True)
        found["gradients"] = tuple(gradient.detach().cpu().flatten() for gradient in gradients)
    return found


def _joined(name: Need, halves: Sequence[Mapping[str, Any]]) -> Any:
    """One of the fields of both halves together."""
    one, other = (half.get(name, ()) for half in halves)
    if len(one) != len(other):
        raise RuntimeError(f"{name}: {len(one)} and {len(other)} parts ran for the two halves of the batch")
    if name == "maps":
        return one
    if name == "input_gradients":
        return torch.cat([one, other])
    if name == "stages":
        return tuple(_stage(a, b) for a, b in zip(one, other, strict=True))
    join = torch.stack if name == "gradients" else torch.cat
    return tuple(join([a, b]) for a, b in zip(one, other, strict=True))


@dataclass(frozen=True, kw_only=True, eq=False)
class _HalfStage:
    """What leaves a stage for half of the batch.

    Attributes:
        features: ``(c, places)`` centred if these are few, else ``(c, c)`` covariance.
        transport: see `Stage`.
    """

    features: Tensor
    transport: Tensor | None


def _stage(one: _HalfStage, other: _HalfStage) -> Stage:
    if one.features.shape[0] == one.features.shape[1]:
        symmetric = (one.features + other.features) / 2
    else:
        features = torch.cat([one.features, other.features], dim=1)
        symmetric = features.T @ features / features.shape[1]
    spectrum = torch.linalg.eigvalsh(symmetric.to("cpu", torch.float64)).clamp_min(0)
    if one.transport is None or other.transport is None:
        return Stage(spectrum=spectrum, transport=None)
    return Stage(spectrum=spectrum, transport=(one.transport + other.transport) / 2)


def _stages(watched: Watched, generator: torch.Generator) -> tuple[_HalfStage, ...]:
    stages = []
    before: Tensor | None = None
    for output in watched.outputs:
        features = output.detach().permute(1, 0, 2, 3).flatten(1)
        centred = features - features.mean(dim=1, keepdim=True)
        channels, places = centred.shape
        kept = centred if 2 * places < channels else centred @ centred.T / places
        transport = _transport(before, output, generator) if before is not None else None
        stages.append(_HalfStage(features=kept, transport=transport))
        before = output
    return tuple(stages)


def _transport(before: Tensor, after: Tensor, generator: torch.Generator) -> Tensor | None:
    """``(c_in * window, c_out)`` mean outer product of what comes back from a ±1 signal, and the signal."""
    signal = (torch.randint(2, after.shape, generator=generator) * 2 - 1).to(after)
    (back,) = torch.autograd.grad(after, before, signal, retain_graph=True, allow_unused=True)
    if back is None or any(small > large for small, large in zip(after.shape[2:], before.shape[2:], strict=True)):
        return None
    (high, wide), (rows, columns) = after.shape[2:], before.shape[2:]
    down, across = -(-rows // high), -(-columns // wide)  # size of the window of the input behind one place
    back = functional.pad(back, (0, across * wide - columns, 0, down * high - rows))
    windows = back.reshape(len(back), -1, high, down, wide, across).permute(1, 3, 5, 0, 2, 4)
    signals = signal.permute(1, 0, 2, 3).flatten(1)
    return (windows.reshape(-1, signals.shape[1]) @ signals.T / signals.shape[1]).cpu()
