"""The tables of what `run.py` left: mean and standard deviation over seeds.

python experiments/compression/table.py results.jsonl
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    given = parser.parse_args()
    rows = pd.read_json(given.results, lines=True)
    rows["column"] = rows["data"] + ", " + rows["network"]
    for part, group in rows.groupby("part", sort=False):
        columns = sorted(group["column"].unique())
        print(f"\n| {part} | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
        for arm, cells in group.groupby("arm", sort=False):
            texts = []
            for column in columns:
                values = cells.loc[cells["column"] == column, "value"]
                scale = 1 if any(word in str(arm) for word in ("ms ", "seconds", "share")) else 100
                spread = f" ± {scale * values.std():.1f}" if len(values) > 1 and scale == 100 else ""
                digits = 2 if scale == 1 else 1
                texts.append(f"{scale * values.mean():.{digits}f}{spread}" if len(values) else "")
            print(f"| {arm} | {' | '.join(texts)} |")


if __name__ == "__main__":
    main()
