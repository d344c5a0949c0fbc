"""What a run ends with, as it is told: the report, the front as a table, and where everything lies.

Responsible for what a search and a retraining tell alike.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from nas.commands.latency import DeviceModels
from nas.commands.setup import Setup
from nas.report.records import read_front
from nas.report.table import front_table
from nas.report.write import write_report
from nas.run.folder import RunFolder
from nas.run.front import FrontFile


def shown_front(
    setup: Setup, models: Sequence[DeviceModels], folder: RunFolder, files: Sequence[FrontFile]
) -> tuple[str, dict[str, object]]:
    """Writes the report; returns the table of ``front.csv``, as wide as the terminal, and the paths for programs."""
    report = write_report(folder.path)
    table = front_table(
        read_front(folder.front_file),
        device=setup.device.name,
        width=shutil.get_terminal_size((120, 24)).columns,
        confidence=setup.settings.confidence,
        estimated=[on.device.name for on in models if not on.measurable],
    )
    return table, {
        "folder": str(folder.path),
        "report": str(report),
        "front": str(folder.front_file),
        "models": str(folder.models),
        "files": [file.path for file in files],
    }
