"""Channels of a network that live and die together, how much each matters, and taking some away.

Responsible for coupled groups: which dimensions of which tensors belong to one channel, by the dependency graph of
torch-pruning [Fang2023].

References:
    [Fang2023] G. Fang et al.: DepGraph: Towards Any Structural Pruning. CVPR 2023. https://arxiv.org/abs/2301.12900
    [Liu2017] Z. Liu et al.: Learning Efficient Convolutional Networks through Network Slimming.
        https://arxiv.org/abs/1708.06519
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch_pruning  # type: ignore[import-untyped, unused-ignore]
from torch import Tensor, nn

from nas.errors import UserError, first_line

Importance = Literal["magnitude", "scale"]
"""What a channel is judged by: ``magnitude`` (norms of all weights that touch it) or ``scale`` (of its normalisations
[Liu2017]; their magnitude where there are none)."""
IMPORTANCES: tuple[Importance, ...] = ("magnitude", "scale")

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


@dataclass(frozen=True, kw_only=True, eq=False)
class Member:
    """A dimension of a module that belongs to a group.

    Attributes:
        name: of the module, as in ``named_modules``.
        module: live.
        outgoing: whether its outputs are meant, and not its inputs.
        places: positions along that dimension.
        roots: to which channel of the group each belongs.
    """

    name: str
    module: nn.Module
    outgoing: bool
    places: tuple[int, ...]
    roots: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class ChannelGroup:
    """Channels that must be kept or dropped in all members at once.

    Attributes:
        root: name of the convolution or linear layer whose outputs they are.
        size: how many channels.
        blocks: of how many equal blocks they consist that must keep the same positions, because a grouped convolution
            reads or writes them; 1 as a rule.
        members: the root first.
    """

    root: str
    size: int
    blocks: int
    members: tuple[Member, ...]


class ChannelGraph:
    """The coupled groups of one module, which it can shrink.

    Args:
        module: on the CPU; it is changed by `keep`, so hand in a copy.
        example: ``(n, c, h, w)`` that it can be run on.

    Raises:
        UserError: torch-pruning cannot follow the network.
    """

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        module.eval()
        for parameter in module.parameters():
            parameter.requires_grad_()  # the graph is read off autograd's
        self._module = module
        self._names = {part: name for name, part in module.named_modules()}
        try:
            with warnings.catch_warnings(), torch.enable_grad():
                warnings.simplefilter("ignore")
                self._graph: Any = torch_pruning.DependencyGraph().build_dependency(
                    module, example_inputs=example, verbose=False
                )
                self.groups = tuple(self._group(found) for found in self._graph.get_all_groups())
        except Exception as error:  # it walks autograd's graph, and raises whatever it stumbles over
            problem = f"has channels that cannot be followed through it, {first_line(error)}"
            advice = "write it with torch's own layers, or leave its width alone"
            raise UserError("network", problem, advice) from error

    def keep(self, group: ChannelGroup, channels: Sequence[int]) -> None:
        """Drops all channels of a group but those at ``channels``, in place, with all that depends on them."""
        gone = sorted(set(range(group.size)) - set(channels))
        if gone:
            root = self._module.get_submodule(group.root)
            pruner = self._graph.get_pruner_of_module(root)
            self._graph.get_pruning_group(root, pruner.prune_out_channels, gone).prune(record_history=False)

    def _group(self, found: Any) -> ChannelGroup:
        members = []
        for item in found:
            module = item.dep.target.module
            if module in self._names:
                members.append(
                    Member(
                        name=self._names[module],
                        module=module,
                        outgoing=bool(self._graph.is_out_channel_pruning_fn(item.dep.handler)),
                        places=tuple(int(place) for place in item.idxs),
                        roots=tuple(int(root) for root in item.root_idxs),
                    )
                )
        size = len(members[0].places)
        blocks = [
            member.module.groups
            for member in members
            if isinstance(member.module, nn.Conv2d)
            and 1 < member.module.groups < max(member.module.in_channels, member.module.out_channels)
        ]
        return ChannelGroup(root=members[0].name, size=size, blocks=max(blocks, default=1), members=tuple(members))


def channel_importance(group: ChannelGroup, kind: Importance) -> Tensor:
    """How much each channel of a group matters: ``(size,)`` float64, at least 0, mean about 1.

    The squared norm of what each member does with a channel, relative to its mean over channels, averaged over
    members: so a wide layer does not outvote a narrow one.
    """
    norms = [member for member in group.members if isinstance(member.module, _NORMS)]
    chosen = norms if kind == "scale" and norms else group.members
    total, count = torch.zeros(group.size, dtype=torch.float64), 0
    for member in chosen:
        weight = _by_channel(member)
        if weight is not None:
            squares = weight.detach().double().flatten(1).square().sum(dim=1)[list(member.places)]
            share = torch.zeros_like(total).index_add_(0, torch.tensor(member.roots), squares)
            mean = share.mean()
            total += share / mean if mean > 0 else 1.0
            count += 1
    return total / max(1, count)


def most_important(group: ChannelGroup, importance: Tensor, count: int) -> list[int]:
    """The ``count`` channels with the greatest importance, in order; the first of equals.

    In a group of blocks the same positions of every block, so ``count`` must be a multiple of ``group.blocks``.
    """
    assert 0 < count <= group.size
    assert count % group.blocks == 0
    length = group.size // group.blocks
    by_place = importance.reshape(group.blocks, length).sum(dim=0)
    best = torch.argsort(by_place, descending=True, stable=True)[: count // group.blocks]
    return sorted(int(place) + block * length for block in range(group.blocks) for place in best)


def _by_channel(member: Member) -> Tensor | None:
    """The weights of a member with its channel dimension in front; None where it has none that tell."""
    module = member.module
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim == 0:
        return None
    if isinstance(module, nn.Conv2d):
        if member.outgoing:
            return weight
        inputs = weight.transpose(0, 1)
        return inputs.repeat(module.groups, 1, 1, 1) if module.groups > 1 else inputs
    if isinstance(module, nn.Linear):
        return weight if member.outgoing else weight.T
    return weight[:, None] if isinstance(module, _NORMS) and weight.ndim == 1 else None
