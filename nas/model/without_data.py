"""Modules without data: what costs are read from.

Responsible for building modules on torch's meta device quickly. Drawing initial weights takes most of the time that
building a module takes, even where there is no memory to draw them into.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_MAKERS = frozenset({torch.empty, torch.zeros, torch.ones, torch.tensor})
_FILLERS = frozenset({torch.Tensor.fill_, torch.Tensor.zero_})


class _NothingDrawn(TorchFunctionMode):
    """Makes tensors on the meta device, and hands them back from what would fill them."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in _FILLERS or getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        if func in _MAKERS:
            # Straight to the device, past the mode that would say the same.
            with torch._C.DisableTorchFunction():
                return func(*args, **{**(kwargs or {}), "device": "meta"})
        return func(*args, **(kwargs or {}))


@contextmanager
def without_data() -> Iterator[None]:
    """Within, tensors are made without data and initial weights are not drawn."""
    with torch.device("meta"), _NothingDrawn():
        yield


@contextmanager
def collector_off() -> Iterator[None]:
    """No garbage collection within: thousands of objects are made that are all kept, and it looks at each anew."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
