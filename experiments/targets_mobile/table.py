"""Prints the table of `run.py`'s results as Markdown: python experiments/targets_mobile/table.py [results.jsonl]"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HEAD = ("network", "target", "precision", "accuracy", "agreement", "error / range", "ms", "kB", "export s")
HEAD += ("level", "verdict")


def cells(row: dict[str, object]) -> list[str]:
    """One row; an export that was refused has its reason only."""
    start = [str(row["network"]), str(row["target"]), str(row["precision"])]
    if "bytes" not in row:
        return [*start, *[""] * 7, str(row["reason"]).partition("; ")[0]]
    latency = row["latency_ms"]
    return [
        *start,
        f"{row['accuracy']:.3f}",
        f"{row['agreement']:.3f}",
        f"{row['error']:.1e}",
        f"{latency:.3f}" if isinstance(latency, float) else "-",
        f"{float(str(row['bytes'])) / 1e3:.0f}",
        f"{row['seconds']:.1f}",
        str(row["level"]),
        "kept out" if row["reason"] else "ok",
    ]


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("results.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    order = {name: place for place, name in enumerate(dict.fromkeys(str(row["network"]) for row in rows))}
    rows.sort(key=lambda row: order[row["network"]])
    print("| " + " | ".join(HEAD) + " |")
    print("|" + "---|" * len(HEAD))
    for row in rows:
        print("| " + " | ".join(cells(row)) + " |")


if __name__ == "__main__":
    main()
