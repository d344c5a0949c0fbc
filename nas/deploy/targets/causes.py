"""Which choices of a space make operators leave a target's accelerator.

Responsible for turning what was seen in files of many architectures into a few sentences about the space: every
``inverted_residual``, or those with ``activation: hardswish``. It is exact about what was drawn and says nothing more.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas.space.network import Parameter

Conditions = tuple[tuple[str, Parameter], ...]


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A layer of an architecture, and whether an operator of it is affected.

    Attributes:
        op: the layer's operator, in the words of the space.
        parameters: its parameters; one that the template leaves out has the operator's default.
        affected: whether the ONNX operator in question stands in it, and does not run as it should.
        where: its place in the template.
        choices: names of the choices that decide on it -> the label that was chosen.
    """

    op: str
    parameters: Mapping[str, Parameter]
    affected: bool
    where: str = ""
    choices: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Cause:
    """What brings an operator in.

    Attributes:
        op: operator of the space.
        conditions: parameters of it with values, at most two, which together always bring it; empty where every ``op``
            does, or where they do not decide.
        always: whether every such layer was affected.
        choices: of the space that give the parameters these values; empty where the template itself does.
        where: places in the template where that was seen.
    """

    op: str
    conditions: Conditions = ()
    always: bool = True
    choices: tuple[str, ...] = ()
    where: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.conditions:
            return f"{self.op} with {' and '.join(f'{name} {_text(value)}' for name, value in self.conditions)}"
        return f"every {self.op}" if self.always else f"some {self.op}"


def causes(layers: Sequence[Placed]) -> tuple[Cause, ...]:
    """Why layers are affected, by the operators of the space, the most frequent cause first."""
    found: list[tuple[int, Cause]] = []
    for op in dict.fromkeys(layer.op for layer in layers if layer.affected):
        found += _of(op, [layer for layer in layers if layer.op == op])
    return tuple(cause for _, cause in sorted(found, key=lambda pair: -pair[0]))


def _of(op: str, layers: Sequence[Placed]) -> list[tuple[int, Cause]]:
    """The causes within one operator of the space, with how many layers each explains."""
    hit = [layer for layer in layers if layer.affected]
    if len(hit) == len(layers):
        return [(len(hit), Cause(op=op, where=_places(hit)))]
    for most in (1, 2):
        found = _covering(hit, _sufficient(layers, most))
        if found is not None:
            return [
                (len(own), Cause(op=op, conditions=conditions, choices=_choosing(own, conditions), where=_places(own)))
                for conditions, own in found
            ]
    return [(len(hit), Cause(op=op, always=False, where=_places(hit)))]


def _covering(
    hit: Sequence[Placed], sufficient: Sequence[Conditions]
) -> list[tuple[Conditions, Sequence[Placed]]] | None:
    """As few conditions as a greedy choice needs to explain all affected layers; None where they cannot."""
    left = list(hit)
    found: list[tuple[Conditions, Sequence[Placed]]] = []
    while left:
        explained = [[layer for layer in left if _has(layer, conditions)] for conditions in sufficient]
        best = max(range(len(sufficient)), key=lambda index: len(explained[index]), default=None)
        if best is None or not explained[best]:
            return None
        found.append((sufficient[best], explained[best]))
        left = [layer for layer in left if not _has(layer, sufficient[best])]
    return found


def _sufficient(layers: Sequence[Placed], most: int) -> list[Conditions]:
    """Conditions all of whose layers are affected; fewer before more, parameters with few values before others."""
    pairs = dict.fromkeys(pair for layer in layers for pair in layer.parameters.items())
    values = Counter(name for name, _ in pairs)
    ordered = sorted(pairs, key=lambda pair: values[pair[0]])
    found: list[Conditions] = []
    for count in range(1, most + 1):
        for conditions in itertools.combinations(ordered, count):
            having = [layer for layer in layers if _has(layer, conditions)]
            if having and all(layer.affected for layer in having):
                found.append(conditions)
    return found


def _has(layer: Placed, conditions: Conditions) -> bool:
    # True == 1, but a flag is no count.
    return all(
        name in layer.parameters and (type(layer.parameters[name]), layer.parameters[name]) == (type(value), value)
        for name, value in conditions
    )


def _choosing(layers: Sequence[Placed], conditions: Conditions) -> tuple[str, ...]:
    """Names of the choices that gave the values: those named after the parameter, else all whose label always is it."""
    seen: dict[str, set[str]] = {}
    for layer in layers:
        for choice, label in layer.choices.items():
            seen.setdefault(choice, set()).add(label)
    found: list[str] = []
    for name, value in conditions:
        fitting = [choice for choice, labels in seen.items() if labels == {_text(value)}]
        found += [choice for choice in fitting if choice.rpartition(".")[2] == name] or fitting
    return tuple(dict.fromkeys(found))


def _places(layers: Sequence[Placed]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(layer.where for layer in layers if layer.where))


def _text(value: Parameter) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
