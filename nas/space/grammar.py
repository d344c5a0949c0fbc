"""The grammar: a template of plain mappings and lists, read into a tree of stages with numbered choices.

Responsible for every rule in ``search_spaces/README.md`` that concerns stages, and for saying which one was broken.
Values, holes and definitions are read by `nas.space.grammar_values`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from nas.space.draft import MAX_CELL_NODES, MAX_TIMES, NAME, Draft, Place, nearest, shown
from nas.space.grammar_deploy import DeployTemplate, names_of_stages, read_deploy
from nas.space.grammar_values import OPERATOR, Definitions, constants_of, read_hole, read_value
from nas.space.template import (
    CellTemplate,
    Constant,
    LayerTemplate,
    Repeat,
    Sequence,
    Stage,
    StageHole,
    Value,
    ValueHole,
    times_conditions,
)

Entries = Mapping[object, object]

_KINDS = ("op", "sequence", "repeat", "cell", "choose", "use")
_TOP = ("network", "name", "description", "input", "define", "deploy")
_PAIR = re.compile(r"(\d{1,4})>(\d{1,4})", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """A template as it was read: what `nas.space.space` makes a search space of."""

    name: str
    description: str
    stages: Stage
    resolution: Value | None
    draft: Draft
    deploy: DeployTemplate | None = None
    stage_names: tuple[str, ...] = ()


def parse_template(template: object, *, source: str, default_name: str) -> Parsed:
    """Reads a whole template.

    Args:
        template: as YAML gives it: mappings, lists and plain values.
        source: the file, for messages.
        default_name: of a template that has none.

    Raises:
        UserError: a rule of the grammar is broken; names the source, the key, the rule and the value.
    """
    draft = Draft(source=source)
    top = Place(key="")
    raw = draft.mapping(template, top, _TOP[:1], _TOP[1:])
    name = draft.name(raw.get("name"), top) or default_name
    description = raw.get("description", "")
    if not isinstance(description, str):
        raise draft.error("description", f"must be text, got {shown(description)}")
    definitions = Definitions(draft, raw.get("define", {}))
    resolution = _read_input(raw["input"], draft, definitions) if "input" in raw else None
    stages = _Stages(draft, definitions).read(raw["network"], Place(key="network"))
    stage_names = names_of_stages(raw["network"])
    deploy = read_deploy(raw.get("deploy"), draft, definitions, stage_names=stage_names)
    definitions.check_all_used()
    return Parsed(
        name=name,
        description=description,
        stages=stages,
        resolution=resolution,
        draft=draft,
        deploy=deploy,
        stage_names=stage_names,
    )


def _read_input(raw: object, draft: Draft, definitions: Definitions) -> Value | None:
    place = Place(key="input")
    entries = draft.mapping(raw, place, [], ["resolution"])
    if "resolution" not in entries:
        return None
    place = place.inside(".resolution", "resolution")
    resolution = read_value(entries["resolution"], place, draft, definitions)
    for value in constants_of(resolution):
        if isinstance(value, bool) or not isinstance(value, int | float):
            rule = "must be pixels (a whole number) or a multiple of the data's resolution (with a decimal point)"
            raise draft.error(place, f"{rule}, got {shown(value)}")
        limit, unit = (4096, "pixels") if isinstance(value, int) else (16, "times the data's resolution")
        if not 0 < value <= limit:
            raise draft.error(place, f"must be above 0 and at most {limit} {unit}, got {shown(value)}")
    return resolution


class _Stages:
    """Reads stages. Holds the draft and the definitions, which all readers need."""

    def __init__(self, draft: Draft, definitions: Definitions) -> None:
        self.draft = draft
        self.definitions = definitions

    def read(self, raw: object, place: Place) -> Stage:
        """Any stage: an operator, a list, ``sequence``, ``repeat``, ``cell``, a hole or a definition's name."""
        self.draft.enter(place)
        if isinstance(raw, str):
            return self.read_layer({"op": raw}, place)
        if isinstance(raw, list | tuple):
            return self.read_sequence(raw, place)
        kind = self.kind_of(raw, place)
        assert isinstance(raw, Mapping)
        if kind == "op":
            return self.read_layer(raw, place)
        if kind == "choose":
            hole = read_hole(raw, place, self.draft, self.read)
            return StageHole(hole.choice, hole.options, place.key)
        if kind == "use":
            return self.definitions.use(raw, place, "edge's operator" if place.edge else "stage", self.read)
        if place.first:
            rule = f"must be one operator (or a hole of operators) where 'first' sets parameters, got a {kind}"
            raise self.draft.error(place, rule)
        if kind == "sequence":
            entries = self.draft.mapping(raw, place, ["sequence"], ["name"])
            inner = place.named(self.draft.name(entries.get("name"), place)).inside(".sequence")
            return self.read_sequence(entries["sequence"], inner)
        return self.read_repeat(raw, place) if kind == "repeat" else self.read_cell(raw, place)

    def kind_of(self, raw: object, place: Place) -> str:
        """Which of the six kinds of mapping a stage is."""
        if not isinstance(raw, Mapping):
            rule = f"must be an operator, a list of stages or a mapping with one of {', '.join(_KINDS)}"
            raise self.draft.error(place, f"{rule}, got {shown(raw)}")
        kinds = [kind for kind in _KINDS if kind in raw]
        if not kinds:
            near = next((hint for hint in (nearest(key, _KINDS) for key in raw) if hint), "")
            rule = f"must have one of the keys {', '.join(_KINDS)}, got {shown(raw)}"
            raise self.draft.error(place, rule, near.strip())
        if len(kinds) > 1:
            raise self.draft.error(place, f"must be one kind of stage, got the keys {' and '.join(kinds)}")
        return kinds[0]

    def read_sequence(self, raw: object, place: Place) -> Sequence:
        """A list of stages."""
        if not isinstance(raw, list | tuple):
            raise self.draft.error(place, f"must be a list of stages, got {shown(raw)}")
        if place.first:
            raise self.draft.error(place, "must be one operator where 'first' sets parameters, got a list")
        return Sequence(tuple(self.read(item, place.inside(f"[{k}]", str(k))) for k, item in enumerate(raw)))

    def read_layer(self, raw: Entries, place: Place) -> LayerTemplate:
        """``{op: kind, parameter: value, ...}``, with what ``first`` sets in place of its own."""
        draft, first = self.draft, place.first
        place = place.plain().named(draft.name(raw.get("name"), place))
        op = read_value(raw["op"], place.inside(".op", "op"), draft, self.definitions)
        own = {key: value for key, value in raw.items() if key not in ("op", "name") and key not in first}
        parameters = self.read_parameters(own, place) | dict(first)
        for kind in constants_of(op):
            self.check_operator(kind, place, parameters)
        return LayerTemplate(op, parameters, place.key)

    def read_parameters(self, raw: Entries, place: Place) -> dict[str, Value]:
        """Parameters by name."""
        parameters: dict[str, Value] = {}
        for key, value in raw.items():
            if not isinstance(key, str) or NAME.fullmatch(key) is None:
                raise self.draft.error(place, f"must have names of parameters as keys, got {shown(key)}")
            inner = place.inside(f".{key}", key)
            if key in ("op", "name", "label"):
                raise self.draft.error(inner, "must not stand here", "a label belongs on an option of a 'choose'")
            parameters[key] = read_value(value, inner, self.draft, self.definitions)
        return parameters

    def check_operator(self, op: object, place: Place, parameters: Mapping[str, Value]) -> None:
        """The rules that hold without knowing the operators."""
        if not isinstance(op, str) or OPERATOR.fullmatch(op) is None:
            rule = "must be the name of an operator or an import path like package.module.Name"
            raise self.draft.error(place.inside(".op"), f"{rule}, got {shown(op)}")
        if op == "none" and not place.edge:
            raise self.draft.error(place, "must not be 'none', which only the edges of a cell can be", "use 'identity'")
        if op in ("identity", "none") and parameters:
            rule = f"must not have parameters, because '{op}' takes none, got {', '.join(parameters)}"
            raise self.draft.error(place, rule, f"choose between whole stages: {{choose: [{op}, {{op: ...}}]}}")

    def read_repeat(self, raw: Entries, place: Place) -> Repeat:
        """``{repeat: {times: 3, block: stage, first: {stride: 2}}}``; each repetition has choices of its own."""
        draft = self.draft
        entries = draft.mapping(raw, place, ["repeat"], [])["repeat"]
        entries = draft.mapping(entries, place.inside(".repeat"), ["times", "block"], ["name", "first"])
        place = replace(place.named(draft.name(entries.get("name"), place)), key=f"{place.key}.repeat")
        times = read_value(entries["times"], place.inside(".times", "times"), draft, self.definitions)
        first = entries.get("first", {})
        if not isinstance(first, Mapping):
            raise draft.error(place.inside(".first"), f"must be a mapping of parameters to values, got {shown(first)}")
        repetitions = []
        for index in range(self.most_times(times, place)):
            conditions = times_conditions(times, index)
            inner: Place | None = place
            for condition in conditions or []:
                inner = draft.under(place, condition)
            if inner is None:
                break
            block = replace(inner.inside(".block", str(index)), open_name=False)
            if index == 0:
                # Decided once, whatever the block's operator: hence here and not with each option of the block.
                block = replace(block, first=self.read_parameters(first, inner.inside(".first")))
            repetitions.append(self.read(entries["block"], block))
        return Repeat(times, tuple(repetitions))

    def most_times(self, times: Value, place: Place) -> int:
        """The largest number of repetitions, after checking that all are numbers."""
        flat = isinstance(times, Constant) or (
            isinstance(times, ValueHole) and all(isinstance(option, Constant) for option in times.options)
        )
        counts = list(constants_of(times))
        for count in counts:
            if not flat or isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MAX_TIMES:
                rule = f"must be a whole number from 0 to {MAX_TIMES}, or one {{choose: [...]}} of such"
                raise self.draft.error(place.inside(".times"), f"{rule}, got {shown(count)}")
        most = max(int(count) for count in counts if isinstance(count, int))
        if most == 0:
            raise self.draft.error(place.inside(".times"), "must be above 0 in one option at least, got 0")
        return most

    def read_cell(self, raw: Entries, place: Place) -> CellTemplate:
        """``{cell: {nodes: 4, edges: ...}}`` with one template for all pairs or one for each."""
        draft = self.draft
        entries = draft.mapping(raw, place, ["cell"], [])["cell"]
        entries = draft.mapping(entries, place.inside(".cell"), ["nodes", "edges"], ["name"])
        place = replace(place.named(draft.name(entries.get("name"), place)), key=f"{place.key}.cell")
        nodes = entries["nodes"]
        if isinstance(nodes, bool) or not isinstance(nodes, int) or not 2 <= nodes <= MAX_CELL_NODES:
            rule = f"must be a whole number from 2 to {MAX_CELL_NODES}"
            raise draft.error(place.inside(".nodes"), f"{rule}, got {shown(nodes)}")
        edges = []
        for (source, target), stage, key in self.pairs(entries["edges"], nodes, place):
            inner = replace(place.inside(f".edges{key}", f"{source}>{target}"), open_name=False, edge=True)
            edges.append((source, target, self.read_edge(stage, inner)))
        return CellTemplate(nodes, tuple(edges), place.key)

    def pairs(self, edges: object, nodes: int, place: Place) -> list[tuple[tuple[int, int], object, str]]:
        """The edges of a cell with their templates and keys, by target, then source."""
        every = [(source, target) for target in range(1, nodes) for source in range(target)]
        if not isinstance(edges, Mapping) or any(kind in edges for kind in _KINDS):
            return [(pair, edges, "") for pair in every]
        given = {}
        for key, stage in edges.items():
            match = _PAIR.fullmatch(key) if isinstance(key, str) else None
            pair = (int(match.group(1)), int(match.group(2))) if match else (0, 0)
            if pair not in every:
                rule = f'must have keys like "0>1", from a lower to a higher node below {nodes}'
                raise self.draft.error(place.inside(".edges"), f"{rule}, got {shown(key)}", nearest(key, _KINDS))
            if pair in given:
                raise self.draft.error(place.inside(".edges"), f"must have each edge once, got {shown(key)} again")
            given[pair] = (stage, f".{key}")
        return [(pair, *given[pair]) for pair in every if pair in given]

    def read_edge(self, raw: object, place: Place) -> Stage:
        """One operator, or a hole of operators."""
        stage = self.read(raw, place)
        if not _is_operator(stage):
            raise self.draft.error(place, f"must be one operator (or a hole of operators), got {shown(raw)}")
        return stage


def _is_operator(stage: Stage) -> bool:
    if isinstance(stage, StageHole):
        return all(_is_operator(option) for option in stage.options)
    return isinstance(stage, LayerTemplate)
