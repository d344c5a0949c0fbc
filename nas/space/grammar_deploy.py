"""The grammar of the ``deploy`` section: how networks are shipped, with holes like everywhere else.

Responsible for reading `DeployTemplate` and for the rules of its values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from nas.errors import in_file, unknown_name
from nas.space.deployment import FLOAT, PRECISIONS, TWO_OF_FOUR, Deployment, Sparsity
from nas.space.draft import Draft, Place, shown
from nas.space.grammar_values import Definitions, constants_of, read_value
from nas.space.network import Parameter
from nas.space.template import ListValue, Value, plain_form, value_at

_KEYS = ("precision", "width", "sparsity")
_VALUE_KEYS = ("choose", "use", "value")
_DEFAULT = "default"
_SEXAGESIMAL = 124  # what YAML makes of 2:4
Check = Callable[[Parameter, Place, Draft], None]


@dataclass(frozen=True, kw_only=True)
class DeployTemplate:
    """The section as it was read; what is not said is None.

    Attributes:
        precision: of the whole file.
        stages: stage name -> precision where it may differ.
        width: share of the channels that layers keep.
        sparsity: share of the weights that are zero.
        num_built: choices of the space, from the first, that decide what is built; those behind decide what becomes
            of it.
    """

    precision: Value | None = None
    stages: Mapping[str, Value] = field(default_factory=dict)
    width: Value | None = None
    sparsity: Value | None = None
    num_built: int = 0

    def at(self, row: np.ndarray) -> Deployment:
        """What a canonical row ``(m,)`` asks for, not yet in canonical form."""
        return Deployment(
            precision=FLOAT if self.precision is None else str(value_at(self.precision, row)),
            stages={name: str(value_at(value, row)) for name, value in self.stages.items()},
            width=1.0 if self.width is None else _number(value_at(self.width, row)),
            sparsity=0.0 if self.sparsity is None else _sparsity(value_at(self.sparsity, row)),
        )

    @property
    def precisions(self) -> tuple[str, ...]:
        """All that the network or a stage may be shipped in, in the order of `PRECISIONS`; () where nothing is said."""
        said = [value for value in (self.precision, *self.stages.values()) if value is not None]
        found = {str(constant) for value in said for constant in constants_of(value)}
        if said and self.precision is None:
            found.add(FLOAT)
        return tuple(name for name in PRECISIONS if name in found)

    def plain_form(self) -> object:
        """For digests."""
        stages = [[name, plain_form(self.stages[name])] for name in sorted(self.stages)]
        return ["deploy", *(_form(value) for value in (self.precision, self.width, self.sparsity)), stages]


def read_deploy(
    raw: object, draft: Draft, definitions: Definitions, *, stage_names: tuple[str, ...]
) -> DeployTemplate | None:
    """The section, None where there is none; read behind the network, so that its choices are the last ones.

    Raises:
        UserError: an unknown key, stage or precision, or a value against its rule; names the place.
    """
    if raw is None:
        return None
    place = Place(key="deploy", names=("deploy",))
    entries = draft.mapping(raw, place, [], _KEYS)

    def read(key: str, check: Check) -> Value | None:
        return _read(entries[key], place.inside(f".{key}", key), draft, definitions, check=check)

    width = read("width", _check_width) if "width" in entries else None
    num_built = len(draft.choices)
    precision: Value | None = None
    stages: dict[str, Value] = {}
    if "precision" in entries:
        given = entries["precision"]
        if isinstance(given, Mapping) and not any(key in given for key in _VALUE_KEYS):
            precision, stages = _read_stages(given, place, draft, definitions, stage_names)
        else:
            precision = read("precision", _check_precision)
    sparsity = read("sparsity", _check_sparsity) if "sparsity" in entries else None
    return DeployTemplate(precision=precision, stages=stages, width=width, sparsity=sparsity, num_built=num_built)


def names_of_stages(raw: object) -> tuple[str, ...]:
    """What the entries of the template's ``network`` are called: their names, their numbers where they have none."""
    if not isinstance(raw, list | tuple):
        return ()
    return tuple(_name_of(entry) or str(number) for number, entry in enumerate(raw))


def _name_of(entry: object) -> str:
    if not isinstance(entry, Mapping):
        return ""
    inner = next((entry[kind] for kind in ("repeat", "cell") if isinstance(entry.get(kind), Mapping)), entry)
    name = inner.get("name")
    return name if isinstance(name, str) else ""


def _read_stages(
    raw: Mapping[object, object], place: Place, draft: Draft, definitions: Definitions, stage_names: tuple[str, ...]
) -> tuple[Value | None, dict[str, Value]]:
    """``{default: int8, stage3: float32}``"""
    precision: Value | None = None
    stages: dict[str, Value] = {}
    for key, given in raw.items():
        name = str(key) if isinstance(key, int) and not isinstance(key, bool) else key
        where = f"{place.key}.precision.{_text(key)}"
        if name == _DEFAULT:
            at = Place(key=where, names=(*place.names, "precision"), open_name=True, depth=place.depth + 2)
            precision = _read(given, at, draft, definitions, check=_check_precision)
        elif isinstance(name, str) and name in stage_names:
            at = Place(key=where, names=(*place.names, name, "precision"), open_name=True, depth=place.depth + 2)
            stages[name] = _read(given, at, draft, definitions, check=_check_precision)
        else:
            known = [_DEFAULT, *dict.fromkeys(stage_names)]
            raise unknown_name(in_file(draft.source, where), "stage", _text(key), known)
    _check_mix(precision, stages, place, draft)
    return precision, stages


def _text(key: object) -> str:
    return shown(key).strip("'")


def _check_mix(precision: Value | None, stages: Mapping[str, Value], place: Place, draft: Draft) -> None:
    """One file holds float32 and one other precision at the most."""
    whole = {FLOAT} if precision is None else {str(constant) for constant in constants_of(precision)}
    own = {str(constant) for value in stages.values() for constant in constants_of(value)}
    others = own - {FLOAT}
    if others and len((whole | own) - {FLOAT}) > 1:
        rule = "must be float32, or the one other precision that there is, for single stages"
        raise draft.error(place.inside(".precision"), f"{rule}, got {', '.join(sorted(whole | own))}")


def _read(raw: object, place: Place, draft: Draft, definitions: Definitions, *, check: Check) -> Value:
    value = read_value(raw, place, draft, definitions)
    for constant in _every(value):
        check(constant, place, draft)
    return value


def _every(value: Value) -> Iterator[Parameter]:
    if isinstance(value, ListValue):
        yield ()
    else:
        yield from constants_of(value)


def _check_precision(value: Parameter, place: Place, draft: Draft) -> None:
    if not isinstance(value, str) or value not in PRECISIONS:
        raise unknown_name(in_file(draft.source, place.key), "precision", value, PRECISIONS)


def _check_width(value: Parameter, place: Place, draft: Draft) -> None:
    if not _is_number(value) or not 0 < _number(value) <= 1:
        rule = f"must be a share of the channels above 0 and at most 1, got {shown(value)}"
        raise draft.error(place, rule, "1.0 is the network as the template says")


def _check_sparsity(value: Parameter, place: Place, draft: Draft) -> None:
    if value == TWO_OF_FOUR or (_is_number(value) and 0 <= _number(value) < 1):
        return
    advice = 'write "2:4" in quotes: YAML reads 2:4 as the number 124' if value == _SEXAGESIMAL else "0.0 is dense"
    rule = f'must be a share of the weights of at least 0 and below 1, or "2:4", got {shown(value)}'
    raise draft.error(place, rule, advice)


def _is_number(value: Parameter) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Parameter) -> float:
    assert isinstance(value, int | float)
    return float(value)


def _sparsity(value: Parameter) -> Sparsity:
    return TWO_OF_FOUR if value == TWO_OF_FOUR else _number(value)


def _form(value: Value | None) -> object:
    return None if value is None else plain_form(value)
