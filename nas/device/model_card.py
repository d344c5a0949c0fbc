"""`card.md` beside the latency models of a device: what was measured, when, how, and how good it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nas.device.quality import Quality
from nas.device.store import PredictorMisfitError, read_record
from nas.units import format_quantity

MODEL_CARD = "card.md"


def write_model_card(folder: Path) -> Path:
    """Writes ``card.md`` about all latency models in ``folder``, sorted by name; files that are none are left out."""
    sections = []
    for path in sorted(folder.glob("*.npz")):
        try:
            record = read_record(path)
        except PredictorMisfitError:
            continue
        sections.append(_section(path.name, record))
    path = folder / MODEL_CARD
    head = f"# Latency models of {folder.name}\n\nWritten by the calibration; `device.yaml` says what the device is.\n"
    path.write_text("\n".join([head, *sections]), encoding="utf-8")
    return path


def _section(name: str, record: dict[str, Any]) -> str:
    quality, host = Quality.from_record(record["quality"]), record["host"]
    channels, height, width = record["input_shape"]
    anchor_ms = record["anchor_ms"]
    lines = [
        f"## {name}",
        "",
        f"- **about**: {record['space']} (digest {record['space_digest']}), data {height}x{width}x{channels}, "
        f"{record['num_classes']} classes, {record['precision']}, {record['threads']} thread, batch {record['batch']}",
        f"- **measured**: {record['time']}, {record['protocol']}",
        f"- **host**: {host.get('cpu', '-')}, {host.get('os', '-')}, onnxruntime {host.get('onnxruntime', '-')}, "
        f"load {host.get('load_average', '-')}; anchor {format_quantity(anchor_ms, 'time')}",
        f"- **not settled**: {record['num_unsettled']} measurements",
        f"- **quality**, cross-validated on the {quality.num_test} that were drawn at random "
        f"(from {quality.num_train} or more): {quality}",
        f"- **formula**: {record['fit']}",
        "",
    ]
    return "\n".join(lines)
