"""The folder of a bundle, put together from what the jobs made.

Responsible for what lies where, and for the manifest (`manifest.schema.json` beside this file describes it). Paths in
it are relative to the bundle; every file but the manifest itself is listed with its sum.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import nas
from nas.deploy.bundle.checking.findings import FORMAT, KIND, MANIFEST
from nas.deploy.bundle.checking.findings import SCHEMA as SCHEMA_NAME
from nas.deploy.bundle.checking.joined import standalone_text
from nas.deploy.bundle.golden import array_name, tolerance_of, write_golden
from nas.deploy.bundle.loaders import write_benchmarks, write_loaders
from nas.deploy.bundle.pages import judged_in, parity_page, readme
from nas.deploy.bundle.records import MadeFile, Missing
from nas.deploy.bundle.text import template
from nas.deploy.files import ARCHITECTURE
from nas.deploy.load import read_golden
from nas.deploy.manifest import Manifest, plain, sha256
from nas.errors import UserError, unknown_name

SCHEMA = Path(__file__).with_name(SCHEMA_NAME)
CODE_LICENCE = "Apache-2.0"
_LICENCES = "licences"
_PARTS = ("weights", "data", "texts")


@dataclass(frozen=True, kw_only=True)
class Licences:
    """Under what the parts of a bundle may be used.

    Attributes:
        weights: of the trained weights, by name, e.g. ``CC-BY-4.0``; "" where nobody said.
        data: of the data they were trained on; likewise.
        texts: files with licence texts, which are copied into the bundle.
    """

    weights: str = ""
    data: str = ""
    texts: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        for text in self.texts:
            if not text.is_file():
                raise UserError("licence.texts", f"must name files, there is no {text}")


def licences_from(given: Mapping[str, object]) -> Licences:
    """The licences of ``licence:`` in a configuration: ``weights``, ``data``, ``texts``.

    Raises:
        UserError: another field, or texts that are no list of files.
    """
    for name in given:
        if name not in _PARTS:
            raise unknown_name(f"licence.{name}", "field of licence", name, _PARTS)
    texts = given.get("texts") or ()
    texts = (texts,) if isinstance(texts, str) else texts
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise UserError("licence.texts", f"must be a list of files, got {texts!r}", "e.g. licence.texts=[LICENSE]")
    return Licences(
        weights=str(given.get("weights") or ""),
        data=str(given.get("data") or ""),
        texts=tuple(Path(str(text)) for text in texts),
    )


@dataclass(frozen=True, kw_only=True)
class About:
    """What a bundle says of itself as a whole.

    Attributes:
        name: of the bundle.
        origin: run, space, data, commit, versions: where the models are from. Of a model of the user's own: ``model``
            (name, digest, ``kind``: ``torch`` or ``onnx``), with an empty run and space.
        commands: ``search`` (empty where nothing was searched for) and ``export``: what makes it again.
        images: how many images calibrated and judged, and from where.
        licences: of its parts.
        targets: an entry each, as the manifest has them.
        notes: one sentence each.
    """

    name: str
    origin: Mapping[str, Any]
    commands: Mapping[str, str]
    images: Mapping[str, Any]
    licences: Licences
    targets: Sequence[Mapping[str, Any]]
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class BundledModel:
    """A model of a bundle.

    Attributes:
        source: its model folder.
        manifest: of that folder.
        files: that were made, below ``<bundle>/models/<digest>``.
    """

    source: Path
    manifest: Manifest
    files: Sequence[MadeFile]


def model_place(bundle: Path, digest: str) -> Path:
    """The folder of a model in a bundle."""
    return bundle / "models" / digest


def write_bundle(bundle: Path, about: About, models: Sequence[BundledModel], missing: Sequence[Missing]) -> Manifest:
    """Completes the folder of a bundle, in which the models' files are already.

    Args:
        bundle: the folder.
        about: the bundle as a whole.
        models: its models; one without a file is left out.
        missing: what was asked for and is not there.

    Returns:
        The manifest as it was written.
    """
    licences = _write_licences(bundle, about.licences)
    entries = [_write_model(model_place(bundle, model.source.name), model) for model in models if model.files]
    record: Manifest = {
        "kind": KIND,
        "format": FORMAT,
        "name": about.name,
        "tool": {"name": "nas", "version": nas.__version__},
        "origin": about.origin,
        "commands": about.commands,
        "images": about.images,
        "licences": licences,
        "targets": list(about.targets),
        "models": entries,
        "missing": [one.to_record() for one in missing],
        "notes": list(about.notes),
    }
    clean = plain(record)
    assert isinstance(clean, dict)
    _write_pages(bundle, clean)
    clean["contents"] = _contents(bundle)
    (bundle / MANIFEST).write_text(json.dumps(clean, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return clean


def _write_model(place: Path, model: BundledModel) -> dict[str, Any]:
    golden = read_golden(model.source)
    outputs: dict[str, tuple[np.ndarray, float]] = {}
    files = []
    for made in model.files:
        entry = _relative(made.entry, place)
        name = array_name(entry["target"], entry["precision"])
        if made.outputs is not None:
            outputs[name] = (made.outputs, tolerance_of(entry["precision"]))
        entry["expected"] = name if made.outputs is not None else ""
        entry["tolerance"] = tolerance_of(entry["precision"])
        entry["profile"] = _write_profile(place, made)
        files.append(entry)
    if any(entry["path"] == ARCHITECTURE for entry in model.manifest["contents"]):  # a model of the user's own has none
        shutil.copyfile(model.source / ARCHITECTURE, place / ARCHITECTURE)
    (place / "labels.txt").write_text(
        "".join(f"{' '.join(label.split())}\n" for label in model.manifest["labels"]), encoding="utf-8"
    )
    entry = {
        key: model.manifest[key]
        for key in ("digest", "space", "choices", "macs", "parameters", "labels", "input", "output", "training")
    }
    entry |= {
        "golden": write_golden(place, golden, outputs),
        "files": files,
        "loaders": write_loaders(place, model.manifest, files, num_samples=len(golden["inputs"])),
        "benchmarks": write_benchmarks(place, model.manifest, files),
    }
    return _below(f"models/{place.name}/", entry)


def _relative(entry: Mapping[str, Any], place: Path) -> dict[str, Any]:
    """The entry with paths relative to the model's folder."""
    return {
        **entry,
        "path": entry["path"].relative_to(place).as_posix(),
        "extras": [extra.relative_to(place).as_posix() for extra in entry["extras"]],
    }


def _below(prefix: str, entry: dict[str, Any]) -> dict[str, Any]:
    """The model's entry with paths relative to the bundle."""
    for file in entry["files"]:
        file["path"] = prefix + file["path"]
        file["extras"] = [prefix + extra for extra in file["extras"]]
        file["profile"] = file["profile"] and prefix + file["profile"]
    golden = entry["golden"]
    golden |= {"npz": prefix + golden["npz"], "json": prefix + golden["json"]}
    for one in (*golden["arrays"].values(), *entry["loaders"], *entry["benchmarks"]):
        one["path"] = prefix + one["path"]
    return entry


def _write_profile(place: Path, made: MadeFile) -> str:
    """Relative path of the file's profile; "" where it has none."""
    if made.profile is None:
        return ""
    path = place / "profile" / f"{made.entry['target']}.{made.entry['precision']}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(made.profile, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path.relative_to(place).as_posix()


def _write_licences(bundle: Path, licences: Licences) -> dict[str, Any]:
    place = bundle / _LICENCES
    place.mkdir(exist_ok=True)
    code = place / "Apache-2.0.txt"
    code.write_text(template("LICENSE-APACHE-2.0.txt"), encoding="utf-8")
    texts = [code]
    for index, text in enumerate(licences.texts):
        texts.append(place / f"{index + 1}-{text.name}")
        shutil.copyfile(text, texts[-1])
    return {
        "weights": licences.weights,
        "data": licences.data,
        "code": CODE_LICENCE,
        "texts": [text.relative_to(bundle).as_posix() for text in texts],
    }


def _write_pages(bundle: Path, record: Manifest) -> None:
    """Everything that is said of the bundle for people, and what checks it."""
    (bundle / "README.md").write_text(readme(record), encoding="utf-8")
    (bundle / "parity.md").write_text(parity_page(record), encoding="utf-8")
    (bundle / "parity.json").write_text(
        json.dumps({"files": parity_rows(record), "missing": record["missing"]}, indent=1, allow_nan=False) + "\n",
        encoding="utf-8",
    )
    shutil.copyfile(SCHEMA, bundle / SCHEMA_NAME)
    script = bundle / "verify.py"
    script.write_text(standalone_text(), encoding="utf-8")
    script.chmod(0o755)


def parity_rows(record: Manifest) -> list[dict[str, Any]]:
    """A row a file: how far its answers, in its own runtime where that is possible, are from torch's."""
    return [
        {
            "model": model["digest"],
            **{key: entry[key] for key in ("target", "precision", "path", "level", "runtime", "runtime_version")},
            "judged_in": judged_in(entry),
            **(entry["judgement"] or dict.fromkeys(("accuracy", "num_samples", "agreement", "max_abs_error"))),
            **{key: entry[key] for key in ("accepted", "reason")},
        }
        for model in record["models"]
        for entry in model["files"]
    ]


def _contents(bundle: Path) -> list[dict[str, Any]]:
    files = sorted((file for file in bundle.rglob("*") if file.is_file()), key=lambda one: one.as_posix())
    return [
        {"path": file.relative_to(bundle).as_posix(), "sha256": sha256(file), "bytes": file.stat().st_size}
        for file in files
        if file != bundle / MANIFEST
    ]
