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
    host_facts = [str(host[key]) for key in ("cpu", "os") if host.get(key)]
    host_facts += [f"onnxruntime {host['onnxruntime']}"] if host.get("onnxruntime") else []
    host_facts += [f"load {host['load_average']}"] if host.get("load_average") is not None else []
    host_facts += [] if anchor_ms is None else [f"anchor {format_quantity(anchor_ms, 'time')}"]
    lines = [
        f"## {name}",
        "",
        f"- **about**: {record['space']} (digest {record['space_digest']}), data {height}x{width}x{channels}, "
        f"{record['num_classes']} classes, {record['precision']}, {record['threads']} thread, batch {record['batch']}",
        f"- **measured**: {record['time'] or 'at a time that is not known'}, {record['protocol']}",
        f"- **host**: {', '.join(host_facts) or 'not known'}",
        *([f"- **source**: {host['source']}"] if host.get("source") else []),
        f"- **not settled**: {record['num_unsettled']} measurements",
        f"- **quality**, {_judged_on(quality)}: {quality}; {_intervals(quality)}",
        f"- **method** ({record['kind']}): {record['method']}",
        "",
    ]
    return "\n".join(lines)


def _judged_on(quality: Quality) -> str:
    if quality.cross_validated:
        return f"cross-validated on the {quality.num_test} drawn at random (from {quality.num_train} or more)"
    return f"on {quality.num_test} held out, from {quality.num_train}"


def _intervals(quality: Quality) -> str:
    """95 % confidence intervals, of those figures that have one."""
    named = {
        "Spearman {:.3f} to {:.3f}": (quality.spearman_interval, 1),
        "MAPE {:.1f} to {:.1f} %": (quality.mape_interval, 100),
        "bound held {:.1f} to {:.1f} %": (quality.coverage_interval, 100),
    }
    known = [text.format(*(unit * end for end in ends)) for text, (ends, unit) in named.items() if ends is not None]
    return f"95 % confident of {', '.join(known)}" if known else "no confidence intervals"
