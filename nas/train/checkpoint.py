"""Trainings that can be gone on with: weights, their average and the optimiser's state in one safetensors file.

Responsible for the file's layout. Tensors are ``model/<name>``, ``average/<name>`` and
``optimiser/<parameter>/<key>``; everything else is JSON in the header's field ``nas``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from nas.train.ema import MovingAverage
from nas.train.weights import save_tensors

_LOG = logging.getLogger(__name__)
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a checkpoint says of itself.

    Attributes:
        epochs: that were trained.
        seed: of the training.
        recipe: digest of the recipe.
        data: digest of the data.
        num_averaged: updates of the moving average.
        loss_scale: of float16 training; 1 otherwise.
        train_losses: mean loss of each epoch.
        method: digest of the rules and of the teacher; empty where there are none.
    """

    epochs: int
    seed: int
    recipe: str
    data: str
    num_averaged: int
    loss_scale: float
    train_losses: tuple[float, ...]
    method: str = ""

    def continues(self, other: Progress) -> bool:
        """Whether both belong to one training: same seed, recipe, data and method."""
        mine, its = ((each.seed, each.recipe, each.data, each.method) for each in (self, other))
        return mine == its


@dataclass(frozen=True, kw_only=True, eq=False)
class Trainee:
    """The live parts of a training, which a checkpoint saves and restores."""

    module: nn.Module
    optimiser: torch.optim.Optimizer
    average: MovingAverage | None


def save_checkpoint(path: Path, trainee: Trainee, progress: Progress) -> None:
    """Write the state after an epoch; the file appears complete or not at all."""
    tensors = {f"model/{name}": tensor for name, tensor in trainee.module.state_dict().items()}
    if trainee.average is not None:
        tensors |= {f"average/{name}": tensor for name, tensor in trainee.average.state.items()}
    for index, parameter in enumerate(_parameters(trainee.optimiser)):
        for key, value in trainee.optimiser.state[parameter].items():
            if isinstance(value, Tensor):
                tensors[f"optimiser/{index}/{key}"] = value
    save_tensors(tensors, path, metadata={"nas": json.dumps({"format": _FORMAT, **asdict(progress)})})


def read_progress(path: Path) -> Progress | None:
    """What a checkpoint says of itself; None where there is none, or none that can be used."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {})["nas"])
        if record.pop("format") != _FORMAT:
            raise ValueError("another format")
        return Progress(**{**record, "train_losses": tuple(record["train_losses"])})
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        _LOG.warning("%s is no checkpoint that can be gone on from (%s); training starts anew", path, error)
        return None


def restore_checkpoint(path: Path, trainee: Trainee, progress: Progress) -> bool:
    """Bring a trainee to the state of a checkpoint.

    Returns:
        False, with the trainee untouched, where the checkpoint is of another network or average.
    """
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    model = _below(tensors, "model/")
    average = _below(tensors, "average/")
    parameters = _parameters(trainee.optimiser)
    if _shapes(model) != _shapes(trainee.module.state_dict()) or bool(average) != (trainee.average is not None):
        _LOG.warning("%s holds another network; training starts anew", path)
        return False
    trainee.module.load_state_dict(model)
    if trainee.average is not None:
        trainee.average.restore(average, progress.num_averaged)
    for name, tensor in _below(tensors, "optimiser/").items():
        index, key = name.split("/", 1)
        parameter = parameters[int(index)]
        # In the parameter's own memory layout, which fused optimisers rely on.
        like = torch.empty_like(parameter) if tensor.shape == parameter.shape else torch.empty_like(tensor)
        trainee.optimiser.state[parameter][key] = like.copy_(tensor).to(tensor.dtype)
    return True


def _parameters(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}
