"""What a run depended on: versions, commit, machine. For the record; nothing is decided by it."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import psutil

import nas
from nas.device.host import cpu_model
from nas.run.capacity import usable_cores

PACKAGES = (
    "nas", "torch", "numpy", "pandas", "scipy", "scikit-learn", "optuna", "ray", "hydra-core", "onnx", "onnxruntime",
    "onnxscript", "safetensors", "moocore", "pyarrow",
)  # fmt: skip
_GIT_SECONDS = 5.0


def environment() -> dict[str, object]:
    """``versions`` (Python and packages; a missing one is left out), ``commit`` and ``host``, as plain JSON.

    ``commit`` is that of the checkout the package is imported from, with ``+changes`` behind it if files differ from
    it; "" where there is none.
    """
    return {"versions": versions(), "commit": commit(), "host": host()}


def versions() -> dict[str, str]:
    """Name -> version."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def host() -> dict[str, object]:
    """The machine that drives the run; that of the measurements is in the manifest of each model."""
    return {
        "name": platform.node(),
        "os": platform.platform(),
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "processors": psutil.cpu_count() or 0,
        "memory_bytes": int(psutil.virtual_memory().total),
    }


def commit() -> str:
    """See `environment`."""
    folder = Path(nas.__file__).resolve().parent.parent
    # An installed package may lie within somebody else's checkout, whose commit says nothing about it.
    if not (folder / "pyproject.toml").is_file() or _git(folder, "rev-parse", "--show-toplevel") != str(folder):
        return ""
    head = _git(folder, "rev-parse", "HEAD")
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", "nas", "conf", "search_spaces")
    return head + ("+changes" if head and changed else "")


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), *arguments],
            capture_output=True,
            timeout=_GIT_SECONDS,
            check=False,
            text=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
