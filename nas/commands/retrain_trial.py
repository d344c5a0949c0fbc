"""One trial of a retraining: a network trained under given settings, rung by rung, with a record of its own.

Responsible for what a worker does, and for the two files of a trial: ``<place>-<token>.safetensors``, the training
after its last epoch, and ``<place>.json``, what is known of it. Both are enough to go on; nothing else is asked.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from nas.deploy.load import load_model
from nas.deploy.teacher import distillation_of
from nas.errors import one_line
from nas.model.costs import network_costs
from nas.model.shapes import input_shape_of
from nas.problem.evaluation import Candidate
from nas.run.atomic import write_atomically
from nas.run.tuning import Assignment, Rung
from nas.run.tuning_space import Fields, Value
from nas.train.checkpoint import read_progress
from nas.train.compression.distillation import Distillation
from nas.train.compression.options import CompressOptions
from nas.train.compression.teachers import TorchTeacher
from nas.train.curves_watch import HopelessError
from nas.train.distributed import fit_on_several, visible_devices
from nas.train.evaluate import Trained, TrainingEvaluate
from nas.train.fit import DeadlineError, Fit
from nas.train.recipe import Recipe
from nas.train.rules import TrainingRule

_STATE, _RECORD = "state", "record"  # names of a trial's two files where another one takes them over
_MORE_THAN_ALL = 2.0  # an accuracy that no network reaches: there a training stops, with its state kept
_RECIPE_FIELDS = frozenset(one.name for one in fields(Recipe))


@dataclass(frozen=True, kw_only=True)
class LineageRecipe(Recipe):
    """A recipe whose trainings go on from those of others of the same lineage, whatever the settings.

    Attributes:
        lineage: digest of the recipe that all of them began with.
    """

    lineage: str = ""

    @property
    def digest(self) -> str:
        """See `Recipe.digest`."""
        return self.lineage


@dataclass(frozen=True, kw_only=True, eq=False)
class LineageDistillation(Distillation):
    """Likewise for a teacher, however much it counts."""

    @property
    def digest(self) -> str:
        """See `Distillation.digest`."""
        return self.teacher.digest


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """What is known of a trial.

    Attributes:
        place: of the trial, from 0; 0 is that of the untuned recipe.
        fields: its settings now; {} for the untuned recipe.
        token: names them.
        status: ``running`` (or stopped by the scheduler, or its worker was lost), ``complete``, ``failed``,
            ``timeout``.
        scores: epoch -> validation accuracy, on a part of the split but for the last epoch.
        loss: on the validation split after the last epoch.
        seconds: spent on it, over all attempts.
        path: epoch from which -> settings that its weights were trained by, those of before a take-over included.
        error: one line, where it failed.
    """

    place: int
    fields: Fields = field(default_factory=dict)
    token: str = "0"
    status: str = "running"
    scores: Mapping[int, float] = field(default_factory=dict)
    loss: float | None = None
    seconds: float = 0.0
    path: Mapping[int, Fields] = field(default_factory=dict)
    error: str = ""

    @property
    def accuracy(self) -> float:
        """The last score; 0 before there is one."""
        return self.scores[max(self.scores)] if self.scores else 0.0

    @property
    def epoch(self) -> int:
        """At the last score."""
        return max(self.scores, default=0)


def read_record(path: Path) -> TrialRecord | None:
    """The record in a file; None where there is none that can be read."""
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        for name in ("scores", "path"):
            given[name] = {int(epoch): value for epoch, value in given[name].items()}
        return TrialRecord(**given)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


@dataclass(frozen=True, kw_only=True, eq=False)
class Retraining:
    """The trials of one network; see `nas.run.tuning.TrialWork`.

    A trial ends early by asking for an accuracy that none reaches at the next milestone: the training stops there with
    its state kept, and goes on from it as if it never had, to the last bit.

    Attributes:
        evaluate: the task, the untuned recipe, the device and the time limit of a trial.
        candidate: which network, for how many epochs, with which seed.
        compress: the teacher and how much it counts, and how zeros come to a sparse network.
        teacher: model folder of the largest network, where that is the teacher; None: ``compress`` says who is.
        folder: of the trials' files; on a cluster all nodes must see it.
        milestones: epochs at which a trial is told of, rising; the last is the end.
        replicas: devices that a trial is trained on together.
        takes_over: whether trials go on from states of others.
    """

    evaluate: TrainingEvaluate
    candidate: Candidate
    compress: CompressOptions
    folder: Path
    milestones: tuple[int, ...]
    teacher: Path | None = None
    replicas: int = 1
    takes_over: bool = False

    def __call__(self, assignment: Assignment) -> Iterator[Rung]:
        """Trains a trial from where it is, and tells of it at each milestone.

        What goes wrong with the training is the trial's end, with a score of 0: the same would go wrong again.
        """
        record = self._begun(assignment)
        if record.status in ("complete", "failed", "timeout"):
            yield self._rung(record, self.milestones[-1])
            return
        if not self.takes_over:
            for epoch in sorted(record.scores):
                yield self._rung(record, epoch)
        limit = self.evaluate.time_limit_seconds
        deadline = None if limit is None else time.monotonic() + limit
        while record.status == "running":
            record = self._trained_on(record, deadline)
            self._keep(record)
            yield self._rung(record, self.milestones[-1] if record.status != "running" else record.epoch)

    def records(self, count: int) -> list[TrialRecord]:
        """Those of the first ``count`` trials that began."""
        found = (read_record(self._file(place)) for place in range(count))
        return [record for record in found if record is not None]

    def epochs_done(self, record: TrialRecord) -> int:
        """Epochs that a trial's training has behind it, also between two looks."""
        progress = read_progress(self._state(record))
        return max(record.epoch, progress.epochs if progress is not None else 0)

    def finished(self, record: TrialRecord) -> Trained:
        """The network of a complete trial, with its metrics; nothing is trained."""
        assert record.status == "complete"
        result, module = self._fit(record, stop_at=None, deadline=None)
        evaluate = self.evaluate
        costs = network_costs(
            self._network, input_shape=evaluate.task.input_shape, num_classes=evaluate.task.num_classes,
            allow=evaluate.allow,
        )  # fmt: skip
        told = replace(result, seconds=record.seconds)
        return Trained(module=module, network=self._network, input_size=self._size, fit=told, costs=costs)

    def recipe(self, given: Fields) -> Recipe:
        """The recipe with the settings of a trial."""
        own = {name: value for name, value in given.items() if name in _RECIPE_FIELDS}
        return replace(self.evaluate.recipe, **own)  # type: ignore[arg-type]  # checked with the ranges

    def options(self, given: Fields) -> CompressOptions:
        """How much the teacher counts, with the settings of a trial."""
        own: dict[str, Any] = {name: value for name, value in given.items() if name not in _RECIPE_FIELDS}
        return replace(self.compress, **own)

    @property
    def _network(self) -> Any:
        return self.evaluate.space.network(self.candidate.architecture.row)

    @property
    def _size(self) -> tuple[int, int]:
        return input_shape_of(self._network, self.evaluate.task.input_shape)[1:]

    def _begun(self, assignment: Assignment) -> TrialRecord:
        """The trial's record, with the settings that it has now, and its state in place."""
        self.folder.mkdir(parents=True, exist_ok=True)
        record = read_record(self._file(assignment.place))
        if record is not None and record.token == assignment.token:
            return record
        begun = TrialRecord(place=assignment.place, fields=dict(assignment.fields), token=assignment.token)
        taken = read_record(assignment.start / _RECORD) if assignment.start is not None else None
        if assignment.start is not None and taken is not None:
            shutil.copyfile(assignment.start / _STATE, self._state(begun))
            begun = replace(begun, scores=taken.scores, path=taken.path)
        if record is not None:
            self._state(record).unlink(missing_ok=True)
            begun = replace(begun, seconds=record.seconds)
        begun = replace(begun, path={**begun.path, begun.epoch: dict(assignment.fields)})
        self._keep(begun)
        return begun

    def _trained_on(self, record: TrialRecord, deadline: float | None) -> TrialRecord:
        """The record after the next milestone, or after the training went wrong."""
        done = self.epochs_done(record)
        stop_at = next((epoch for epoch in self.milestones[:-1] if epoch > done), None)
        start = time.monotonic()
        try:
            result, _ = self._fit(record, stop_at=stop_at, deadline=deadline)
        except HopelessError as paused:
            return self._after(record, start, scores={**record.scores, len(paused.curve): paused.curve[-1]})
        except DeadlineError as error:
            return self._after(record, start, status="timeout", error=one_line(error))
        except Exception as error:  # divergence, a custom operator, no memory
            return self._after(record, start, status="failed", error=one_line(error))
        scores = {**record.scores, self.milestones[-1]: result.metrics["accuracy"]}
        return self._after(record, start, status="complete", scores=scores, loss=result.metrics["loss"])

    @staticmethod
    def _after(record: TrialRecord, start: float, **changed: Any) -> TrialRecord:
        return replace(record, seconds=record.seconds + time.monotonic() - start, **changed)

    def _fit(self, record: TrialRecord, *, stop_at: int | None, deadline: float | None) -> tuple[Fit, Any]:
        evaluate, candidate = self.evaluate, self.candidate
        module = evaluate.build(self._network, seed=candidate.seed)
        recipe, teacher = self.recipe(record.fields), self._teacher(record.fields)
        if self.takes_over:
            recipe = LineageRecipe(**asdict(recipe), lineage=f"{evaluate.recipe.digest}*")
            if teacher is not None:
                teacher = LineageDistillation(teacher=teacher.teacher, options=teacher.options)
        zeros = self._network.deployment.sparsity
        rules: tuple[TrainingRule, ...] = (self.compress.zeros(zeros),) if zeros else ()
        result = fit_on_several(
            module,
            evaluate.task,
            recipe,
            devices=visible_devices(evaluate.device, self.replicas),
            checkpoint=self._state(record),
            deadline=deadline,
            fidelity=candidate.fidelity,
            seed=candidate.seed,
            judge_on=evaluate.judge_on,
            input_size=self._size,
            stop_below=() if stop_at is None else (*[0.0] * (stop_at - 1), _MORE_THAN_ALL),
            rules=rules,
            teacher=teacher,
        )
        return result, module

    def _teacher(self, given: Fields) -> Distillation | None:
        largest = None
        if self.teacher is not None:
            loaded = load_model(self.teacher, allow=self.evaluate.allow)
            stored = loaded.architecture
            largest = TorchTeacher(
                loaded.module, input_size=input_shape_of(stored.network, stored.data_shape)[1:]
            )  # fmt: skip
        task = self.evaluate.task
        return distillation_of(
            self.options(given),
            input_shape=task.input_shape,
            num_classes=task.num_classes,
            allow=self.evaluate.allow,
            largest=largest,
        )

    def _rung(self, record: TrialRecord, epoch: int) -> Rung:
        score = record.scores.get(epoch, 0.0) if record.status in ("running", "complete") else 0.0
        files = {_STATE: self._state(record), _RECORD: self._file(record.place)}
        return Rung(epoch=epoch, score=score, files=files if self.takes_over and record.status != "failed" else {})

    def _keep(self, record: TrialRecord) -> None:
        write_atomically(self._file(record.place), json.dumps(asdict(record), indent=1) + "\n")

    def _file(self, place: int) -> Path:
        return self.folder / f"{place}.json"

    def _state(self, record: TrialRecord) -> Path:
        return self.folder / f"{record.place}-{record.token}.safetensors"


def best_of(records: list[TrialRecord]) -> TrialRecord | None:
    """The trial whose network is shipped: by validation accuracy, then the untuned one, then the lower loss.

    None where no trial is complete.
    """
    complete = [record for record in records if record.status == "complete"]

    def rank(record: TrialRecord) -> tuple[float, bool, float]:
        return record.accuracy, record.place == 0, -(record.loss or 0.0)

    return max(complete, key=rank, default=None)


def changes(given: Mapping[str, Value]) -> str:
    """``learning_rate 0.043, weight_decay 0.0012``; "the recipe as it was" where there are none."""
    return ", ".join(f"{name} {value}" for name, value in given.items()) or "the recipe as it was"
