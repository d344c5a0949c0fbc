"""The transfer experiment as people call it: on any table, with any columns, and with tables that cannot be used."""

from __future__ import annotations

import csv
import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "experiments" / "latency_transfer" / "run.py"
CHOICES, ROWS = [f"op{k}" for k in range(6)], 900


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, (ROWS, 6))
    frame = pd.DataFrame(np.array(["skip", "dw3", "dw5", "conv"])[codes], columns=CHOICES).drop_duplicates()
    codes = codes[frame.index]
    for name, costs in {"a": [0, 1, 1.5, 4], "b_32": [0, 2, 2, 3], "new one": [0, 1.4, 1.8, 3.2]}.items():
        frame[name] = (1 + np.take(costs, codes).sum(axis=1)) * np.exp(0.02 * rng.standard_normal(len(codes)))
    return frame.reset_index(drop=True)


@pytest.fixture(scope="module")
def main() -> Iterator[Callable[[list[str]], int]]:
    """The script's entry point; its own folder is on the path, as it is for who calls it."""
    sys.path.insert(0, str(SCRIPT.parent))
    specification = importlib.util.spec_from_file_location("latency_transfer_run", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # its dataclasses look themselves up there
    specification.loader.exec_module(module)
    yield module.main
    sys.path.remove(str(SCRIPT.parent))
    for name in (specification.name, "table"):
        sys.modules.pop(name, None)


@dataclass(frozen=True, kw_only=True)
class Shown:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def call(main: Callable[[list[str]], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def run(frame: pd.DataFrame | None, **changes: str) -> tuple[Shown, Path]:
        path, out = tmp_path / "table.parquet", tmp_path / "out.csv"
        if frame is not None:
            frame.to_parquet(path)
        options = {
            "table": str(path), "choices": ",".join(CHOICES), "sources": "a,b_32", "targets": "new one",
            "samples": "20", "source-samples": "90", "seeds": "1", "out": str(out),
        } | changes  # fmt: skip
        code = main([part for key, value in options.items() for part in (f"--{key}", value)])
        shown = capsys.readouterr()
        return Shown(returncode=code, stdout=shown.out, stderr=shown.err), out

    return run


def test_a_row_a_target_and_seed_with_the_columns_that_were_promised(table: pd.DataFrame, call) -> None:
    shown, out = call(table, seeds="2")
    assert shown.returncode == 0, shown.stderr
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "target", "seed", "spearman", "kendall", "mape", "within_10_percent", "coverage", "relative_width",
        "fit_seconds",
    ]  # fmt: skip
    assert [(row["target"], row["seed"]) for row in rows] == [("new one", "0"), ("new one", "1")]
    for row in rows:
        assert float(row["spearman"]) > 0.97
        assert float(row["mape"]) < 0.05
        assert 0.8 < float(row["coverage"]) <= 1
        assert 0 < float(row["relative_width"]) < 0.3
    assert "spearman" in shown.stdout
    assert "plain residual quantile" in shown.stdout


def test_what_cannot_be_used_is_dropped_and_counted(table: pd.DataFrame, call) -> None:
    spoiled = table.assign(constant="same")
    spoiled.loc[:4, "a"] = [0.0, -1.0, np.nan, np.inf, 1.0]
    spoiled.loc[3:5, "new one"] = 0.0
    spoiled.loc[9, "op0"] = None
    spoiled = pd.concat([spoiled, spoiled.iloc[[20, 21]]])
    shown, _ = call(spoiled, choices=",".join([*CHOICES, "constant"]))
    assert shown.returncode == 0, shown.stderr
    for note in (
        "4 latencies of 'a' are missing or not above 0 and are dropped",
        "3 latencies of 'new one' are missing or not above 0 and are dropped",
        "choice 'constant' has one code only and is dropped",
        "1 rows without a code in every choice are dropped",
        "2 rows repeat an architecture and are dropped",
    ):
        assert note in shown.stderr


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"choices": "op0,opp1"}, "no column named 'opp1'; did you mean op1?"),
        ({"sources": "a,nowhere"}, "no column named 'nowhere'"),
        ({"sources": "a,new one"}, "--targets: must not be sources too, got new one"),
        ({"samples": "3"}, "--samples: must be at least 10, got 3"),
        ({"targets": "zeros"}, "latencies of zeros: must have a number above 0, got none"),
        ({"targets": "flat"}, "latencies of flat: must differ, got 2.0 in every row"),
        ({"choices": "flat,zeros"}, "choices: must have a column with two codes or more, all are constant"),
        ({"space": "nasbench201"}, "choices: must hold option indices where a space is given"),
        ({"samples": "100000"}, "samples: must be at most the"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(table: pd.DataFrame, call, changes: dict[str, str], reason: str) -> None:
    shown, out = call(table.assign(zeros=0.0, flat=2.0), **changes)
    assert shown.returncode == 2
    assert reason in shown.stderr.splitlines()[-1]
    assert "Traceback" not in shown.stderr
    assert not out.exists()


def test_a_file_that_is_no_table_is_one_line(call, tmp_path: Path) -> None:
    (tmp_path / "table.parquet").write_text("no table")
    shown, _ = call(None)
    assert shown.returncode == 2
    assert "table: must be parquet or CSV" in shown.stderr
    missing, _ = call(None, table="absent.parquet")
    assert missing.returncode == 2
    assert "table: must be a file" in missing.stderr
