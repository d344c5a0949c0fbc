"""A share of a GPU: the memory that one of several trainings on it may take."""

from __future__ import annotations

import torch


def limit_gpu_memory(share: float) -> None:
    """Has torch's allocator refuse more than ``share`` of the memory of each GPU that this process sees.

    Beyond it torch raises `torch.OutOfMemoryError`, which fails the one candidate. What CUDA itself takes for the
    process (some hundred MB) is not counted. Without effect where there is no GPU.

    Args:
        share: in (0, 1].
    """
    assert 0 < share <= 1, "a share of a GPU"
    if torch.cuda.is_available():
        for place in range(torch.cuda.device_count()):
            torch.cuda.set_per_process_memory_fraction(share, place)
