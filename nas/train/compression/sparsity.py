"""Zeros in weights: which ones, and how they stay zero while a network is trained on.

Responsible for masks by magnitude, without structure or in the 2:4 pattern, and for the rules that `nas.train.fit.fit`
follows to keep them or to reach them bit by bit. Zeros shorten a file only once it is packed, and time only on runtimes
with kernels for them (2:4: TensorRT on recent GPUs).

References:
    [Han2015] S. Han et al.: Learning both Weights and Connections for Efficient Neural Networks.
        https://arxiv.org/abs/1506.02626
    [Zhu2017] M. Zhu, S. Gupta: To prune, or not to prune. https://arxiv.org/abs/1710.01878
    [Mishra2021] A. Mishra et al.: Accelerating Sparse Deep Neural Networks (2:4). https://arxiv.org/abs/2104.08378
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from nas.errors import UserError
from nas.train.checks import check_number, check_one_of

Sparsity = float | Literal["2:4"]
"""Share of the weights that are zero, in [0, 1), or ``2:4``: two of every four neighbouring input channels."""

Scope = Literal["global", "layer"]
"""Whether the smallest weights go of the whole network, or of each layer the same share."""
SCOPES: tuple[Scope, ...] = get_args(Scope)

# Under a global threshold, layers of small weights would vanish altogether and cut the network in two.
_LEAST_KEPT = 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class Masks:
    """Which weights of a network are not zero.

    Attributes:
        module: whose weights they are.
        kept: parameter name -> bool tensor of its shape. The weights of convolutions and linear layers; depthwise
            convolutions are left whole, as they are few weights that all matter, and for 2:4 so are layers whose
            input channels are no multiple of 4.
    """

    module: nn.Module
    kept: Mapping[str, Tensor]

    @torch.no_grad()
    def apply(self) -> None:
        """Makes every weight that is not kept exactly zero."""
        for name, kept in self.kept.items():
            self.module.get_parameter(name).mul_(kept)

    @property
    def sparsity(self) -> float:
        """Share of zeros among all weights of convolutions and linear layers, masked or not, in [0, 1)."""
        zeros = sum(int((~kept).sum()) for kept in self.kept.values())
        return zeros / max(1, sum(weight.numel() for weight in _weights(self.module, depthwise=True).values()))


def check_sparsity(where: str, sparsity: object) -> None:
    """Refuse anything but a share in [0, 1) or ``2:4``. Raises `UserError`."""
    if isinstance(sparsity, str):
        if sparsity != "2:4":
            raise UserError(where, f"must be a share below 1 or '2:4', got {sparsity!r}", "0.5 and 2:4 are usual")
    else:
        check_number(where, sparsity, low=0, high=1, below_high=True, advice="0.5 and 2:4 are usual")


def sparsify(module: nn.Module, sparsity: Sparsity, *, scope: Scope = "global") -> Masks:
    """Makes the smallest weights of a network zero, in place [Han2015], [Mishra2021].

    Args:
        module: trained; to be trained on with its masks kept (`KeepMasks`).
        sparsity: share of the maskable weights (see `Masks`), or ``2:4``.
        scope: where the smallest are looked for; of no effect for ``2:4``.

    Raises:
        UserError: a sparsity or scope that is none.
    """
    masks = masks_of(module, sparsity, scope=scope)
    masks.apply()
    return masks


@torch.no_grad()
def masks_of(module: nn.Module, sparsity: Sparsity, *, scope: Scope = "global") -> Masks:
    """The masks that `sparsify` applies, without applying them."""
    check_sparsity("sparsity", sparsity)
    check_one_of("scope", "scope", scope, SCOPES)
    weights = _weights(module, depthwise=False)
    if isinstance(sparsity, str):
        return Masks(module=module, kept={n: _two_of_four(w) for n, w in weights.items() if w.shape[1] % 4 == 0})
    if scope == "layer" or not weights:
        return Masks(
            module=module, kept={n: _largest(w, w.numel() - round(sparsity * w.numel())) for n, w in weights.items()}
        )
    return Masks(module=module, kept=_largest_of_all(weights, sparsity))


def masks_of_zeros(module: nn.Module) -> Masks:
    """The masks of a network that has its zeros already: what is zero now stays zero."""
    return Masks(
        module=module, kept={name: weight.detach() != 0 for name, weight in _weights(module, depthwise=False).items()}
    )


def _weights(module: nn.Module, *, depthwise: bool) -> dict[str, Tensor]:
    """Weights of convolutions and linear layers by parameter name; depthwise ones among them or not."""
    found: dict[str, Tensor] = {}
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear) or (isinstance(part, nn.Conv2d) and (depthwise or not _is_depthwise(part))):
            found[f"{name}.weight" if name else "weight"] = part.weight
    return found


def _is_depthwise(part: nn.Conv2d) -> bool:
    return part.groups == part.in_channels and part.groups > 1


def _largest(weight: Tensor, count: int) -> Tensor:
    """Where the ``count`` weights of greatest magnitude are; exactly so many, the first of equals."""
    order = torch.argsort(weight.abs().flatten(), descending=True, stable=True)
    kept = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
    kept[order[:count]] = True
    return kept.reshape(weight.shape)


def _largest_of_all(weights: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    magnitudes = []
    for weight in weights.values():
        size = weight.abs().flatten()
        floor = torch.argsort(size, descending=True, stable=True)[: max(1, round(_LEAST_KEPT * len(size)))]
        magnitudes.append(size.index_fill(0, floor, torch.inf))
    joined = torch.cat(magnitudes)
    kept = _largest(joined, max(int(torch.isinf(joined).sum()), len(joined) - round(sparsity * len(joined))))
    parts = torch.split(kept, [len(size) for size in magnitudes])
    return {name: part.reshape(weight.shape) for (name, weight), part in zip(weights.items(), parts, strict=True)}


def _two_of_four(weight: Tensor) -> Tensor:
    """The two largest of every four neighbouring input channels, of each output and place of the kernel."""
    rows = weight.movedim(1, -1)
    fours = rows.reshape(-1, 4)
    order = torch.argsort(fours.abs(), dim=1, descending=True, stable=True)
    kept = torch.zeros_like(fours, dtype=torch.bool).scatter_(1, order[:, :2], True)
    return kept.reshape(rows.shape).movedim(-1, 1)
