"""One training on several processes, each with a GPU of its own: data-parallel, with the result of one process.

Responsible for dividing the work so that nothing else has to know of it: `nas.train.fit.fit` runs as it is in every
process, with the same seed, so that all draw the same batches. Then hooks of the network do the rest [Li2020]:

- its input is cut, so that each process computes its part of the batch;
- its outputs are gathered, so that every process has the loss of the whole batch, and gradients flow into its own part;
- gradients are added up as they arise, so that all take the same step;
- batch normalisation takes its moments over the whole batch [Goyal2017 does without; here one process is the standard].

So the result is that of one process but for the order in which floats are added. Layers that draw random numbers
(dropout) draw other ones than in one process. Each process augments the whole batch, which is cheap beside training.

References:
    [Li2020] S. Li, Y. Zhao, R. Varma et al. PyTorch Distributed: Experiences on Accelerating Data Parallel Training.
        VLDB 2020.
    [Goyal2017] P. Goyal, P. Dollar, R. Girshick et al. Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour.
        arXiv 1706.02677, 2017.
"""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, multiprocessing, nn
from torch.nn import functional

from nas.errors import UserError
from nas.train.fit import Fit, fit
from nas.train.recipe import Recipe
from nas.train.task import ImageClassification

_SILENCE = timedelta(minutes=5)  # after which a process that waits for another one gives up
_GONE_SECONDS = 10.0  # that the other processes get to end


def fit_on_several(
    module: nn.Module,
    task: ImageClassification,
    recipe: Recipe,
    *,
    devices: Sequence[str],
    deadline: float | None = None,
    checkpoint: Path | None = None,
    **options: Any,
) -> Fit:
    """What `nas.train.fit.fit` does, on several devices at once; with one it is that.

    Args:
        module: is trained in place.
        task: what to learn; sent to the other processes once.
        recipe: how; the batch is divided, not multiplied.
        devices: torch's name of the device of each process, the first that of this one: ``["cuda:0", "cuda:1"]``.
        deadline: as there; this process watches it.
        checkpoint: as there; all processes read it, this one writes it.
        options: all others of `fit`, but for ``device``.

    Raises:
        UserError: devices of different kinds, or more processes than images in a batch.
        RuntimeError: another process died; what it said is on its standard error.
        Exception: whatever `fit` raises.
    """
    if len(devices) == 1:
        return fit(
            module, task, recipe, device=devices[0], deadline=deadline, checkpoint=checkpoint, **options
        )  # fmt: skip
    kinds = {torch.device(device).type for device in devices}
    if len(kinds) != 1:
        raise UserError("devices", f"must be of one kind, got {', '.join(devices)}")
    if len(devices) > recipe.batch_size:
        raise UserError("devices", f"must be at most one an image of a batch ({recipe.batch_size}), got {len(devices)}")
    own, sent = copy.deepcopy(module).cpu(), copy.deepcopy(module).cpu()
    kind = kinds.pop()
    with tempfile.TemporaryDirectory(prefix="nas-together-") as folder:
        meeting = str(Path(folder) / "meeting")
        copies = _copy_checkpoint(checkpoint, Path(folder), len(devices))
        context = multiprocessing.get_context("spawn")
        others = [
            context.Process(
                target=_follow,
                args=(rank, devices, meeting, (sent, task, recipe), {**options, "checkpoint": copies[rank]}),
                daemon=True,
            )
            for rank in range(1, len(devices))
        ]
        for process in others:
            process.start()
        try:
            _join(0, len(devices), meeting, kind)
            result = _fit_part(
                own, (task, recipe), devices[0], {**options, "deadline": deadline, "checkpoint": checkpoint}
            )
        finally:
            _part_from(others)
    module.load_state_dict(own.state_dict())
    module.to(next(own.parameters()).device).eval()
    return result


def visible_devices(device: str, replicas: int) -> list[str]:
    """The devices of a candidate that gets ``replicas`` of them; one where there are no more.

    Args:
        device: ``cpu`` or ``cuda``.
        replicas: how many are wanted; on a CPU so many processes.
    """
    if device != "cuda":
        return [device] * replicas
    return [f"cuda:{place}" for place in range(max(1, min(replicas, torch.cuda.device_count())))]


def _follow(
    rank: int, devices: Sequence[str], meeting: str, what: tuple[nn.Module, ImageClassification, Recipe], options: Any
) -> None:
    """What each of the other processes does."""
    module, task, recipe = what
    module = copy.deepcopy(module)  # torch sends tensors as memory that all processes share
    _join(rank, len(devices), meeting, torch.device(devices[rank]).type)
    _fit_part(module, (task, recipe), devices[rank], options)


def _join(rank: int, size: int, meeting: str, kind: str) -> None:
    # Processes of one machine meet; looking its name up may fail where there is no network.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(
        "nccl" if kind == "cuda" else "gloo",
        store=dist.FileStore(meeting, size),  # type: ignore[attr-defined]
        rank=rank,
        world_size=size,
        timeout=_SILENCE,
    )


def _fit_part(module: nn.Module, what: tuple[ImageClassification, Recipe], device: str, options: dict[str, Any]) -> Fit:
    target = torch.device(device)
    if target.type == "cuda":
        torch.cuda.set_device(target)
    module.to(target)
    share_norms(module)
    divide(module)
    try:
        return fit(module, *what, device=device, **options)
    finally:
        dist.destroy_process_group()


def _part_from(others: Sequence[Any]) -> None:
    """Ends the other processes: they have done the same steps and end by themselves, or never will."""
    for process in others:
        process.join(_GONE_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()


def _copy_checkpoint(checkpoint: Path | None, folder: Path, size: int) -> list[Path | None]:
    """A copy for each other process, which goes on from it and writes it: all from the same epoch."""
    if checkpoint is None:
        return [None] * size
    copies = [folder / f"{rank}.safetensors" for rank in range(size)]
    if checkpoint.is_file():
        content = checkpoint.read_bytes()
        for path in copies[1:]:
            path.write_bytes(content)
    return [None, *copies[1:]]


def divide(module: nn.Module) -> None:
    """Has a network compute its process's part of each batch, and add up gradients. See the module's text."""
    part = _Part()
    module.register_forward_pre_hook(part.cut)
    module.register_forward_hook(part.gather)
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(_add_up)  # type: ignore[no-untyped-call]


def share_norms(module: nn.Module) -> None:
    """Has batch normalisation take its moments over the parts of all processes; names and parameters stay."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            setattr(module, name, _SharedNorm(child))
        else:
            share_norms(child)


def _bounds(size: int) -> list[int]:
    """Where the parts of a batch begin and end; the first ones have one image more."""
    world = dist.get_world_size()
    quotient, rest = divmod(size, world)
    return [quotient * rank + min(rank, rest) for rank in range(world + 1)]


class _Part:
    """The hooks at both ends of a network."""

    def __init__(self) -> None:
        self._whole = False

    def cut(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """This process's rows. A few images that are only judged, fewer than processes, are computed by all."""
        images = inputs[0]
        self._whole = len(images) < dist.get_world_size() and not module.training
        if self._whole:
            return inputs
        bounds, rank = _bounds(len(images)), dist.get_rank()
        return (images[bounds[rank] : bounds[rank + 1]], *inputs[1:])

    def gather(self, module: nn.Module, inputs: tuple[Any, ...], outputs: Tensor) -> Tensor:
        """All rows."""
        return outputs if self._whole else cast(Tensor, _Gather.apply(outputs))  # type: ignore[no-untyped-call]


def _add_up(parameter: Tensor) -> None:
    assert parameter.grad is not None, "the hook runs once there is a gradient"
    dist.all_reduce(parameter.grad)


class _Gather(torch.autograd.Function):
    """Rows of all processes, in order; the gradient is that of the own rows, since each has the whole loss."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        sizes = torch.zeros(dist.get_world_size(), dtype=torch.int64, device=own.device)
        sizes[dist.get_rank()] = len(own)
        dist.all_reduce(sizes)
        counts = [int(count) for count in sizes]
        # Parts differ by a row at most; collectives want them alike.
        padded = functional.pad(own, (0, 0) * (own.ndim - 1) + (0, max(counts) - len(own))).contiguous()
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        ctx.start, ctx.count = sum(counts[: dist.get_rank()]), len(own)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient[ctx.start : ctx.start + ctx.count]


class _Sum(torch.autograd.Function):
    """A sum over all processes, and of its gradients."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def _total(own: Tensor) -> Tensor:
    return cast(Tensor, _Sum.apply(own))  # type: ignore[no-untyped-call]


class _SharedNorm(nn.BatchNorm2d):
    """Batch normalisation over the parts of all processes. Torch's own does this on GPUs only."""

    def __init__(self, own: nn.BatchNorm2d) -> None:
        super().__init__(
            own.num_features, eps=own.eps, momentum=own.momentum, affine=own.affine,
            track_running_stats=own.track_running_stats,
        )  # fmt: skip
        self.__dict__["_parameters"] = own._parameters
        self.__dict__["_buffers"] = own._buffers
        self.train(own.training)

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            return super().forward(images)
        exact, count = images.float(), torch.tensor([images.numel() / self.num_features], device=images.device)
        sums = _total(torch.cat([exact.sum(dim=(0, 2, 3)), count]))
        number = sums[-1].detach()
        mean = sums[:-1] / number
        centred = exact - mean[:, None, None]
        variance = _total(centred.square().sum(dim=(0, 2, 3))) / number
        self._remember(mean.detach(), variance.detach() * number / (number - 1).clamp(min=1))
        scale = torch.rsqrt(variance + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        normed = centred * scale[:, None, None]
        return (normed if self.bias is None else normed + self.bias[:, None, None]).to(images.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)
