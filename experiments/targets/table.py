"""results.jsonl -> the table of README.md: python experiments/targets/table.py"""

from __future__ import annotations

import json
from pathlib import Path

_HEAD = ("network", "target", "precision", "accuracy", "agreement", "error / range", "ms", "kB", "export s", "level")


def line(row: dict[str, object]) -> list[str]:
    def number(key: str, form: str, scale: float = 1.0) -> str:
        value = row.get(key)
        return format(float(value) * scale, form) if isinstance(value, int | float) else "-"

    latency = number("latency_ms", ".3f") + ("" if row.get("settled", True) else " (not settled)")
    return [
        str(row["network"]),
        str(row["target"]),
        str(row["precision"]),
        number("accuracy", ".3f"),
        number("agreement", ".3f"),
        number("error", ".1e"),
        latency,
        number("bytes", ".0f", 1e-3),
        number("export_seconds", ".1f"),
        str(row.get("level", "-")),
        str(row["reason"]) or "ok",
    ]


def main() -> None:
    rows = [json.loads(text) for text in Path(__file__).with_name("results.jsonl").read_text().splitlines()]
    print(f"| {' | '.join((*_HEAD, 'verdict'))} |\n|{'---|' * (len(_HEAD) + 1)}")
    for row in rows:
        print(f"| {' | '.join(line(row))} |")


if __name__ == "__main__":
    main()
