"""`nas check`: which operators would leave a target's accelerator, or be refused, before anything is trained.

Responsible for asking each target about each file, and for joining the answers into findings about the space.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nas.commands.check_subjects import CheckedModel, draw_covering, layers_of, names, options_of, stored_models
from nas.commands.check_table import check_table
from nas.commands.display import Display, Silent
from nas.commands.locate_space import find_space
from nas.deploy.options import DeployOptions
from nas.deploy.targets.causes import Cause, Placed, causes
from nas.deploy.targets.registry import open_target
from nas.deploy.targets.target import Effect, Fallback, Target, check_precision
from nas.deploy.untrained import export_untrained
from nas.errors import UserError
from nas.model.check import check_space
from nas.space.space import SearchSpace
from nas.train.data.digits import Digits
from nas.train.data.images import DataSource
from nas.train.task import image_classification
from nas.units import format_size

_INPUT = re.compile(r"^\s*(\d+)\s*x\s*(\d+)\s*x\s*(\d+)\s*$")
_WORST: tuple[Effect, ...] = ("refused", "leaves", "float")
STOPPING: frozenset[Effect] = frozenset({"refused", "leaves"})
"""Effects that make a check fail: the file does not run on the target as a whole."""


@dataclass(frozen=True, kw_only=True)
class CheckSettings:
    """What to check.

    Attributes:
        target: names of targets.
        precisions: of the files; None: all that a target has.
        space: name of a space, a path to one, or the space; not used with ``run``.
        run: a run folder, a model folder or a float32 ONNX file, to look at instead of a space.
        samples: architectures that are drawn.
        data: whose images the networks take; not read where ``input`` is given.
        input: ``channels x height x width`` of the data, e.g. ``3x32x32``; None: the data's.
        classes: of the classifier, with ``input``; None: the data's.
        deploy: how files are made.
        seed: of the choice of architectures.
        allow: packages that custom operators may come from.
    """

    target: str | Sequence[str] = "onnxruntime"
    precisions: Sequence[str] | None = None
    space: str | SearchSpace = "mobilenet-tiny"
    run: str | None = None
    samples: int = 16
    data: DataSource = field(default_factory=Digits)
    input: str | None = None
    classes: int | None = None
    deploy: DeployOptions = field(default_factory=DeployOptions)
    seed: int = 0
    allow: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, least in (("samples", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UserError(name, f"must be a whole number of at least {least}, got {value!r}")
        if (self.input is None) != (self.classes is None):
            raise UserError("input", "must be given together with classes", "e.g. input=3x32x32 classes=10")

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of targets, each once."""
        given = (self.target,) if isinstance(self.target, str) else tuple(self.target)
        if not given:
            raise UserError("target", "must name at least one target, got none", "e.g. target=[onnxruntime,qnn]")
        return tuple(dict.fromkeys(given))


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What becomes of an operator on a target, over all files that were looked at.

    Attributes:
        operator: ONNX type; ``model`` where a file is refused as a whole.
        effect, reason, source: see `nas.deploy.targets.target.Fallback`.
        models: files that have it so.
        causes: layers and choices that bring it in, the most frequent first; empty where layers are not known.
        example: an operator's place, ``/<module path>/<operator>``.
    """

    operator: str
    effect: Effect
    reason: str
    source: str
    models: int
    causes: tuple[Cause, ...]
    example: str


@dataclass(frozen=True, kw_only=True)
class CheckedTarget:
    """What a check found out about a target in a precision.

    Attributes:
        target, precision: which.
        note: what a reader must know: that a table was asked, say; "" for nothing.
        findings: worst effects first, then the most frequent.
        models: files that were looked at.
        problem: why it could not be asked; "" where it was.
    """

    target: str
    precision: str
    note: str
    findings: tuple[Finding, ...]
    models: int
    problem: str = ""

    @property
    def runs(self) -> bool:
        """Whether every operator runs on the target, in whichever precision."""
        return not self.problem and not any(finding.effect in STOPPING for finding in self.findings)


def check(settings: CheckSettings, *, display: Display | None = None) -> tuple[CheckedTarget, ...]:
    """Asks the targets about untrained architectures of a space, or about stored models, and shows a table.

    Returns:
        What was found; a check fails where one of it does not run (`CheckedTarget.runs`).

    Raises:
        UserError: an unknown target, space or precision, something else that the user gave and that does not fit, or
            no target could be asked: their runtimes are missing and cannot be replaced by a table.
    """
    display = display or Silent()
    targets = [open_target(name, settings.deploy) for name in settings.targets]
    chosen = [(target, precision) for target in targets for precision in _precisions(target, settings.precisions)]
    with tempfile.TemporaryDirectory(prefix="nas-check-") as scratch:
        models = _models(settings, Path(scratch), display)
        found: list[CheckedTarget] = []
        failure: UserError | None = None
        for step, (target, precision) in enumerate(chosen):
            try:
                one = _checked(target, precision, models, display, (step * len(models), len(chosen) * len(models)))
            except UserError as error:
                failure = failure or error
                problem = f"{error.problem}; {error.advice}"
                one = CheckedTarget(
                    target=target.name, precision=precision, note="", findings=(), models=0, problem=problem
                )
            found.append(one)
        if failure is not None and all(one.problem for one in found):
            raise failure
    display.progress("check", len(chosen) * len(models), len(chosen) * len(models), text="done")
    display.result(check_table(found), {"targets": [_record(one) for one in found]})
    return tuple(found)


def _precisions(target: Target, given: Sequence[str] | None) -> Sequence[str]:
    if given is None:
        return target.precisions
    for precision in given:
        check_precision(target, precision)
    return given


def _models(settings: CheckSettings, scratch: Path, display: Display) -> Sequence[CheckedModel]:
    if settings.run is not None:
        stored = stored_models(Path(settings.run))
        display.say("models", f"{settings.run}  {names(stored)}")
        return stored
    space = find_space(settings.space) if isinstance(settings.space, str) else settings.space
    if settings.input is None:
        task = image_classification(settings.data.load())
        shape, classes = task.input_shape, task.num_classes
    else:
        shape, classes = _input_shape(settings.input), settings.classes or 0
    allow = tuple(settings.allow)
    check_space(space, input_shape=shape, num_classes=classes, allow=allow)
    rows, hidden = draw_covering(space, settings.samples, np.random.default_rng(settings.seed))
    size, options = "x".join(map(str, shape)), options_of(space)
    display.say(
        "space",
        f"{space.name}  {len(rows)} of {format_size(space.size)} architectures on {size}, "
        f"{options - hidden} of {options} options seen",
    )
    if hidden:
        display.note(
            f"{hidden} options are in none of the architectures: samples={settings.samples + hidden} shows more"
        )
    models = []
    for step, row in enumerate(rows):
        network = space.network(row)
        display.progress("export", step, len(rows), text=network.digest)
        files = export_untrained(
            network,
            scratch,
            ["float32"],
            input_shape=shape,
            num_classes=classes,
            exporter=settings.deploy.exporter,
            allow=allow,
        )
        layers = layers_of(network, space, row)
        models.append(CheckedModel(name=network.digest, file=files["float32"], layers=layers))
    display.progress("export", len(rows), len(rows), text="done")
    return models


def _input_shape(text: str) -> tuple[int, int, int]:
    match = _INPUT.match(text)
    if match is None:
        raise UserError("input", f"must be channels x height x width, got {text!r}", "e.g. 3x32x32")
    channels, height, width = (int(size) for size in match.groups())
    return channels, height, width


def _checked(
    target: Target, precision: str, models: Sequence[CheckedModel], display: Display, progress: tuple[int, int]
) -> CheckedTarget:
    answers: list[Sequence[Fallback]] = []
    missing = target.available()
    for step, model in enumerate(models):
        display.progress("check", progress[0] + step, progress[1], text=f"{target.name} {precision}")
        try:
            answers.append(target.fallbacks(model.file, precision))
        except UserError as error:
            if missing:
                raise
            # A file that cannot even be made in this precision is the plainest answer there is.
            refused = Fallback(operator="model", node="", effect="refused", reason=error.problem, source="run here")
            answers.append((refused,))
    note = f"{missing.partition(';')[0]}: told from a table, not from a run" if missing else ""
    return CheckedTarget(
        target=target.name, precision=precision, note=note, findings=_findings(models, answers), models=len(models)
    )


def _findings(models: Sequence[CheckedModel], answers: Sequence[Sequence[Fallback]]) -> tuple[Finding, ...]:
    kinds = dict.fromkeys((one.operator, one.effect, one.reason, one.source) for answer in answers for one in answer)
    found = []
    for operator, effect, reason, source in kinds:
        nodes = [
            [one.node for one in answer if (one.operator, one.effect, one.reason) == (operator, effect, reason)]
            for answer in answers
        ]
        found.append(
            Finding(
                operator=operator,
                effect=effect,
                reason=reason,
                source=source,
                models=sum(bool(own) for own in nodes),
                causes=causes(_placed(models, nodes)),
                example=next(node for own in nodes for node in own),
            )
        )
    return tuple(sorted(found, key=lambda one: (_WORST.index(one.effect), -one.models, one.operator)))


def _placed(models: Sequence[CheckedModel], nodes: Sequence[Sequence[str]]) -> list[Placed]:
    """Every layer of every model, affected where one of the operators stands in it."""
    placed = []
    for model, own in zip(models, nodes, strict=True):
        affected = {model.layer_of(node) for node in own}
        for key, one in model.layers.items():
            placed.append(
                Placed(
                    op=one.layer.op,
                    parameters=one.layer.parameters,
                    affected=key in affected,
                    where=one.layer.where,
                    choices=one.choices,
                )
            )
    return placed


def _record(checked: CheckedTarget) -> Mapping[str, Any]:
    return {
        "target": checked.target,
        "precision": checked.precision,
        "models": checked.models,
        "note": checked.note,
        "problem": checked.problem,
        "findings": [
            {
                "operator": one.operator,
                "effect": one.effect,
                "models": one.models,
                "reason": one.reason,
                "source": one.source,
                "example": one.example,
                "causes": [
                    {
                        "op": cause.op,
                        "conditions": dict(cause.conditions),
                        "always": cause.always,
                        "choices": list(cause.choices),
                        "where": list(cause.where),
                    }
                    for cause in one.causes
                ],
            }
            for one in checked.findings
        ],
    }
