"""Model folders read back: as a torch module, and to check that they are what was exported.

Responsible for trusting nothing in a folder: checksums first, then YAML without objects, safetensors and npz without
pickle. Nothing in a folder is executed; custom operators come only from packages that the caller allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_model as load_weights
from torch import nn

from nas.deploy.architecture_file import StoredArchitecture, read_architecture
from nas.deploy.files import ARCHITECTURE, GOLDEN, TOLERANCE, WEIGHTS, torch_logits
from nas.deploy.judge import compare, run_file
from nas.deploy.manifest import NAME, Manifest, check_entries, read_manifest, sha256
from nas.device.archives import read_arrays
from nas.errors import UserError, first_line, in_file
from nas.model.build import build


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedModel:
    """A model folder in memory.

    Attributes:
        module: with its trained weights, in evaluation mode; takes what ``manifest["input"]`` says.
        architecture: the network it was built from, with its choices.
        manifest: as written.
    """

    module: nn.Module
    architecture: StoredArchitecture
    manifest: Manifest


@dataclass(frozen=True, kw_only=True)
class Check:
    """A golden comparison that held.

    Attributes:
        what: ``torch`` or the name of the file that was run.
        relative_error: largest deviation of a logit, as a share of the golden logits' range.
        agreement: share of golden samples with the same class.
    """

    what: str
    relative_error: float
    agreement: float

    def __str__(self) -> str:
        return f"{self.what} off by {self.relative_error:.1g} of the range, same class {self.agreement:.0%}"


def load_model(folder: Path, *, allow: Sequence[str] = ()) -> LoadedModel:
    """The torch module of a model folder.

    Args:
        folder: ``models/<digest>``.
        allow: packages that custom operators may come from.

    Raises:
        UserError: no model folder, architecture or weights that were changed, or weights that do not fit.
    """
    manifest = read_manifest(folder)
    check_contents(folder, manifest, (ARCHITECTURE, WEIGHTS))
    stored = read_architecture(folder / ARCHITECTURE)
    with torch.random.fork_rng(devices=[]):  # it starts with random weights, which is nobody's business
        module = build(stored.network, input_shape=stored.data_shape, num_classes=stored.num_classes, allow=allow)
    try:
        load_weights(module, folder / WEIGHTS)
    except (SafetensorError, RuntimeError, OSError) as error:
        problem = f"does not fit {ARCHITECTURE}, {first_line(error)}"
        raise UserError(str(folder / WEIGHTS), problem, "export the model again") from error
    return LoadedModel(module=module.eval(), architecture=stored, manifest=manifest)


def verify_model_folder(folder: Path, *, allow: Sequence[str] = ()) -> tuple[Check, ...]:
    """Checks a model folder: every checksum, then torch and every exported file against the golden outputs.

    Returns:
        One check for torch and one a file.

    Raises:
        UserError: the first thing that does not hold: a file that is missing or was changed, or an output that is
            farther from the golden one than `nas.deploy.files.TOLERANCE` allows.
    """
    manifest = read_manifest(folder)
    check_contents(folder, manifest)
    golden = read_golden(folder)
    inputs, checks = golden["inputs"], []
    if any(entry["path"] == ARCHITECTURE for entry in manifest["contents"]):  # a model of the user's own has none
        module = load_model(folder, allow=allow).module
        checks.append(
            _check("torch", folder, torch_logits(module, inputs), golden, "logits_torch", TOLERANCE["float32"])
        )
    for entry in manifest["files"]:
        name, precision = entry["path"], entry["precision"]
        logits = run_file(folder / name, inputs, batch=len(inputs))
        checks.append(_check(name, folder, logits, golden, f"logits_{precision}", TOLERANCE[precision]))
    return tuple(checks)


def read_golden(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of ``golden.npz`` by name.

    Raises:
        UserError: it is missing, broken, or holds objects.
    """
    path = folder / GOLDEN
    try:
        return read_arrays(path)
    except (OSError, ValueError) as error:
        raise UserError(str(path), f"cannot be read, {first_line(error)}", "export the model again") from error


def _check(
    what: str, folder: Path, logits: np.ndarray, golden: dict[str, np.ndarray], key: str, tolerance: float
) -> Check:
    if key not in golden or logits.shape != golden[key].shape:
        raise UserError(str(folder / GOLDEN), f"must hold {key} {logits.shape}, it does not", "export the model again")
    found = compare(logits, golden["labels"], golden[key])
    if not found.relative_error <= tolerance:
        problem = f"{what} must give the golden outputs within {tolerance:.1%} of their range"
        raise UserError(
            str(folder), f"{problem}, it is {found.relative_error:.1%} off", "do not ship it on this machine"
        )
    return Check(what=what, relative_error=found.relative_error, agreement=found.agreement)


def check_contents(folder: Path, manifest: Manifest, names: Sequence[str] = ()) -> None:
    """Compares checksums of the named files; of all when none is named.

    Raises:
        UserError: a file is missing, was changed, or is none of the folder's own.
    """
    check_entries(folder / NAME, manifest, ("path", "sha256"))
    if not manifest.get("contents"):
        raise UserError(in_file(folder / NAME, "contents"), "must list the folder's files, lists none", "export again")
    for entry in (*manifest["contents"], *manifest.get("files", [])):
        name = entry["path"]
        if names and name not in names:
            continue
        if Path(name).name != name:
            raise UserError(str(folder), f"must list files of its own in the manifest, got {name!r}")
        path = folder / name
        if not path.is_file():
            raise UserError(str(path), "must be there, the manifest lists it", "copy the folder again")
        if sha256(path) != entry["sha256"]:
            raise UserError(str(path), "was changed: its checksum is not that of the manifest", "copy the folder again")
