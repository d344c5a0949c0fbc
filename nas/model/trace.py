"""From a module to its layer table.

Responsible for running the very module that is trained on tensors without data, and for writing down what it
computes. Common operations have a rule in `nas.model.trace_rules` that finds the output's shape by arithmetic; all
others run on torch's meta device, which is general and about a hundred times slower. What was only rules can be
followed again for another size of map, without the module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nas.errors import UserError
from nas.model.layer_table import LayerRow, LayerTable
from nas.model.shapes import InputShape, shape_text
from nas.model.stages import Stages
from nas.model.trace_rules import QUERIES, RULES, SIZE_QUERIES, Rule, Step


@dataclass(frozen=True, slots=True)
class Followed:
    """A rule that was followed: what it was given, with None for what was traced, and the values of that."""

    rule: Rule
    values: tuple[int, ...]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class Tape:
    """The rows written so far. Values are numbered as in `LayerTable`.

    Attributes:
        followed: the rules that gave the rows.
        only_rules: whether these are all that was done, whatever the size of the map: nothing ran without a rule, and
            nobody asked for a size.
    """

    def __init__(self) -> None:
        self.followed: list[Followed] = []
        self.only_rules = True
        self.rows: list[LayerRow] = []
        self.inputs: list[tuple[int, ...]] = []
        self.stage: list[str] = []
        self.current_stage = ""

    def write(self, row: LayerRow, inputs: tuple[int, ...]) -> int:
        """Appends a row; gives its output's number."""
        self.rows.append(row)
        self.inputs.append(inputs)
        self.stage.append(self.current_stage)
        return len(self.rows) - 1


class TracedTensor(torch.Tensor):
    """A tensor without data that writes down what is done to it.

    Attributes:
        tape: where to.
        value: its number there.
        sizes: its shape, batch included; kept apart because asking torch for it is slow.
    """

    tape: Tape
    value: int
    sizes: tuple[int, ...]

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in QUERIES:
            if name in SIZE_QUERIES:
                for tensor in _find_traced(args, kwargs):
                    tensor.tape.only_rules = False
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        traced = [arg for arg in args if isinstance(arg, TracedTensor)] or _find_traced(args, kwargs)
        rule = RULES.get(func)
        step = rule([tensor.sizes for tensor in traced], args, kwargs) if rule is not None else None
        if step is None or rule is None:
            for tensor in traced:
                tensor.tape.only_rules = False
            return _run_on_meta(func, args, kwargs, traced)
        kept = tuple(None if isinstance(arg, TracedTensor) else arg for arg in args)
        values = tuple(tensor.value for tensor in traced)
        traced[0].tape.followed.append(Followed(rule, values, kept, kwargs))
        return _follow(step, traced)


def trace(module: nn.Module, input_shape: InputShape) -> LayerTable:
    """What a module computes for one input, as in inference.

    The module runs as it is, on a batch of one without data; its parameters may lie anywhere and keep their values.

    Args:
        module: takes ``(1, c, h, w)``; returns one tensor.
        input_shape: channels, height, width.

    Raises:
        UserError: the module cannot take the shape, or does not return one tensor.
    """
    modes = [(part, part.training) for part in module.modules() if part.training]
    for part, _ in modes:
        part.training = False
    try:
        return _trace_inference(module, input_shape)
    finally:
        for part, mode in modes:
            part.training = mode


class Tracer:
    """Traces one module, again and again, for maps of several sizes.

    Args:
        module: in inference mode; as for `trace`.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._tape: Tape | None = None
        self._channels = 0
        self._output = -1

    def trace(self, input_shape: InputShape) -> LayerTable:
        """What `trace` gives for the module. Raises `UserError` as it does."""
        if self._tape is not None and self._channels == input_shape[0]:
            table = self._follow_again(self._tape, input_shape)
            if table is not None:
                return table
        tape = Tape()
        table = _trace_inference(self._module, input_shape, tape)
        if tape.only_rules:
            self._tape, self._channels, self._output = tape, input_shape[0], table.output
        return table

    def _follow_again(self, tape: Tape, input_shape: InputShape) -> LayerTable | None:
        """The table for another size; None if a rule declines at it."""
        sizes: list[tuple[int, ...]] = []
        rows: list[LayerRow] = []
        inputs: list[tuple[int, ...]] = []
        start = (1, *input_shape)
        for step_taken in tape.followed:
            given = [start if value < 0 else sizes[value] for value in step_taken.values]
            try:
                step = step_taken.rule(given, step_taken.args, step_taken.kwargs)
            except UserError as error:
                raise _does_not_take(error, input_shape) from error
            if step is None:
                return None
            if step.row is not None:
                rows.append(step.row)
                inputs.append(step_taken.values)
                sizes.append((1, *step.row.out_shape))
        return LayerTable(
            in_shape=tuple(input_shape),
            rows=tuple(rows),
            inputs=tuple(inputs),
            output=self._output,
            stage=("",) * len(rows),
        )


def _trace_inference(module: nn.Module, input_shape: tuple[int, ...], tape: Tape | None = None) -> LayerTable:
    tape = tape or Tape()
    x: object = _traced((1, *input_shape), tape, -1)
    with torch.no_grad():
        if isinstance(module, Stages):
            for name, part in module.named_children():
                tape.current_stage = name
                x = _call(part, x, input_shape)
        else:
            x = _call(module, x, input_shape)
    if not isinstance(x, TracedTensor):
        raise UserError("output", f"must be one tensor computed from the input, got {type(x).__name__}")
    return LayerTable(
        in_shape=tuple(input_shape),
        rows=tuple(tape.rows),
        inputs=tuple(tape.inputs),
        output=x.value,
        stage=tuple(tape.stage),
    )


def _call(module: nn.Module, x: object, input_shape: tuple[int, ...]) -> object:
    shape = x.sizes[1:] if isinstance(x, TracedTensor) else input_shape
    try:
        return module(x)
    except UserError as error:
        raise _does_not_take(error, shape) from error
    except Exception as error:
        told = " ".join(str(error).split())[:200]
        raise UserError("op", f"cannot take an input of {shape_text(shape)}: {type(error).__name__}: {told}") from error


def _does_not_take(error: UserError, shape: tuple[int, ...]) -> UserError:
    return UserError(error.where, f"cannot take an input of {shape_text(shape)}: {error.problem}")


def _traced(sizes: tuple[int, ...], tape: Tape, value: int) -> TracedTensor:
    tensor = torch.empty(sizes, device="meta").as_subclass(TracedTensor)
    tensor.tape, tensor.value, tensor.sizes = tape, value, sizes
    return tensor


def _follow(step: Step, traced: Sequence[TracedTensor]) -> TracedTensor:
    if step.row is None:
        return traced[0]
    tape = traced[0].tape
    value = tape.write(step.row, tuple(tensor.value for tensor in traced))
    return _traced((traced[0].sizes[0], *step.row.out_shape), tape, value)


def _find_traced(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[TracedTensor]:
    found: list[TracedTensor] = []
    for arg in [*args, *kwargs.values()]:
        if isinstance(arg, TracedTensor):
            found.append(arg)
        elif isinstance(arg, list | tuple):
            found.extend(part for part in arg if isinstance(part, TracedTensor))
    return found


def _run_on_meta(
    func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], traced: Sequence[TracedTensor]
) -> Any:
    """Runs a function that has no rule on the meta device and writes it down as ``other`` or ``view``."""
    counter = FlopCounterMode(display=False)
    with torch._C.DisableTorchFunctionSubclass():
        with counter:
            result = func(*_on_meta(args), **_on_meta(kwargs))
        if not traced:
            return result
        weights = [arg for arg in [*args, *kwargs.values()] if isinstance(arg, nn.Parameter)]
        return _written(
            result,
            traced,
            name=getattr(func, "__name__", "function"),
            macs=counter.get_total_flops() // 2,
            numbers=sum(weight.numel() for weight in weights),
        )


def _written(result: Any, traced: Sequence[TracedTensor], *, name: str, macs: int, numbers: int) -> Any:
    """The result of a function with each tensor in it traced, as the output of a row."""
    if isinstance(result, list | tuple):
        parts = []
        for part in result:
            parts.append(_written(part, traced, name=name, macs=macs, numbers=numbers))
            macs = numbers = 0  # the first tensor answers for the function
        return tuple(parts)
    if not isinstance(result, torch.Tensor):
        return result
    is_view = result.untyped_storage()._cdata == traced[0].untyped_storage()._cdata
    row = LayerRow(
        kind="view" if is_view else f"other:{name}",
        in_shape=traced[0].sizes[1:],
        out_shape=tuple(result.shape[1:]),
        macs=macs,
        parameters=numbers,
        stored=numbers,
    )
    tensor = result.as_subclass(TracedTensor)
    tensor.tape, tensor.sizes = traced[0].tape, tuple(result.shape)
    tensor.value = tensor.tape.write(row, tuple(source.value for source in traced))
    return tensor


def _on_meta(value: Any) -> Any:
    if isinstance(value, TracedTensor):
        return value.as_subclass(torch.Tensor)
    if isinstance(value, torch.Tensor):
        return value.to("meta")
    if isinstance(value, dict):
        return {key: _on_meta(part) for key, part in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(_on_meta(part) for part in value)
    return value
