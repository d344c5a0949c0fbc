"""The open tables of the experiment: rows of a space with what training them gave."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nas.space.load import load_space
from nas.space.space import SearchSpace

ROOT = Path(__file__).parents[2]
EDGES = ("0>1", "0>2", "1>2", "0>3", "1>3", "2>3")


@dataclass(frozen=True, kw_only=True)
class Table:
    """Architectures with their accuracies.

    Attributes:
        space: that the rows belong to.
        rows: ``(n, m)`` option indices.
        accuracies: name -> ``(n,)`` in %.
    """

    space: SearchSpace
    rows: NDArray[np.int16]
    accuracies: dict[str, NDArray[np.float64]]


def data_folder() -> Path:
    """Where the public tables and images are: ``$NAS_DATA``, else ``../shared/data`` beside the checkout."""
    return Path(os.environ.get("NAS_DATA", ROOT.parent / "shared" / "data"))


def nasbench201() -> Table:
    frame = pd.read_parquet(data_folder() / "nasbench201" / "accuracy.parquet")
    return Table(
        space=load_space(ROOT / "search_spaces" / "nasbench201.yaml"),
        rows=frame[[f"op_{edge}" for edge in EDGES]].to_numpy(dtype=np.int16),
        accuracies={
            "test, 200 epochs": frame["cifar10_test_accuracy_200_epochs"].to_numpy(dtype=np.float64),
            "validation, 12 epochs": frame["cifar10_validation_accuracy_12_epochs"].to_numpy(dtype=np.float64),
        },
    )


def nasbench_macro() -> Table:
    (path,) = (data_folder() / "nasbench_macro").glob("*.json")
    records = json.loads(path.read_text())
    return Table(
        space=load_space(ROOT / "search_spaces" / "nasbench-macro.yaml"),
        rows=np.array([[int(digit) for digit in name] for name in records], dtype=np.int16),
        accuracies={"test": np.array([record["mean_acc"] for record in records.values()], dtype=np.float64)},
    )


TABLES = {"nasbench201": nasbench201, "nasbench-macro": nasbench_macro}
