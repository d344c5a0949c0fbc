"""Quantisation-aware training: a network with the rounding of its INT8 file in it.

Responsible for where values are rounded, the same places as in a file that was quantised after training
(`nas.deploy.quantise`): inputs and outputs of convolutions, linear layers, sums, products and poolings. With unsigned
activations an activation that only cuts off is part of the layer before it, as in onnxruntime's kernels. The scores
stay in float.

The float network is trained first. `prepare_qat` makes the copy, `nas.train.fit.fit` trains it with `SettledRanges`
among its rules, and `nas.deploy.qat.write_qat_file` writes what came of it.

References:
    [Jacob2018] B. Jacob et al.: Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
        Inference. CVPR 2018. https://arxiv.org/abs/1712.05877
"""

from __future__ import annotations

import copy
import operator
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from nas.errors import UserError, first_line
from nas.train.checks import check_number, check_one_of
from nas.train.compression.fake_quantise import PROFILES, FakeQuantise, Profile, QuantisedLayer

_BATCH = 64
# Computed in 8 bits by the runtimes: what goes in and what comes out is rounded.
_COMPUTING: tuple[type[nn.Module], ...] = (QuantisedLayer, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
_COMPUTING_CALLS: frozenset[object] = frozenset(
    {
        operator.add, operator.iadd, operator.mul, operator.imul, torch.add, torch.mul, torch.matmul, operator.matmul,
        torch.cat, nn.functional.avg_pool2d, nn.functional.adaptive_avg_pool2d, "add", "add_", "mul", "mul_", "matmul",
    }
)  # fmt: skip
# Only move numbers about: what comes out is on the grid of what went in.
_MOVING: tuple[type[nn.Module], ...] = (nn.MaxPool2d, nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d)
_MOVING_CALLS: frozenset[object] = frozenset(
    {
        torch.flatten, torch.reshape, torch.transpose, torch.permute, nn.functional.max_pool2d, nn.functional.dropout,
        "flatten", "reshape", "view", "transpose", "permute", "contiguous", "squeeze", "unsqueeze",
    }
)  # fmt: skip
# Cut off at 0, or at 0 and 6: the range of what comes out does the same.
_CUTTING: tuple[type[nn.Module], ...] = (nn.ReLU, nn.ReLU6)
_CUTTING_CALLS: frozenset[object] = frozenset({nn.functional.relu, torch.relu, nn.functional.relu6, "relu", "relu_"})


def prepare_qat(module: nn.Module, images: Tensor, *, profile: Profile = "unsigned") -> fx.GraphModule:
    """A copy of a trained network that rounds as its INT8 file will; the network itself is not changed.

    Args:
        module: trained, float32, on the CPU; gives scores for ``images``.
        images: ``(n, c, h, w)`` float32 from the training split, as the network takes them: first ranges.
        profile: sign of the activations.

    Returns:
        A module to be trained on as it is, at a tenth or less of the first learning rate.

    Raises:
        UserError: no images, or a network that torch.fx cannot trace, because its forward decides by values.
    """
    check_one_of("compress.activations", "profile", profile, PROFILES)
    if images.ndim != 4 or not len(images):
        raise UserError("calibration", f"must be images (n, c, h, w), got {tuple(images.shape)}")
    inner = copy.deepcopy(module).cpu().eval()
    try:
        graph = fx.Tracer().trace(inner)
        traced = fx.GraphModule(inner, graph)
    except Exception as error:  # tracing runs the user's forward
        problem = f"cannot be traced for quantisation-aware training, {first_line(error)}"
        advice = "keep conditions on values out of forward, or quantise after training (compress.qat_epochs=0)"
        raise UserError("network", problem, advice) from error
    _round_weights(traced)
    _round_values(traced, profile)
    traced.delete_all_unused_submodules()
    traced.graph.lint()
    traced.recompile()
    _first_ranges(traced, images)
    return traced


@dataclass(frozen=True, kw_only=True)
class SettledRanges:
    """The rule that ranges of activations stop moving, so that the last steps train what the file will compute.

    Attributes:
        after: share of the steps for which they move.

    Raises:
        UserError: a share that is none.
    """

    after: float = 0.5

    def __post_init__(self) -> None:
        check_number("compress.settle_after", self.after, low=0, high=1)

    @property
    def digest(self) -> str:
        return repr(self)

    def start(self, module: nn.Module, *, steps: int, done: int) -> _SettledRanges:
        active = _SettledRanges(module, until=self.after * steps)
        active.after_step(done)
        return active


class _SettledRanges:
    def __init__(self, module: nn.Module, *, until: float) -> None:
        self._module, self._until = module, until

    def after_step(self, done: int) -> None:
        self._observe(done < self._until)

    def finish(self) -> None:
        self._observe(False)

    def _observe(self, observing: bool) -> None:
        for part in self._module.modules():
            if isinstance(part, FakeQuantise):
                part.observing = observing


def _round_weights(traced: fx.GraphModule) -> None:
    """Puts `QuantisedLayer` in the place of convolutions and linear layers, and normalisations into it."""
    parts = dict(traced.named_modules())
    calls: dict[str, int] = {}
    for node in traced.graph.nodes:
        if node.op == "call_module":
            calls[node.target] = calls.get(node.target, 0) + 1
    for node in list(traced.graph.nodes):
        part = parts.get(node.target) if node.op == "call_module" else None
        if not isinstance(part, nn.Conv2d | nn.Linear):
            continue
        norm = _norm_after(node, parts, calls) if isinstance(part, nn.Conv2d) and calls[node.target] == 1 else None
        if norm is not None:
            after = next(iter(node.users))
            after.replace_all_uses_with(node)
            traced.graph.erase_node(after)
        _replace(traced, node.target, QuantisedLayer(part, norm))


def _norm_after(node: fx.Node, parts: dict[str, nn.Module], calls: dict[str, int]) -> nn.BatchNorm2d | None:
    users = list(node.users)
    if len(users) != 1 or users[0].op != "call_module" or calls[str(users[0].target)] != 1:
        return None
    found = parts[str(users[0].target)]
    return found if isinstance(found, nn.BatchNorm2d) and found.track_running_stats else None


def _round_values(traced: fx.GraphModule, profile: Profile) -> None:
    """Inserts `FakeQuantise` where values are computed in 8 bits."""
    parts = dict(traced.named_modules())
    kinds = _Kinds(parts)
    scores = {value for node in traced.graph.nodes if node.op == "output" for value in node.all_input_nodes}
    wanted: set[fx.Node] = set()
    for node in traced.graph.nodes:
        if kinds.computes(node):
            last = _last_of(node, kinds)
            wanted |= {*node.all_input_nodes, last}
            if profile == "signed":  # symmetric integers cannot cut off at 0, so the activation is a layer of its own
                wanted.add(node)
    names: set[str] = set()
    for node in list(traced.graph.nodes):
        if node in scores:
            continue
        source = node.all_input_nodes[0] if kinds.moves(node) and node.all_input_nodes else None
        if source is not None and source.target in names:
            _insert(traced, node, str(source.target))
        elif node in wanted:
            name = f"round_{len(names)}"
            names.add(name)
            traced.add_submodule(name, FakeQuantise(profile))
            _insert(traced, node, name)


class _Kinds:
    """What the nodes of a graph do to the grid of their values."""

    def __init__(self, parts: dict[str, nn.Module]) -> None:
        self._parts = parts

    def computes(self, node: fx.Node) -> bool:
        return self._is(node, _COMPUTING, _COMPUTING_CALLS)

    def moves(self, node: fx.Node) -> bool:
        return self._is(node, _MOVING, _MOVING_CALLS)

    def cuts(self, node: fx.Node) -> bool:
        return self._is(node, _CUTTING, _CUTTING_CALLS)

    def _is(self, node: fx.Node, modules: tuple[type[nn.Module], ...], calls: frozenset[object]) -> bool:
        if node.op == "call_module":
            return isinstance(self._parts[str(node.target)], modules)
        return node.op in ("call_function", "call_method") and node.target in calls


def _last_of(node: fx.Node, kinds: _Kinds) -> fx.Node:
    """The node itself, or the activation that only cuts off its value, where nothing else reads the value."""
    users = list(node.users)
    return users[0] if len(users) == 1 and kinds.cuts(users[0]) else node


def _insert(traced: fx.GraphModule, node: fx.Node, name: str) -> None:
    """Has all readers of a value read it rounded."""
    with traced.graph.inserting_after(node):
        rounded = traced.graph.call_module(name, (node,))
    node.replace_all_uses_with(rounded, delete_user_cb=lambda user: user is not rounded)


def _replace(traced: fx.GraphModule, name: str, part: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(traced.get_submodule(parent), last, part)


@torch.no_grad()
def _first_ranges(traced: fx.GraphModule, images: Tensor) -> None:
    """Ranges over all the images, found without rounding on the way."""
    seen: dict[FakeQuantise, list[Tensor]] = {}

    def note(part: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
        assert isinstance(part, FakeQuantise)
        seen.setdefault(part, []).append(torch.stack(torch.aminmax(inputs[0])))
        return inputs[0]

    rounders = [part for part in traced.modules() if isinstance(part, FakeQuantise)]
    handles = [part.register_forward_hook(note) for part in rounders]
    try:
        for batch in torch.split(images, _BATCH):
            traced(batch)
    finally:
        for handle in handles:
            handle.remove()
    for part, extremes in seen.items():
        values = torch.stack(extremes)
        part.observe(torch.stack([values[:, 0].min(), values[:, 1].max()]), 1.0)
