"""The work of an export: a job a model and target, run in worker processes, and what came of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nas.commands.display import Display
from nas.commands.export_inputs import Chosen
from nas.commands.export_settings import PRECISIONS, ExportSettings
from nas.deploy.bundle.pool import ExportPool
from nas.deploy.bundle.records import ExportJob, MadeFile, Missing, Outcome, all_missing
from nas.deploy.bundle.write import model_place
from nas.deploy.targets.registry import open_target
from nas.deploy.targets.target import Target
from nas.errors import unknown_name
from nas.run.capacity import usable_cores


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A target that was asked for.

    Attributes:
        target: whether it is available or not.
        problem: why it is not; empty if it is.
    """

    target: Target
    problem: str

    def to_record(self) -> dict[str, object]:
        """As the bundle's manifest has it."""
        return {
            "name": self.target.name,
            "level": self.target.level,
            "precisions": list(self.target.precisions),
            "available": not self.problem,
            "reason": self.problem,
        }


def open_targets(settings: ExportSettings) -> list[Opened]:
    """The targets in the order in which they were given.

    Raises:
        UserError: a precision that none of them has.
    """
    targets = [open_target(name, settings.deploy) for name in settings.targets]
    known = dict.fromkeys(precision for target in targets for precision in target.precisions)
    for precision in settings.precisions or ():
        if precision not in known:
            raise unknown_name("precisions", f"precision of {', '.join(settings.targets)}", precision, known)
    return [Opened(target=target, problem=target.available()) for target in targets]


def num_workers(settings: ExportSettings, models: Sequence[Chosen], targets: Sequence[Opened]) -> int:
    """Processes that the jobs keep busy: one a core at the most, where the settings say nothing else."""
    if settings.workers is not None:
        return settings.workers
    return max(1, min(usable_cores(), len(models) * sum(not one.problem for one in targets)))


def run_jobs(
    settings: ExportSettings,
    pool: ExportPool,
    models: Sequence[Chosen],
    targets: Sequence[Opened],
    *,
    images: Mapping[str, Path],
    bundle: Path,
    display: Display,
) -> tuple[list[MadeFile], list[Missing]]:
    """Files and what is missing, in the order in which models and targets were given, whichever job ended first.

    Args:
        settings: of the export.
        pool: where the jobs run.
        models: that are exported.
        targets: that they are exported to.
        images: digest -> folder with the images of its jobs; none for a model that the data does not fit.
        bundle: folder that the files go into.
        display: is told of each job, and of each reason for which something is missing.
    """
    found: dict[tuple[str, str], list[Outcome]] = {}
    left: list[ExportJob] = []
    for model in sorted(models, key=lambda model: -int(model.manifest["macs"])):  # the longest first
        for one in targets:
            job = _job(settings, model, one.target, images.get(model.digest, bundle), bundle)
            possible, dropped = _split(job, one, model.unfit)
            found[model.digest, one.target.name] = [dropped]
            left += [possible] if possible.precisions else []
    count = 0

    def done(job: ExportJob, outcome: Outcome) -> None:
        nonlocal count
        count += 1
        found[job.digest, job.target].append(outcome)
        display.progress("export", count, len(left), text=f"[{job.digest[:6]} {job.target}]", each=True)

    pool.run(left, done)
    ordered = [outcome for model in models for one in targets for outcome in found[model.digest, one.target.name]]
    missing = [one for outcome in ordered for one in outcome.missing]
    _tell_missing(missing, display)
    return [one for outcome in ordered for one in outcome.files], missing


def _job(settings: ExportSettings, model: Chosen, target: Target, images: Path, bundle: Path) -> ExportJob:
    return ExportJob(
        model=model.folder.resolve(),
        samples=images,
        target=target.name,
        precisions=_usual(model, target) if settings.precisions is None else tuple(settings.precisions),
        out=model_place(bundle, model.digest) / target.name,
        barred=model.barred if target.name == "onnxruntime" else {},
        keep_rejected=settings.keep_rejected,
        profile=settings.profile,
        options=settings.deploy,
        allow=tuple(settings.allow),
    )


def _usual(model: Chosen, target: Target) -> tuple[str, ...]:
    """What is made where nobody says: what the search chose for the model, else float32 and int8, else the safest."""
    own = [entry["precision"] for entry in model.manifest["files"]]
    for names in (own, PRECISIONS):
        found = tuple(name for name in names if name in target.precisions)
        if found:
            return found
    return target.precisions[:1]


def _split(job: ExportJob, opened: Opened, unfit: str) -> tuple[ExportJob, Outcome]:
    """What of a job its target can make, and the outcome of the rest.

    Args:
        job: of one model.
        opened: its target.
        unfit: why the data does not fit the model; "" where it does.
    """
    known = () if opened.problem or unfit else opened.target.precisions
    others = tuple(name for name in job.precisions if name not in known)
    reason = opened.problem or (f"the data {unfit}" if unfit else f"it has no such precision, only {', '.join(known)}")
    possible = tuple(name for name in job.precisions if name in known)
    return replace(job, precisions=possible), all_missing(replace(job, precisions=others), reason)


def _tell_missing(missing: Sequence[Missing], display: Display) -> None:
    """A line for each reason: most of them hold for all models."""
    groups: dict[tuple[str, str], list[Missing]] = {}
    for one in missing:
        groups.setdefault((one.target, one.reason), []).append(one)
    for (target, reason), group in groups.items():
        models = list(dict.fromkeys(one.digest[:6] for one in group))
        precisions = ", ".join(dict.fromkeys(one.precision for one in group))
        whose = models[0] if len(models) == 1 else f"{len(models)} models"
        display.note(f"{target}: no {precisions} file of {whose}: {reason}")
