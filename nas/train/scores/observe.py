"""One look at a network before training.

Responsible for running only the passes that are asked for, for leaving the network as it was, and for going on where a
pass fails: a custom operator may raise anything.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nas.errors import one_line
from nas.model.trace import trace
from nas.train.scores.fisher import fisher_information
from nas.train.scores.flow import synaptic_flow
from nas.train.scores.score import Need, Observed
from nas.train.scores.training_pass import NEEDS, training_pass, weights_of
from nas.train.torch_settings import one_thread, seeded

_LOG = logging.getLogger(__name__)


def observe(module: nn.Module, images: Tensor, labels: Tensor, needs: Collection[Need], *, seed: int) -> Observed:
    """What the scores need of a network; the module is left as it was: weights, statistics, modes, gradients.

    Equal arguments give equal figures on a CPU.

    Args:
        module: in float32, as it would be trained; gives ``(n, num_classes)``. The figures are computed where it is.
        images: ``(n, c, h, w)`` float32, normalised.
        labels: ``(n,)`` int64.
        needs: parts of `Observed`.
        seed: of random signals and random layers.
    """
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    images, labels = images.to(device), labels.to(device)
    together = [need for need in NEEDS if need in needs]
    passes: list[tuple[list[Need], Callable[[torch.Generator], dict[str, Any]]]] = [
        (["size"], lambda _: _size(module, images)),
        (together, lambda generator: training_pass(module, images, labels, together, generator)),
        (["flow"], lambda _: {"flow": synaptic_flow(module, images.shape[1:])}),
        (["fisher"], lambda generator: {"fisher": fisher_information(module, images, generator)}),
    ]
    fields: dict[str, Any] = {}
    failures: dict[Need, str] = {}
    for parts, run in passes:
        if any(part in needs for part in parts):
            try:
                with _left_alone(module), one_thread(), seeded(seed, device), torch.enable_grad():
                    fields |= run(torch.Generator().manual_seed(seed))
            except Exception as error:  # whatever a custom operator or torch raises
                reason = one_line(error)
                _LOG.debug("%s cannot be observed: %s", ", ".join(parts), reason)
                failures |= dict.fromkeys(parts, reason)
    absent = [need for need in together if need not in fields and need not in failures]
    failures |= dict.fromkeys(absent, "the network has no part that shows it")
    return Observed(**fields, failures=failures)


def _size(module: nn.Module, images: Tensor) -> dict[str, Any]:
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    channels, height, width = images.shape[1:]
    return {
        "parameters": sum(parameter.numel() for parameter in parameters),
        "macs": trace(module, (channels, height, width)).macs,
        "layers": len(weights_of(module)),
        "tensors": len(parameters),
    }


@contextmanager
def _left_alone(module: nn.Module) -> Iterator[None]:
    """Modes and buffers (running statistics) are afterwards what they were."""
    modes = [(part, part.training) for part in module.modules()]
    buffers = [
        (part, name, buffer, buffer.detach().clone())
        for part in module.modules()
        for name, buffer in part.named_buffers(recurse=False)
    ]
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
        with torch.no_grad():
            for part, name, buffer, value in buffers:
                buffer.copy_(value)
                setattr(part, name, buffer)
