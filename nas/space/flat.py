"""Flat spaces: named categories without a network, for tables whose rows nobody can build.

Responsible for making such a table's columns a `SearchSpace`, so that moves, encodings, strategies and predictors take
its rows like any others.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq

from nas.errors import UserError
from nas.space.choice import Choice
from nas.space.folding import digest_of
from nas.space.slot import ResolutionSlot, slots_of
from nas.space.space import SearchSpace
from nas.space.template import Constant, LayerTemplate, Sequence, ValueHole

# The operator of every layer: none that can be built, so that building one is refused by its name.
FLAT_OPERATOR = "table_entry"


def flat_space(name: str, choices: Mapping[str, Seq[str]], *, description: str = "") -> SearchSpace:
    """The space of all combinations of labels: no choice hangs on another, all are always active.

    Its rows resolve to networks of one layer a choice, of the operator `FLAT_OPERATOR` with the parameters ``choice``
    and ``option``: two rows have one digest exactly if they are equal. Such a network cannot be built.

    Args:
        name: of the space.
        choices: labels by choice name, both in the order of columns and option indices. Labels are unique within a
            choice; choices with the same labels are taken to decide the same kind of thing (see
            `nas.space.encodings.operator_counts`).
        description: free text.

    Raises:
        UserError: no choice, a choice without labels, or a label that stands twice in one choice.
    """
    where = f"space {name}"
    if not choices:
        raise UserError(where, "must have at least one choice, got none")
    columns, layers = [], []
    for column, (choice_name, given) in enumerate(choices.items()):
        labels = tuple(str(label) for label in given)
        if not labels:
            raise UserError(where, f"must have at least one label for '{choice_name}', got none")
        if len(set(labels)) < len(labels):
            twice = next(label for label in labels if labels.count(label) > 1)
            raise UserError(where, f"must have each label of '{choice_name}' once, got '{twice}' twice")
        columns.append(
            Choice(name=choice_name, options=labels, labels=labels, ordered=False, parent=None, when=frozenset())
        )
        hole = ValueHole(column, tuple(Constant(label) for label in labels))
        layers.append(
            LayerTemplate(Constant(FLAT_OPERATOR), {"choice": Constant(choice_name), "option": hole}, choice_name)
        )
    stages = Sequence(tuple(layers))
    return SearchSpace(
        name=name,
        description=description,
        source="<flat>",
        digest=digest_of([FLAT_OPERATOR, [[choice.name, list(choice.labels)] for choice in columns]]),
        choices=tuple(columns),
        slots=slots_of(stages, columns),
        input_resolution=ResolutionSlot(where="input.resolution", choices=(), value=None),
        _stages=stages,
    )
