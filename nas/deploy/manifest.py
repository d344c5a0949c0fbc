"""``manifest.json`` of a model folder: what is in it, what each file is worth and how that was found.

Responsible for the record's form (`manifest.schema.json` beside this file describes it) and for reading, completing and
replacing it. Numbers that do not exist are null, never NaN.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nas.device.card import Device
from nas.device.energy import EnergyMeasurement
from nas.device.protocol import Measurement
from nas.errors import UserError, in_file

FORMAT = 1
NAME = "manifest.json"
SCHEMA = Path(__file__).with_name("manifest.schema.json")

Manifest = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class PredictedLatency:
    """What was expected of a file before it was measured.

    Attributes:
        latency_ms: expected.
        upper_ms: bound that holds with probability ``confidence``.
        confidence: in (0, 1).
        source: what predicted it: ``calibrated``, ``operators`` or ``estimated``.
    """

    latency_ms: float
    upper_ms: float
    confidence: float
    source: str = "calibrated"


@dataclass(frozen=True, kw_only=True)
class FileEnergy:
    """Energy of an inference of a file on a device.

    Attributes:
        predicted_mj: estimated from the device's card.
        upper_mj: bound that holds with probability ``confidence``.
        confidence: in (0, 1).
        source: what the estimate rests on.
        measured: by a counter; None where there is none.
    """

    predicted_mj: float
    upper_mj: float
    confidence: float
    source: str
    measured: EnergyMeasurement | None = None


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a model folder.

    Raises:
        UserError: there is none, it is no JSON object, or it has another format number.
    """
    path = folder / NAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            str(folder), f"must be a model folder, but has no {NAME}", "give runs/<name>/models/<digest>"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(str(path), f"cannot be read, {error}", "export the model again") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else type(record).__name__
        raise UserError(in_file(path, "format"), f"must be {FORMAT}, got {found!r}", "it needs another version of nas")
    check_entries(path, record, ("path",))
    return record


def check_entries(path: Path, record: Manifest, texts: Sequence[str]) -> None:
    """Refuses lists of files that are none, or in which an entry lacks one of these texts. Raises `UserError`."""
    for section in ("contents", "files"):
        entries = record.get(section, [])
        whole = isinstance(entries, list) and all(
            isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in texts) for entry in entries
        )
        if not whole:
            problem = f"must be a list of files with {' and '.join(texts)}, is none"
            raise UserError(in_file(path, section), problem, "copy the folder again, or export the model again")


def write_manifest(folder: Path, record: Manifest) -> None:
    """Replaces the manifest in one step: a reader sees the old one or the whole new one."""
    path = folder / NAME
    partial = path.with_name(f".{NAME}.{os.getpid()}")
    try:
        partial.write_text(json.dumps(plain(record), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def finish_manifest(
    folder: Path,
    *,
    device: Device,
    measured: Mapping[str, Measurement],
    predicted: Mapping[str, PredictedLatency] | None = None,
    energies: Mapping[str, FileEnergy] | None = None,
    rejected: Mapping[str, str] | None = None,
) -> Manifest:
    """Adds what is known only after all files are written and the machine is quiet; may be repeated.

    Args:
        folder: written by `nas.deploy.model_folder.export_model`.
        device: that the latencies belong to.
        measured: file name -> its timing.
        predicted: file name -> what was expected of it; a file that nothing was predicted for is left out.
        energies: file name -> its energy; a file that nothing is known of is left out.
        rejected: file name -> why it is not to be shipped, e.g. a budget that it breaks; replaces what an earlier call
            said, and leaves what the file itself was found to be (``quality_reason``).

    Returns:
        The manifest as it was written.

    Raises:
        UserError: no manifest there, or a name that is none of its files.
    """
    record = read_manifest(folder)
    entries = {entry["path"]: entry for entry in record["files"]}
    for name in {**measured, **(predicted or {}), **(energies or {}), **(rejected or {})}:
        if name not in entries:
            raise UserError(str(folder), f"has no exported file {name}", f"it has {', '.join(entries)}")
    for name in {**measured, **(predicted or {})}:
        latency = entries[name]["latencies"].setdefault(device.name, unmeasured_latency(device))
        if name in measured:
            timing = measured[name].to_record()
            latency["measured"] = {key: value for key, value in timing.items() if key not in ("file", "device")}
        if predicted is not None and name in predicted:
            expected = predicted[name]
            latency |= {"predicted_ms": expected.latency_ms, "upper_ms": expected.upper_ms}
            latency |= {"confidence": expected.confidence, "source": expected.source}
    for name, energy in (energies or {}).items():
        entries[name]["energies"][device.name] = asdict(energy)
    for name, entry in entries.items():
        reasons = [reason for reason in (entry["quality_reason"], (rejected or {}).get(name, "")) if reason]
        entry["accepted"], entry["reason"] = not reasons, "; ".join(reasons)
    write_manifest(folder, record)
    return record


def unmeasured_latency(device: Device) -> Manifest:
    """The entry of a device among a file's ``latencies``, before anything is known of it."""
    nothing = dict.fromkeys(("measured", "predicted_ms", "upper_ms", "confidence"))
    return {"threads": device.threads, "batch": device.batch, **nothing, "source": ""}


def content_entry(path: Path) -> Manifest:
    """Name, digest and size of a file in the folder."""
    return {"path": path.name, "sha256": sha256(path), "bytes": path.stat().st_size}


def sha256(path: Path) -> str:
    """Of a file's bytes, 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def plain(value: object) -> object:
    """The same in JSON's types; numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
