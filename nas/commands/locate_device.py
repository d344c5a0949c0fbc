"""Finding devices and what is stored of them: the user's `latency_models/` first, then the shipped ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nas.locate import resource_folder


def device_folders() -> list[Path]:
    """Folders with device cards and latency models: the user's own, which are written to, then the shipped ones."""
    return [Path("latency_models"), resource_folder("latency_models")]


def stored_files(device: str, name: str) -> Iterator[Path]:
    """The files called ``name`` of a device, the user's own first."""
    for folder in device_folders():
        file = folder / device / name
        if file.is_file():
            yield file
