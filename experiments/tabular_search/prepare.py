"""Makes the tables of the open problems from public data: `python experiments/tabular_search/prepare.py DATA OUT`.

DATA is a folder with ``nasbench201`` (accuracy.parquet, latency_ms.parquet) and ``nasbench_macro``; OUT gets
``nasbench201.parquet`` (six operators, test and validation error in %, MACs, latencies in ms) and
``nasbench-macro.parquet`` (eight operators, error in %, MACs, parameters). The tables are not part of the project.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd


def nasbench201(data: Path) -> pd.DataFrame:
    accuracy = pd.read_parquet(data / "nasbench201" / "accuracy.parquet").set_index("index")
    latency = pd.read_parquet(data / "nasbench201" / "latency_ms.parquet").set_index("index")
    edges = {f"op_{edge}": f"e{edge.replace('>', '')}" for edge in ("0>1", "0>2", "1>2", "0>3", "1>3", "2>3")}
    table = accuracy[[*edges]].rename(columns=edges)
    table["test_error"] = 100 - accuracy["cifar10_test_accuracy_200_epochs"]
    table["valid_error"] = 100 - accuracy["cifar10_validation_accuracy_12_epochs"]
    table["macs"] = accuracy["macs_million"]
    return table.join(latency)


def nasbench_macro(data: Path) -> pd.DataFrame:
    (path,) = (data / "nasbench_macro").glob("*.json")
    records = json.loads(path.read_text())
    table = pd.DataFrame([[int(digit) for digit in name] for name in records], columns=[f"l{k}" for k in range(8)])
    table["test_error"] = [100 - record["mean_acc"] for record in records.values()]
    table["macs"] = [record["flops"] / 1e6 for record in records.values()]
    table["parameters"] = [record["params"] / 1e6 for record in records.values()]
    return table


if __name__ == "__main__":
    data_folder, out_folder = (Path(argument) for argument in sys.argv[1:3])
    out_folder.mkdir(parents=True, exist_ok=True)
    nasbench201(data_folder).to_parquet(out_folder / "nasbench201.parquet", index=False)
    nasbench_macro(data_folder).to_parquet(out_folder / "nasbench-macro.parquet", index=False)
