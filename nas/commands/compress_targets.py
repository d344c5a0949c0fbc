"""Files of a compression for other runtimes than onnxruntime.

Responsible for asking each target for each form of the network that was calibrated or left in float, and for telling
what could not be made; a target that fails costs its own files only.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nas.commands.compress_bench import Bench, Variant
from nas.commands.compress_folder import WrittenFile
from nas.deploy.files import torch_logits
from nas.deploy.manifest import plain
from nas.deploy.qat_executorch import write_qat_pte
from nas.deploy.targets.registry import open_target
from nas.deploy.targets.target import Artifact, Source, Target, Verification
from nas.errors import UserError, one_line
from nas.problem.goals import Budget
from nas.run.front import FrontFile, broken_budgets
from nas.space.architecture import Architecture
from nas.train.compression.steps import Form
from nas.units import format_quantity

_TAKES_ROUNDED = "executorch"


@dataclass(frozen=True, kw_only=True, eq=False)
class TargetFile:
    """A file for another runtime, or why there is none.

    Attributes:
        target: whose file it is.
        record: ``model`` (empty where the target is not available at all), ``target``, ``precision``, ``path`` (None
            where there is no file), ``level``, ``accuracy``, ``agreement``, ``bytes``, ``figures``, ``notes`` and
            ``reason`` why it must not be shipped, budgets on size and accuracy among them.
        artifact, verification: of the file; None where there is none.
    """

    target: Target
    record: Mapping[str, Any]
    artifact: Artifact | None = None
    verification: Verification | None = None


def target_files(
    bench: Bench, variants: Sequence[Variant], files: Sequence[WrittenFile], place: Path
) -> list[TargetFile]:
    """Makes and checks the files of the targets that the settings name, in ``targets/<model>/<target>-<precision>/``.

    Args:
        bench: what is shared.
        variants: forms of the network; those with a precision for each operator, or trained with rounding, are left
            out, as a target would calibrate them anew: but for ExecuTorch with signed activations, which takes the
            rounding of the training.
        files: of all forms; they tell which precisions a form has.
        place: the folder of the compression.
    """
    made: list[TargetFile] = []
    opened = [open_target(name, bench.settings.deploy) for name in bench.settings.targets]
    missing = {target.name: target.available() for target in opened}
    for target in opened:
        reason = missing[target.name]
        if reason:
            bench.display.note(f"no files for {target.name}: {reason}")
            made.append(TargetFile(target=target, record=_nothing("", target.name, "", reason)))
    jobs = [
        job
        for variant in variants
        for job in _jobs(bench, variant, files, [target for target in opened if not missing[target.name]])
    ]
    for number, job in enumerate(jobs):
        name = f"{job.variant} {job.target.name} {job.precision}"
        bench.display.progress("targets", number, len(jobs), text=name)
        one = _made(job, bench.budgets, place / "targets" / job.variant / f"{job.target.name}-{job.precision}", place)
        bench.display.say("target", _line(one.record))
        made.append(one)
    return made


Export = Callable[[Source, Path, str], Artifact]
"""As `nas.deploy.targets.target.Target.export`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Job:
    variant: str
    source: Source
    target: Target
    precision: str
    export: Export


def _jobs(bench: Bench, variant: Variant, files: Sequence[WrittenFile], targets: Sequence[Target]) -> Iterator[_Job]:
    if variant.form is None or not targets:
        return
    own = {file.precision: file.path for file in files if file.variant == variant.name}
    learnt = variant.rounded if bench.settings.deploy.activations == "signed" else None
    if variant.made_to_fit and learnt is None:
        return
    source = Source(
        module=variant.form.module,
        input_shape=bench.original.input_shape,
        samples=bench.samples,
        reference=torch_logits((learnt or variant.form).module, bench.samples.test),
        files=own,
    )
    for target in targets:
        if learnt is not None and target.name == _TAKES_ROUNDED:
            yield _Job(variant=variant.name, source=source, target=target, precision="int8", export=_exporter(learnt))
        elif not variant.made_to_fit:
            for precision in (name for name in target.precisions if name in own):
                yield _Job(
                    variant=variant.name, source=source, target=target, precision=precision, export=target.export
                )


def _exporter(learnt: Form) -> Export:
    """Writes the program of a network that was trained with rounding: nothing is calibrated."""

    def export(source: Source, folder: Path, precision: str) -> Artifact:
        path = folder / "model.int8.pte"
        write_qat_pte(learnt.module, source.input_shape, path)
        return Artifact(path=path, precision=precision, notes=("its ranges are those of the training",))

    return export


def _made(job: _Job, budgets: Sequence[Budget], folder: Path, place: Path) -> TargetFile:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        artifact = job.export(job.source, folder, job.precision)
        verified = job.target.verify(artifact, job.source)
    except Exception as error:  # converters raise whatever their parts raise
        shutil.rmtree(folder, ignore_errors=True)
        reason = str(error) if isinstance(error, UserError) else one_line(error)
        return TargetFile(target=job.target, record=_nothing(job.variant, job.target.name, job.precision, reason))
    judged = {} if verified.judgement is None else asdict(verified.judgement)
    broken = _broken(budgets, job.precision, artifact.size_bytes, judged.get("accuracy"))
    reason = "; ".join(text for text in (verified.reason, broken) if text)
    record = {
        **_nothing(job.variant, job.target.name, job.precision, reason),
        "path": str(artifact.path.relative_to(place)),
        "level": verified.level,
        "accuracy": judged.get("accuracy"),
        "agreement": judged.get("agreement"),
        "bytes": artifact.size_bytes,
        "figures": plain(dict(verified.figures)),
        "notes": list(artifact.notes),
    }
    return TargetFile(target=job.target, record=record, artifact=artifact, verification=verified)


def _broken(budgets: Sequence[Budget], precision: str, size_bytes: int, accuracy: float | None) -> str:
    """Which budgets a file breaks: on size, and on accuracy where it ran; nothing is timed in other runtimes."""
    keys = ("size_bytes",) if accuracy is None else ("size_bytes", "accuracy")
    file = FrontFile(
        architecture=Architecture(row=(), choices={}, digest=""),
        precision=precision,
        accuracy=math.nan if accuracy is None else accuracy,
        macs=math.nan,
        parameters=math.nan,
        size_bytes=size_bytes,
        peak_activation_bytes=math.nan,
        path="",
    )
    return broken_budgets(file, [budget for budget in budgets if budget.key in keys])


def _nothing(model: str, target: str, precision: str, reason: str) -> dict[str, Any]:
    nothing = dict.fromkeys(("path", "level", "accuracy", "agreement", "bytes"))
    return {
        "model": model,
        "target": target,
        "precision": precision,
        **nothing,
        "figures": {},
        "notes": [],
        "reason": reason,
    }


def _line(record: Mapping[str, Any]) -> str:
    """``pruned-50  litert int8: executed, right for 95.0 %, agrees for 99.4 %, 18.2 kB``"""
    name = f"{record['model']}  {record['target']} {record['precision']}"
    if record["level"] is None:
        return f"{name}: none, {record['reason']}"
    parts = [str(record["level"])]
    if record["accuracy"] is not None:
        parts += [f"right for {record['accuracy']:.1%}", f"agrees for {record['agreement']:.1%}"]
    parts.append(format_quantity(record["bytes"], "bytes"))
    return f"{name}: {', '.join(parts)}" + (f"; must not be shipped: {record['reason']}" if record["reason"] else "")
