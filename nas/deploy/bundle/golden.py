"""Golden inputs and outputs in a bundle: for Python as npz, for any other language as raw files with a description.

Responsible for their form and for the tolerance that an answer on another machine is held to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nas.deploy.files import TOLERANCE

FOLDER = "golden"
_TOLERANCE = 0.15  # of precisions that only other runtimes have


def tolerance_of(precision: str) -> float:
    """How far an answer may be off on another machine, as a share of the range of the recorded outputs."""
    return {str(name): value for name, value in TOLERANCE.items()}.get(precision, _TOLERANCE)


def array_name(target: str, precision: str) -> str:
    """Name of the outputs of a target's file among the golden arrays: ``outputs_onnxruntime_int8_dynamic``."""
    return f"outputs_{target}_{precision}".replace("-", "_")


def write_golden(
    folder: Path, golden: Mapping[str, np.ndarray], outputs: Mapping[str, tuple[np.ndarray, float]]
) -> dict[str, Any]:
    """Writes ``golden/golden.npz``, ``golden/<array>.bin`` (little-endian, row by row) and ``golden/golden.json``.

    Args:
        folder: of the model in the bundle.
        golden: arrays of the model folder: ``inputs`` ``(k, c, h, w)``, ``labels`` ``(k,)`` and, of a model that is
            there in torch, ``logits_torch``.
        outputs: name -> a file's answers ``(k, classes)``, and the tolerance for them.

    Returns:
        The manifest's entry, paths relative to ``folder``.
    """
    place = folder / FOLDER
    place.mkdir(parents=True)
    arrays = {
        "inputs": np.ascontiguousarray(golden["inputs"], dtype="<f4"),
        "labels": np.ascontiguousarray(golden["labels"], dtype="<i4"),
    }
    if "logits_torch" in golden:
        arrays["logits_torch"] = np.ascontiguousarray(golden["logits_torch"], dtype="<f4")
    arrays |= {name: np.ascontiguousarray(array, dtype="<f4") for name, (array, _) in outputs.items()}
    np.savez(place / "golden.npz", allow_pickle=False, **arrays)
    described = {}
    for name, array in arrays.items():
        (place / f"{name}.bin").write_bytes(array.tobytes())
        described[name] = {
            "path": f"{FOLDER}/{name}.bin",
            "dtype": "int32" if name == "labels" else "float32",
            "shape": list(array.shape),
            "tolerance": outputs[name][1] if name in outputs else None,
        }
    about = {"byte_order": "little-endian", "order": "row by row", "arrays": described}
    (place / "golden.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return {
        "num_samples": int(arrays["inputs"].shape[0]),
        "npz": f"{FOLDER}/golden.npz",
        "json": f"{FOLDER}/golden.json",
        "arrays": described,
    }
