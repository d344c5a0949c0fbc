"""What an export starts from: the models of a run, and the images that they are judged and calibrated with."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nas.commands.display import Display
from nas.commands.export_settings import ALL, FRONT, ExportSettings
from nas.deploy.architecture_file import read_architecture
from nas.deploy.bundle.images import golden_samples, write_images
from nas.deploy.files import ARCHITECTURE
from nas.deploy.manifest import NAME, Manifest, read_manifest
from nas.deploy.records import Samples
from nas.deploy.samples import samples_of
from nas.errors import UserError
from nas.report.records import read_front
from nas.train.task import ImageClassification, image_classification


@dataclass(frozen=True, kw_only=True, eq=False)
class Chosen:
    """A model that is to be exported.

    Attributes:
        folder: its model folder.
        manifest: of that.
        barred: precision -> the budget that its file of the model folder breaks.
        unfit: why the data cannot calibrate and judge it; "" where it can.
    """

    folder: Path
    manifest: Manifest
    barred: Mapping[str, str]
    unfit: str = ""

    @property
    def digest(self) -> str:
        return self.folder.name


def run_record(run: Path) -> Mapping[str, Any]:
    """The manifest of a run folder; {} where there is none.

    Raises:
        UserError: no such folder, no models in it, or a manifest that cannot be read.
    """
    if not (run / "models").is_dir():
        problem = "must be a run folder with models, " + ("has none" if run.is_dir() else "there is no such folder")
        raise UserError("run", f"{run} {problem}", "give runs/<name>")
    try:
        record = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise UserError("run", f"{run / 'manifest.json'} cannot be read, {error}", "give another run") from error
    if not isinstance(record, dict):
        raise UserError("run", f"{run / 'manifest.json'} must be a JSON object", "give another run")
    return record


def chosen_models(settings: ExportSettings, display: Display) -> list[Chosen]:
    """The models that are exported, the front's order first.

    Raises:
        UserError: a digest that no model or several have, or no model at all.
    """
    # A folder with a dot in front is one that was being written when its worker died.
    folders = {path.parent.name: path.parent for path in sorted((settings.run / "models").glob(f"[!.]*/{NAME}"))}
    if not folders:
        raise UserError("run", f"{settings.run} must hold models, holds none", "finish the search first")
    if isinstance(settings.models, str) and settings.models in (FRONT, ALL):
        digests = _front(settings.run, folders, display) if settings.models == FRONT else list(folders)
    else:
        given = [settings.models] if isinstance(settings.models, str) else list(settings.models)
        digests = list(dict.fromkeys(_full(digest, folders) for digest in given))
    if not digests:
        problem = "must name at least one model, got none"
        raise UserError("models", problem, "models=all takes those that are not on the front too")
    return [_chosen(folders[digest]) for digest in digests]


def _front(run: Path, folders: Mapping[str, Path], display: Display) -> list[str]:
    rows = read_front(run / "front.csv")
    if not rows:
        display.note("the run has no front.csv: all of its models are exported")
        return list(folders)
    accepted = [row for row in rows if row.get("accepted") == "True"]
    best = [row for row in accepted if row.get("non_dominated") == "True"] or accepted
    if not best:
        raise UserError("models", "no file of the front may be shipped", f"see front.csv for why, or models={ALL}")
    return list(dict.fromkeys(row["digest"] for row in best if row["digest"] in folders))


def _full(given: str, folders: Mapping[str, Path]) -> str:
    """The digest that begins as given."""
    found = [digest for digest in folders if digest.startswith(str(given))] if given else []
    if len(found) != 1:
        several = f"must be the beginning of one digest, {given!r} is that of {len(found)}"
        raise UserError("models", several, f"it has {', '.join(folders)}; or {FRONT}, {ALL}")
    return found[0]


def _chosen(folder: Path) -> Chosen:
    manifest = read_manifest(folder)
    if manifest.get("contents") and all(entry["path"] != ARCHITECTURE for entry in manifest["contents"]):
        problem = f"must hold models that were searched for, {folder.name} is a form of a model of your own"
        raise UserError("run", problem, "nas compress writes its bundle itself")
    barred = {}
    for entry in manifest["files"]:
        budgets = entry["reason"].removeprefix(entry["quality_reason"]).removeprefix("; ")
        if budgets:
            barred[entry["precision"]] = budgets
    return Chosen(folder=folder, manifest=manifest, barred=barred)


def load_task(settings: ExportSettings) -> ImageClassification | None:
    """The data; None where none was given. Raises `UserError` where it cannot be loaded."""
    return None if settings.data is None else image_classification(settings.data.load())


def matched(models: Sequence[Chosen], task: ImageClassification | None) -> list[Chosen]:
    """The models, those marked that the data does not fit; without data all are as they were.

    Raises:
        UserError: it fits none of them.
    """
    found = [model if task is None else replace(model, unfit=_misfit(model, task)) for model in models]
    if all(model.unfit for model in found):
        raise UserError("data", found[0].unfit, "give the run's data, or golden_only=true")
    return found


def _misfit(model: Chosen, task: ImageClassification) -> str:
    """Why a model can be neither calibrated nor judged with the data; "" where it can."""
    trained, about = model.manifest["training"], model.manifest["input"]
    if trained["data_digest"] != task.data.digest:
        return f"must be what {model.digest} was trained on (digest {trained['data_digest']}), is {task.data.digest}"
    for name, found in (("mean", task.mean), ("std", task.std)):
        if len(found) != len(about[name]) or not all(map(_near, found, about[name])):
            return f"must be normalised as {model.digest} was trained, {name} {about[name]}, has {list(found)}"
    return ""


def _near(first: float, second: float) -> bool:
    return math.isclose(first, second, rel_tol=1e-4, abs_tol=1e-6)


def prepare_images(
    settings: ExportSettings, models: Sequence[Chosen], task: ImageClassification | None, scratch: Path
) -> dict[str, Path]:
    """Digest -> folder with the images for its jobs; models that take images of one size share them.

    None for models that the data does not fit.
    """
    places: dict[str, Path] = {}
    for model in models:
        if model.unfit:
            continue
        place = scratch / model.digest
        if task is not None:
            shape = model.manifest["input"]["shape"][1:]
            place = scratch / "x".join(map(str, shape))
        if not place.exists():
            write_images(_samples(settings, model, task), place, num_test=settings.images)
        places[model.digest] = place
    return places


def _samples(settings: ExportSettings, model: Chosen, task: ImageClassification | None) -> Samples:
    if task is None:
        return golden_samples(model.folder, model.manifest)
    network = read_architecture(model.folder / ARCHITECTURE).network
    return samples_of(task, network, num_calibration=settings.deploy.calibration_images)
