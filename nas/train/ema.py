"""A moving average of a network's weights.

Responsible for averaging parameters together with the statistics of normalisation layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage:
    """An exponential moving average of the state of a module.

    The decay of update ``t`` (from 0) is ``min(decay, (1 + t)/(10 + t))``, so that the random start is soon
    forgotten. Integers (counters of batches) are copied.

    Attributes:
        state: the average by name, as in ``module.state_dict()``.
        num_updates: how many updates went into it.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self._current: dict[str, Tensor] = dict(module.state_dict())
        self.state = {name: tensor.detach().clone() for name, tensor in self._current.items()}
        self.num_updates = 0
        floating = [name for name, tensor in self._current.items() if tensor.is_floating_point()]
        self._averages = [self.state[name] for name in floating]
        self._sources = [self._current[name] for name in floating]
        self._counters = [name for name in self._current if name not in set(floating)]

    @torch.no_grad()
    def update(self) -> None:
        """Take the module's state of now into the average."""
        decay = min(self._decay, (1 + self.num_updates) / (10 + self.num_updates))
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        average(self._averages, self._sources, self.num_updates)
        for name in self._counters:
            self.state[name].copy_(self._current[name])
        self.num_updates += 1

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor], num_updates: int) -> None:
        """Go on from a saved average."""
        assert state.keys() == self.state.keys()
        for name, tensor in state.items():
            self.state[name].copy_(tensor)
        self.num_updates = num_updates
