"""The search space: a template with its choices, and what a row of choices means.

Responsible for the value `SearchSpace`. Whole populations are `nas.space.moves`' business.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from nas.errors import UserError, unknown_name
from nas.space.architecture import Architecture
from nas.space.choice import Choice, count_assignments, is_active
from nas.space.deployment import canonical_deployment
from nas.space.draft import shown
from nas.space.folding import digest_of, fold_stage, network_digest, shipped_digest
from nas.space.grammar import parse_template
from nas.space.grammar_deploy import DeployTemplate
from nas.space.narrowing import narrowed
from nas.space.network import Cell, Layer, Network
from nas.space.slot import ResolutionSlot, Slot, slots_of
from nas.space.template import CellTemplate, Sequence, Stage, columns_of, plain_form, stages_at


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchSpace:
    """A network template with holes. Immutable; equal where the digests are equal.

    Attributes:
        name: as the file calls it.
        description: free text.
        source: the file it was read from, or ``<python>``; for messages.
        digest: 16 hexadecimal digits over the template as it was read: choices and stages, not name and description.
        choices: the columns of a population, in template order; a parent stands before its children.
        slots: the places where one operator or cell stands, in network order.
        input_resolution: the place of the input resolution.
        deploy: how networks are shipped; None where the template does not say.
        stage_names: of the entries of the template's network; empty where that is no list.
        slot_stages: the entry that each slot belongs to, as a position in ``stage_names``.
    """

    name: str
    description: str
    source: str
    digest: str
    choices: tuple[Choice, ...] = field(repr=False)
    slots: tuple[Slot, ...] = field(repr=False)
    input_resolution: ResolutionSlot = field(repr=False)
    _stages: Stage = field(repr=False)
    deploy: DeployTemplate | None = field(default=None, repr=False)
    stage_names: tuple[str, ...] = field(default=(), repr=False)
    slot_stages: tuple[int, ...] = field(default=(), repr=False)

    @classmethod
    def from_template(cls, template: Mapping[str, object], *, source: str = "<python>", name: str = "") -> SearchSpace:
        """The space that a template of plain mappings and lists describes.

        Args:
            template: as in ``search_spaces/README.md``.
            source: what to call it in messages.
            name: of a template that does not name itself; ``unnamed`` if empty.

        Raises:
            UserError: the template breaks a rule; names source, key, rule and value.
        """
        parsed = parse_template(template, source=source, default_name=name or "unnamed")
        choices = tuple(parsed.draft.choices)
        columns = () if parsed.resolution is None else tuple(sorted(columns_of(parsed.resolution)))
        resolution = ResolutionSlot(where="input.resolution", choices=columns, value=parsed.resolution)
        width = None if parsed.deploy is None else parsed.deploy.width
        entries = _entries(parsed.stages)
        slots = [slots_of(entry, choices, width=width) for entry in entries]
        return cls(
            name=parsed.name,
            description=parsed.description,
            source=source,
            digest=_digest(choices, resolution, parsed.stages, parsed.deploy),
            choices=choices,
            slots=tuple(slot for own in slots for slot in own),
            input_resolution=resolution,
            _stages=parsed.stages,
            deploy=parsed.deploy,
            stage_names=parsed.stage_names if len(parsed.stage_names) == len(entries) else (),
            slot_stages=tuple(number for number, own in enumerate(slots) for _ in own),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SearchSpace) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @property
    def num_choices(self) -> int:
        """Columns of a population."""
        return len(self.choices)

    @cached_property
    def size(self) -> int:
        """Number of distinct canonical rows, exact. Different rows may build the same network."""
        return count_assignments(self.choices)

    def network(self, row: ArrayLike, *, fold: bool = True) -> Network:
        """The network that a canonical ``row`` ``(m,)`` asks for, as it is shipped.

        Args:
            row: option indices, -1 exactly where a choice is inactive.
            fold: False keeps identities and all edges of cells, absent ones (``none``) too, as published tables
                count them. The digest is that of the folded network in either case.

        Raises:
            UserError: the row is not a canonical row of this space.
        """
        values = self._checked(row)
        stages, folded, names = self._resolved(values)
        resolution = self.input_resolution.resolve(values)
        wide = network_digest(resolution, folded)
        if self.deploy is None:
            return Network(
                resolution=resolution, stages=folded if fold else stages, digest=wide, stage_names=names if fold else ()
            )
        asked = self.deploy.at(values)
        kept = tuple(narrowed(stage, asked.width) for stage in folded)
        built = network_digest(resolution, kept)
        trained = "" if built == wide else wide
        deployment = canonical_deployment(asked, names, narrower=built != wide)
        return Network(
            resolution=resolution,
            stages=kept if fold else tuple(narrowed(stage, asked.width) for stage in stages),
            digest=shipped_digest(built, trained, deployment, names),
            deployment=deployment,
            trained=trained,
            stage_names=names if fold else (),
        )

    def trained_network(self, row: ArrayLike) -> Network:
        """What is trained first: `network` at full width, in float32, dense. Raises `UserError` as `network` does."""
        values = self._checked(row)
        _, folded, names = self._resolved(values)
        resolution = self.input_resolution.resolve(values)
        digest = network_digest(resolution, folded)
        return Network(resolution=resolution, stages=folded, digest=digest, stage_names=names)

    @property
    def precisions(self) -> tuple[str, ...]:
        """What its networks may be shipped in; () where the template leaves that to who exports."""
        return () if self.deploy is None else self.deploy.precisions

    @cached_property
    def file_columns(self) -> tuple[int, ...]:
        """The choices that decide what becomes of a network, and nothing of what is built."""
        kept = self.undeployed.num_choices
        return tuple(range(kept, self.num_choices))

    @cached_property
    def undeployed(self) -> SearchSpace:
        """The space of what is built, whatever file becomes of it: without the choices of precision and sparsity.

        Its rows are the first columns of those of this space. It is the space itself where there is nothing to leave
        out; its digest is that of the same template without those two keys.
        """
        deploy = self.deploy
        if deploy is None or (deploy.precision is None and not deploy.stages and deploy.sparsity is None):
            return self
        choices = self.choices[: deploy.num_built]
        width = None if deploy.width is None else DeployTemplate(width=deploy.width, num_built=deploy.num_built)
        digest = _digest(choices, self.input_resolution, self._stages, width)
        return replace(self, choices=choices, deploy=width, digest=digest)

    def architecture(self, row: ArrayLike) -> Architecture:
        """Row, readable choices and digest of the network. Raises `UserError` as `network` does."""
        values = self._checked(row)
        chosen = {
            choice.name: choice.labels[option]
            for choice, option in zip(self.choices, values.tolist(), strict=True)
            if option >= 0
        }
        return Architecture(row=tuple(values.tolist()), choices=chosen, digest=self.network(values).digest)

    def row(self, choices: Mapping[str, object]) -> np.ndarray:
        """The canonical row ``(m,)`` int16 for labels or values by choice name.

        Inactive choices are left out, or given as None, NaN or an empty text (as tables have them).

        Raises:
            UserError: an unknown choice or option, an active choice without a value, an inactive one with a value.
        """
        where = f"choices of {self.name}"
        names = {choice.name for choice in self.choices}
        for name in choices:
            if name not in names:
                raise unknown_name(where, "choice", name, names)
        row = np.full(self.num_choices, -1, dtype=np.int16)
        for column, choice in enumerate(self.choices):
            given = choices.get(choice.name)
            missing = given is None or given == "" or (isinstance(given, float) and math.isnan(given))
            if is_active(self.choices, column, row):
                if missing:
                    listed = ", ".join(choice.labels)
                    raise UserError(where, f"must have a value for '{choice.name}', got none", f"one of {listed}")
                row[column] = _option_of(choice, given, f"{where}: {choice.name}")
            elif not missing:
                parent = self.choices[-1 if choice.parent is None else choice.parent].name
                rule = f"must not have a value for '{choice.name}', which '{parent}' switches off, got {shown(given)}"
                raise UserError(where, rule)
        return row

    def _resolved(
        self, values: np.ndarray
    ) -> tuple[tuple[Layer | Cell, ...], tuple[Layer | Cell, ...], tuple[str, ...]]:
        """All stages, the folded ones that are left, and the names of the entries that these come from."""
        cells: dict[CellTemplate, Cell] = {}
        parts = [tuple(stages_at(entry, values, cells)) for entry in _entries(self._stages)]
        names = self.stage_names or ("",) * len(parts)
        stages = tuple(stage for part in parts for stage in part)
        folded = _folded(stages)
        sources = [name for name, part in zip(names, parts, strict=True) for _ in part]
        left = [(stage, name) for stage, name in zip(folded, sources, strict=True) if stage is not None]
        kept_names = tuple(name for _, name in left) if self.stage_names else ()
        return stages, tuple(stage for stage, _ in left), kept_names

    def _checked(self, row: ArrayLike) -> np.ndarray:
        values = np.asarray(row)
        if values.shape != (self.num_choices,) or values.dtype.kind not in "iu":
            if self.num_choices or values.size:
                rule = f"must be {self.num_choices} option indices, got shape {values.shape} of {values.dtype}"
                raise UserError(f"row of {self.name}", rule)
            values = values.astype(np.int16)
        for column, (choice, option) in enumerate(zip(self.choices, values.tolist(), strict=True)):
            active = is_active(self.choices, column, values)
            if not (0 <= option < choice.num_options if active else option == -1):
                allowed = f"0 to {choice.num_options - 1}" if active else "-1, as it is switched off,"
                rule = f"must have {allowed} for '{choice.name}', got {option}"
                raise UserError(f"row of {self.name}", rule, "nas.space.moves.canonical repairs rows")
        return values


def _entries(stages: Stage) -> tuple[Stage, ...]:
    """The entries of the template's network; all of it where it is no list."""
    return stages.items if isinstance(stages, Sequence) else (stages,)


def _digest(
    choices: tuple[Choice, ...], resolution: ResolutionSlot, stages: Stage, deploy: DeployTemplate | None
) -> str:
    forms = [[choice.name, list(choice.labels), choice.parent, sorted(choice.when)] for choice in choices]
    resolution_form = None if resolution.value is None else plain_form(resolution.value)
    parts = [forms, resolution_form, plain_form(stages)]
    return digest_of(parts if deploy is None else [*parts, deploy.plain_form()])


def _folded(stages: tuple[Layer | Cell, ...]) -> tuple[Layer | Cell | None, ...]:
    # One cell genotype often stands in many places, as one object: it is folded once.
    known: dict[int, Layer | Cell | None] = {}
    for stage in stages:
        if id(stage) not in known:
            known[id(stage)] = fold_stage(stage)
    return tuple(known[id(stage)] for stage in stages)


def _option_of(choice: Choice, given: object, where: str) -> int:
    if isinstance(given, np.generic):
        given = given.item()
    if isinstance(given, str) and given in choice.labels:
        return choice.labels.index(given)
    same_type = [k for k, option in enumerate(choice.options) if type(option) is type(given) and option == given]
    numbers = [k for k, option in enumerate(choice.options) if not isinstance(option, str) and option == given]
    # A table may have turned 3 into 3.0; True must still not pass for 1.
    loose = numbers if isinstance(given, int | float) and not isinstance(given, bool) else []
    found = same_type or [k for k in loose if not isinstance(choice.options[k], bool)]
    if isinstance(given, bool | float | int) and not found:
        found = [k for k, label in enumerate(choice.labels) if label == str(given).lower()]
    if isinstance(given, list) and not found:
        found = [k for k, option in enumerate(choice.options) if option == tuple(given)]
    if not found:
        raise unknown_name(where, "option", given, choice.labels)
    return found[0]
