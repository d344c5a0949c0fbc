"""The signal that flows through all paths of a network's weights.

Responsible for the pass of `nas.train.scores.synflow`: absolute weights in double precision (a deep network leaves the
range of single precision), normalisation passed by, one input of ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nas.train.scores.training_pass import weights_of

NORMALISATIONS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.GroupNorm,
    nn.InstanceNorm2d,
    nn.LayerNorm,
)


def synaptic_flow(module: nn.Module, input_shape: torch.Size) -> float:
    """Sum over weights of ``|weight * dR/dweight|``, with R the sum of the outputs.

    The mode of the module changes; its weights and statistics do not.

    Args:
        module: gives ``(n, num_classes)``.
        input_shape: of one image.
    """
    module.eval()
    of_weights = {id(weight) for weight in weights_of(module)}
    weights, replaced = [], {}
    device = torch.device("cpu")
    for name, parameter in module.named_parameters():
        absolute = parameter.detach().abs().to(torch.float64)
        device = absolute.device
        if id(parameter) in of_weights:
            weights.append(absolute.requires_grad_())
        replaced[name] = absolute
    for name, buffer in module.named_buffers():
        replaced[name] = buffer.detach().to(torch.float64) if buffer.is_floating_point() else buffer.detach().clone()
    hooks = [part.register_forward_hook(_pass_by) for part in module.modules() if isinstance(part, NORMALISATIONS)]
    try:
        ones = torch.ones((1, *input_shape), dtype=torch.float64, device=device)
        total = functional_call(module, replaced, (ones,)).sum()
        gradients = torch.autograd.grad(total, weights, materialize_grads=True, allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
    flows = [(weight * gradient).abs().sum() for weight, gradient in zip(weights, gradients, strict=True)]
    return float(torch.stack(flows).sum().detach())


def _pass_by(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    given: Tensor = args[0]
    return given
