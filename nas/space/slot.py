"""Slots: the places of a template where one operator or cell stands.

Responsible for cutting a template into places that can be resolved apart from one another, each with the choices it
depends on, so that costs can be tabulated by place.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

import numpy as np

from nas.space.choice import Choice, Condition, implies
from nas.space.folding import fold_stage
from nas.space.narrowing import narrowed
from nas.space.network import Cell, Layer
from nas.space.template import (
    CellTemplate,
    LayerTemplate,
    Repeat,
    Sequence,
    Stage,
    StageHole,
    Value,
    cell_at,
    columns_of,
    layer_at,
    times_conditions,
    value_at,
)


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A place where one operator or cell stands.

    Attributes:
        where: its place in the template, for messages: ``network[2].repeat.block``. Repetitions share it.
        choices: the columns that decide whether and which, rising. `resolve` looks at nothing else.
    """

    where: str
    choices: tuple[int, ...]
    stage: LayerTemplate | CellTemplate | StageHole | Sequence = field(repr=False, compare=False)
    conditions: tuple[Condition, ...] = field(repr=False)
    width: Value | None = field(default=None, repr=False, compare=False)

    def resolve(self, row: np.ndarray) -> Layer | Cell | None:
        """What stands here under a canonical ``row`` ``(m,)``, folded and as wide as it is shipped; None: nothing."""
        stage = self._chosen(row)
        if stage is None:
            return None
        folded = fold_stage(cell_at(stage, row) if isinstance(stage, CellTemplate) else layer_at(stage, row))
        return folded if folded is None or self.width is None else narrowed(folded, width_at(self.width, row))

    def _chosen(self, row: np.ndarray) -> LayerTemplate | CellTemplate | None:
        if any(row[condition.choice] not in condition.when for condition in self.conditions):
            return None
        stage: Stage = self.stage
        while True:
            if isinstance(stage, LayerTemplate | CellTemplate):
                return stage
            if isinstance(stage, Sequence):
                if not stage.items:
                    return None
                stage = stage.items[0]
            else:
                assert isinstance(stage, StageHole)
                stage = stage.options[row[stage.choice]]


@dataclass(frozen=True, kw_only=True)
class ResolutionSlot:
    """The place of the input resolution.

    Attributes:
        where: ``input.resolution``.
        choices: the columns that decide it, rising.
    """

    where: str
    choices: tuple[int, ...]
    value: Value | None = field(repr=False, compare=False)

    def resolve(self, row: np.ndarray) -> int | float | None:
        """Pixels (int), a multiple of the data's resolution (float) or the data's own (None), for a canonical row."""
        if self.value is None:
            return None
        resolution = value_at(self.value, row)
        assert isinstance(resolution, int | float)
        return resolution


def width_at(width: Value | None, row: np.ndarray) -> float:
    """The share of channels that a canonical row ``(m,)`` keeps; 1 where there is no such choice."""
    share = 1.0 if width is None else value_at(width, row)
    assert isinstance(share, int | float)
    return float(share)


def slots_of(stage: Stage, choices: Seq[Choice], *, width: Value | None = None) -> tuple[Slot, ...]:
    """All slots of a template in network order. Slots of exclusive options stand one after the other.

    Args:
        stage: the template.
        choices: of the space.
        width: share of the channels that layers keep; None: all.
    """
    found: list[Slot] = []
    # A stack of what is still to be cut, last first, with what must hold for it to stand.
    todo: list[tuple[Stage, tuple[Condition, ...]]] = [(stage, ())]
    while todo:
        part, conditions = todo.pop()
        if isinstance(part, LayerTemplate | CellTemplate) or (isinstance(part, StageHole) and _is_single(part)):
            found.append(_slot(part, conditions, choices, width))
        elif isinstance(part, StageHole):
            for k, option in reversed(list(enumerate(part.options))):
                _push(todo, option, conditions, [Condition(choice=part.choice, when=frozenset({k}))])
        elif isinstance(part, Repeat):
            for index, item in reversed(list(enumerate(part.repetitions))):
                _push(todo, item, conditions, times_conditions(part.times, index))
        else:
            assert isinstance(part, Sequence)
            todo.extend((item, conditions) for item in reversed(part.items))
    return tuple(found)


def _push(
    todo: list[tuple[Stage, tuple[Condition, ...]]],
    stage: Stage,
    conditions: tuple[Condition, ...],
    more: list[Condition] | None,
) -> None:
    """Adds a stage that stands under further conditions, unless they exclude each other."""
    if more is None:
        return
    merged = list(conditions)
    for condition in more:
        for k, known in enumerate(merged):
            if known.choice == condition.choice:
                merged[k] = Condition(choice=known.choice, when=known.when & condition.when)
                break
        else:
            merged.append(condition)
    if all(condition.when for condition in merged):
        todo.append((stage, tuple(merged)))


def _is_single(stage: Stage) -> bool:
    """Whether a stage is at most one layer or cell whatever is chosen, so that one slot does for it."""
    if isinstance(stage, StageHole):
        return all(_is_single(option) for option in stage.options)
    if isinstance(stage, Sequence):
        return not stage.items or (len(stage.items) == 1 and _is_single(stage.items[0]))
    return isinstance(stage, LayerTemplate | CellTemplate)


def _slot(
    stage: LayerTemplate | CellTemplate | StageHole,
    conditions: tuple[Condition, ...],
    choices: Seq[Choice],
    width: Value | None,
) -> Slot:
    # A condition that a later one implies need not be looked at: fewer columns make smaller tables.
    kept = tuple(
        weak
        for k, weak in enumerate(conditions)
        if not any(implies(choices, strong, weak) for strong in conditions[k + 1 :])
    )
    columns = columns_of(stage).union(condition.choice for condition in kept)
    if width is not None and _has_channels(stage):
        columns |= columns_of(width)
    else:
        width = None
    return Slot(where=stage.where, choices=tuple(sorted(columns)), stage=stage, conditions=kept, width=width)


def _has_channels(stage: Stage) -> bool:
    """Whether a layer in it sets its own number of channels, so that the width has a say."""
    if isinstance(stage, LayerTemplate):
        return "channels" in stage.parameters
    if isinstance(stage, CellTemplate):
        return any(_has_channels(edge) for _, _, edge in stage.edges)
    if isinstance(stage, StageHole):
        return any(_has_channels(option) for option in stage.options)
    parts = stage.items if isinstance(stage, Sequence) else stage.repetitions
    return any(_has_channels(part) for part in parts)
