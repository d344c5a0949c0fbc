"""Networks with fewer channels, filled from wide ones.

Responsible for `shrink`, where the narrow network is given, and `prune_channels`, where only a share is. Both keep the
channels that matter most in every coupled group; a training has to follow.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas.errors import UserError, first_line, unknown_name
from nas.train.checks import check_number, check_one_of
from nas.train.compression.channels import (
    IMPORTANCES,
    ChannelGraph,
    ChannelGroup,
    Importance,
    channel_importance,
    most_important,
)


def shrink(
    wide: nn.Module, narrow: nn.Module, input_shape: tuple[int, int, int], *, importance: Importance = "magnitude"
) -> tuple[str, ...]:
    """Fills ``narrow`` with the most important channels of ``wide``; the wide network is not changed.

    Args:
        wide: trained.
        narrow: the same template with fewer channels in some places; every tensor of it is overwritten.
        input_shape: channels, height and width of what both take.
        importance: what a channel is judged by.

    Returns:
        Names of the blocks that have another shortcut than in the wide network: rounded channels may be equal before
        and after a block where they were not, so that a projection falls away or a shortcut comes in. These blocks
        have more to learn again than the others.

    Raises:
        UserError: a network that cannot be followed, or a narrow one that is not a narrower form of the wide one; it is
            not changed then.
    """
    check_one_of("importance", "importance", importance, IMPORTANCES)
    wide_copy = copy.deepcopy(wide).cpu()
    graph = ChannelGraph(wide_copy, torch.zeros(2, *input_shape))
    names = _counterparts(wide_copy, narrow)
    wanted = {name: narrow.get_submodule(other) for name, other in names.items()}
    # All are chosen before the first is dropped, so that every choice sees the whole network.
    kept = [(group, _kept(group, wanted, importance)) for group in graph.groups]
    for group, channels in kept:
        graph.keep(group, channels)
    state = {
        f"{other}.{key}" if other else key: tensor
        for name, other in names.items()
        for key, tensor in _own_tensors(wide_copy.get_submodule(name)).items()
    }
    for name, tensor in narrow.state_dict().items():
        if name not in state or state[name].shape != tensor.shape:
            got = f"{tuple(state[name].shape)} from the wide one" if name in state else "nothing in the wide one"
            problem = f"must be the wide network with fewer channels, got {got} for {tuple(tensor.shape)}"
            raise UserError(f"network.{name}", problem, "train this network from scratch: set its width to 1")
    narrow.load_state_dict(state)
    changed = {_block(other) for name, other in names.items() if name != other}
    left = {_block(name) for name, part in wide_copy.named_modules() if name not in names and _own_tensors(part)}
    return tuple(sorted(changed | left))


@dataclass(frozen=True, kw_only=True, eq=False)
class Pruned:
    """A network after pruning.

    Attributes:
        module: a narrower copy, in evaluation mode; to be trained on.
        kept: channels that are left and channels there were, by the layer that makes them.
        left_alone: layers whose channels could not be dropped, and why.
    """

    module: nn.Module
    kept: Mapping[str, tuple[int, int]]
    left_alone: Mapping[str, str]


def prune_channels(
    module: nn.Module,
    example: Tensor,
    ratio: float,
    *,
    round_to: int = 8,
    ignore: Sequence[str] = (),
    importance: Importance = "magnitude",
) -> Pruned:
    """A copy of any module with a share of the channels of each layer gone; the module itself is not changed.

    The layer that ends the network keeps its outputs. Where dropping channels of one group would break the network
    (a reshape to a fixed number, say), that group is left alone.

    Args:
        module: gives scores for ``example``.
        example: ``(n, c, h, w)``, n at least 2.
        ratio: share of the channels to drop, in [0, 1).
        round_to: what is left is a multiple of it; layers of fewer channels keep them all.
        ignore: names of layers whose outputs stay.
        importance: what a channel is judged by.

    Raises:
        UserError: a value out of its range, a name that is no layer, or a network that cannot be followed.
    """
    check_number("prune.ratio", ratio, low=0, high=1, below_high=True)
    check_number("prune.round_to", round_to, low=1, integer=True)
    check_one_of("prune.importance", "importance", importance, IMPORTANCES)
    names = dict(module.named_modules())
    for name in ignore:
        if name not in names:
            raise unknown_name("prune.ignore", "layer", name, (name for name in names if name))
    original = copy.deepcopy(module).cpu().eval()
    example = example.detach().cpu()
    with torch.no_grad():
        shape = original(example).shape
    fixed = {*ignore, _last_layer(original, example)}
    plan = _Plan(original=original, example=example, shape=shape)
    chosen: dict[str, list[int]] = {}
    sizes: dict[str, int] = {}
    for group in ChannelGraph(copy.deepcopy(original), example).groups:
        count = _rounded(group, ratio, round_to)
        touched = {member.name for member in group.members if member.outgoing}
        if count < group.size and not fixed & touched:
            chosen[group.root] = most_important(group, channel_importance(group, importance), count)
            sizes[group.root] = group.size
    pruned, reason = plan.attempt(chosen)
    left_alone: dict[str, str] = {}
    if pruned is None:  # one group or several; found one at a time
        for root in list(chosen):
            reason = plan.attempt({root: chosen[root]})[1]
            if reason:
                left_alone[root] = reason
                del chosen[root]
        pruned, reason = plan.attempt(chosen)
    if pruned is None:
        raise UserError("prune.ratio", f"cannot be reached in this network, {reason}", "name layers in prune.ignore")
    kept = {root: (len(channels), sizes[root]) for root, channels in chosen.items()}
    return Pruned(module=pruned, kept=kept, left_alone=left_alone)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Plan:
    original: nn.Module
    example: Tensor
    shape: torch.Size

    def attempt(self, chosen: Mapping[str, Sequence[int]]) -> tuple[nn.Module | None, str]:
        """A copy with those channels of those groups only; None and the reason where it does not run any more."""
        module = copy.deepcopy(self.original)
        graph = ChannelGraph(module, self.example)
        try:
            for group in graph.groups:
                if group.root in chosen:
                    graph.keep(group, chosen[group.root])
            with torch.no_grad():
                shape = module(self.example).shape
        except Exception as error:  # whatever the user's forward raises
            return None, first_line(error)
        if shape != self.shape:
            return None, f"its output would be {tuple(shape)} and not {tuple(self.shape)}"
        return module, ""


def _kept(group: ChannelGroup, wanted: Mapping[str, nn.Module], importance: Importance) -> list[int]:
    """Channels of a group that a narrow network, given by its modules, has room for."""
    counts = {
        member.name: _outputs(wanted[member.name], len(member.places), group.size)
        for member in group.members
        if member.outgoing and member.name in wanted
    }
    found = {count for count in counts.values() if count is not None}
    if len(found) != 1 or not 0 < min(found) <= group.size or min(found) % group.blocks:
        told = ", ".join(map(str, sorted(found))) or "nothing"
        problem = f"must have at most the {group.size} channels of the wide network, alike where they are added"
        advice = "train this network from scratch: set its width to 1"
        raise UserError(f"network.{group.root}", f"{problem}, got {told}", advice)
    return most_important(group, channel_importance(group, importance), min(found))


def _outputs(module: nn.Module, places: int, size: int) -> int | None:
    """Channels of the group that a module of the narrow network makes; None where it does not say."""
    for attribute in ("out_channels", "out_features", "num_features"):
        count = getattr(module, attribute, None)
        if isinstance(count, int):
            return count * size // places
    return None


def _rounded(group: ChannelGroup, ratio: float, round_to: int) -> int:
    step = round_to
    while step % group.blocks:
        step += round_to
    return min(group.size, max(step, round((1 - ratio) * group.size / step) * step))


def _counterparts(wide: nn.Module, narrow: nn.Module) -> dict[str, str]:
    """Names of wide modules -> names of narrow ones.

    A block that gains a shortcut has its layers below ``path`` in the narrow network only.
    """
    known = {name for name, _ in wide.named_modules()}
    names = {}
    for name, part in narrow.named_modules():
        shorter = name.replace(".path", "", 1)
        if name in known:
            names[name] = name
        elif _own_tensors(part) and shorter in known:
            names[shorter] = name
    return names


def _block(name: str) -> str:
    """The stage, or edge of a cell, that a module stands in."""
    for mark in (".path", ".shortcut"):
        name = name.split(mark)[0]
    return name


def _own_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers that a module holds itself, and saves."""
    inner = {f"{name}." for name, _ in module.named_children()}
    return {key: value for key, value in module.state_dict().items() if not any(key.startswith(name) for name in inner)}


def _last_layer(module: nn.Module, example: Tensor) -> str:
    """Name of the layer with weights that is called last."""
    called: list[str] = []
    handles = [
        part.register_forward_hook(lambda _part, _inputs, _output, name=name: called.append(name))
        for name, part in module.named_modules()
        if isinstance(part, nn.Conv2d | nn.Linear)
    ]
    try:
        with torch.no_grad():
            module(example)
    finally:
        for handle in handles:
            handle.remove()
    return called[-1] if called else ""
