"""Bundles of `nas export` -> what each target's files of a front are worth, and what is missing.

    python experiments/targets/bundles.py BUNDLE [BUNDLE ...] [--out results_front.jsonl]

Prints a row a target and precision, the worst file of the front deciding, and a row for each reason why a file is
missing. A row a file goes to --out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_LEAST = {"float32": 0.99, "int8": 0.97}
_FLOAT32_ERROR = 1e-4


def rows_of(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """A plain row a file."""
    return [
        {
            "model": model["digest"],
            "macs": model["macs"],
            **{key: entry[key] for key in ("target", "precision", "level", "bytes", "accepted", "reason")},
            "judged_in": entry["figures"].get("judged_in") or f"{entry['runtime']} {entry['runtime_version']}",
            **(entry["judgement"] or {}),
        }
        for model in manifest["models"]
        for entry in model["files"]
    ]


def _within(row: dict[str, Any]) -> bool:
    near = row["precision"] != "float32" or row["relative_error"] <= _FLOAT32_ERROR
    return near and row["agreement"] >= _LEAST.get(row["precision"], 0.0)


def summary(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The line of one target and precision."""
    first = rows[0]
    agreements = [row["agreement"] for row in rows]
    mean = sum(agreements) / len(agreements)
    error = max(row["relative_error"] for row in rows)
    held = sum(_within(row) for row in rows)
    return [
        first["target"],
        first["precision"],
        first["level"],
        first["judged_in"],
        str(first["num_samples"]),
        f"{min(agreements):.1%} / {mean:.1%}",
        f"{error:.1e}",
        f"{held} of {len(rows)}" if first["precision"] in _LEAST else "-",
        f"{sum(row['bytes'] for row in rows) / len(rows) / 1e3:.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results_front.jsonl"))
    given = parser.parse_args()
    manifests = [json.loads((bundle / "manifest.json").read_text()) for bundle in given.bundles]
    rows = [row for manifest in manifests for row in rows_of(manifest)]
    given.out.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["target"], row["precision"]), []).append(row)
    heads = ["target", "precision", "level", "judged in", "images", "agreement, least / mean", "largest error / range"]
    heads += ["files within the goal", "kB, mean"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for group in groups.values():
        print(f"| {' | '.join(summary(group))} |")
    for manifest in manifests:
        reasons = dict.fromkeys(
            (one["target"], one["precision"], one["model"][:6], one["reason"]) for one in manifest["missing"]
        )
        for target, precision, model, reason in reasons:
            print(f"missing: {target} {precision} of {model}: {reason}")


if __name__ == "__main__":
    main()
