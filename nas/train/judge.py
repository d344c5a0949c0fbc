"""How good a network is on a split.

Responsible for predictions in evaluation mode and for the metrics made of them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.train.data.images import SplitName
from nas.train.task import ImageClassification, Size
from nas.train.torch_settings import one_thread

_BATCH = 256


@torch.no_grad()
def logits(
    module: nn.Module,
    task: ImageClassification,
    split: SplitName,
    *,
    input_size: Size | None = None,
    device: str = "cpu",
) -> Tensor:
    """The outputs of a network on a split, in evaluation mode (in which it is left), in float32.

    Args:
        module: takes ``(n, c, h, w)`` float32 and gives ``(n, num_classes)``.
        task: where the images come from.
        split: which of them.
        input_size: height and width that the network takes; None: the data's own.
        device: where to compute; the module is moved there.

    Returns:
        ``(n, num_classes)`` float32, on the CPU.
    """
    module.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    pixels = task.pixels(split, input_size)
    with one_thread():
        outputs = [
            module(task.normalise(pixels[start : start + _BATCH].to(device))).float().cpu()
            for start in range(0, len(pixels), _BATCH)
        ]
    return torch.cat(outputs)


def judge(
    module: nn.Module,
    task: ImageClassification,
    split: SplitName,
    *,
    input_size: Size | None = None,
    device: str = "cpu",
) -> dict[str, float]:
    """``accuracy`` (share of the images, 0 to 1) and ``loss`` (mean cross-entropy, nats) on a split.

    An output that is NaN counts as wrong, and makes the loss NaN. Arguments are those of `logits`.
    """
    outputs = logits(module, task, split, input_size=input_size, device=device)
    return metrics_of(outputs, task.labels(split))


def metrics_of(outputs: Tensor, labels: Tensor) -> dict[str, float]:
    """``accuracy`` and ``loss`` of ``(n, k)`` logits against ``(n,)`` labels; see `judge`."""
    known = torch.isfinite(outputs).all(dim=1)
    correct = (outputs.argmax(dim=1) == labels) & known
    loss = float(functional.cross_entropy(outputs, labels))
    return {"accuracy": float(correct.double().mean()), "loss": loss if math.isfinite(loss) else math.nan}
