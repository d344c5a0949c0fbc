"""Weights in safetensors files: no pickle is ever read.

Responsible for saving and loading the state of a module, whatever its memory layout, tied tensors included.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nas.errors import UserError


def save_tensors(tensors: Mapping[str, Tensor], path: Path, *, metadata: Mapping[str, str]) -> None:
    """Write named tensors; the file appears complete or not at all.

    Tensors that share memory are written once under each name, contiguous.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    apart = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(apart, unfinished, metadata=dict(metadata))
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def save_weights(module: nn.Module, path: Path, *, metadata: Mapping[str, str] | None = None) -> None:
    """Write a module's parameters and buffers under the names of its state dictionary."""
    save_tensors(module.state_dict(), path, metadata={"format": "pt", **(metadata or {})})


def load_weights(module: nn.Module, path: Path) -> None:
    """Fill a module from a file of `save_weights`.

    Raises:
        UserError: no such file, not a safetensors file, or the weights of another architecture.
    """
    tensors = read_tensors(path)
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if wanted != given:
        odd = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
        problem = f"must fit the network, got {given.get(odd[0], 'nothing')} for {odd[0]}"
        raise UserError(str(path), f"{problem} where it has {wanted.get(odd[0], 'nothing')}", "another architecture?")
    module.load_state_dict(tensors)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file. Raises `UserError` where there is none."""
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except FileNotFoundError:
        raise UserError(str(path), "no such file") from None
    except (SafetensorError, OSError) as error:
        raise UserError(str(path), f"cannot be read as safetensors ({error})") from None
    return tensors
