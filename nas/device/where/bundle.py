"""The runner as one file, `nas-runner.pyz`, made of the very modules that time files here.

Responsible for what is in it. The same sources give the same bytes.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[2]
MAIN = "device/where/runner_main.py"
MODULES = (
    "__init__.py",
    "errors.py",
    "device/__init__.py",
    "device/anchor.onnx",
    "device/anchor.py",
    "device/blocks.py",
    "device/cores.py",
    "device/host.py",
    "device/protocol.py",
    "device/session.py",
    "device/state.py",
    "device/timing.py",
    "device/where/__init__.py",
    "device/where/failures.py",
    "device/where/job.py",
    "device/where/lock.py",
    "device/where/runner.py",
)
_EPOCH = (1980, 1, 1, 0, 0, 0)


def runner_bytes() -> bytes:
    """The zip file: run it with Python 3.9 or newer, onnxruntime and NumPy."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name in MODULES:
            archive.writestr(_entry(f"nas/{name}"), (_PACKAGE / name).read_bytes())
        archive.writestr(_entry("__main__.py"), (_PACKAGE / MAIN).read_bytes())
    return content.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    """Without anything of this machine or of the moment."""
    info = zipfile.ZipInfo(name, date_time=_EPOCH)
    info.create_system = 3  # as on Unix, wherever it is made
    info.external_attr = 0o644 << 16
    return info
