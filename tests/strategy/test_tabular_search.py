"""The experiment on tables: its files, figures and errors, and that it needs neither torch nor Ray."""

from __future__ import annotations

import csv
import importlib.util
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pandas
import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "experiments" / "tabular_search" / "run.py"
CHOICES = ["a", "b", "c", "d"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = np.array(list(product(range(3), repeat=4)))
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(rows, columns=CHOICES)
    frame["latency"] = 1.0 + rows @ [1, 2, 3, 4]
    frame["macs"] = frame["latency"] + rows[:, 0]
    frame["error"] = 50.0 / (1 + rows @ [3, 1, 1, 1]) + rng.random(len(rows))
    frame["rough"] = frame["error"] + rng.random(len(rows))
    path = tmp_path_factory.mktemp("tables") / "table.parquet"
    frame.to_parquet(path, index=False)
    return path


def run(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    code = f"import sys, runpy; sys.argv = sys.argv[1:]; sys.path.insert(0, {str(SCRIPT.parent)!r}); {before}"
    code += "\ntry:\n    runpy.run_path(sys.argv[0], run_name='__main__')\nfinally:\n"
    code += "    print('loaded:', [name for name in ('torch', 'ray') if name in sys.modules])\n"
    return subprocess.run(
        [sys.executable, "-c", code, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=False,
    )


def arguments(table: Path, out: Path, *more: str) -> list[str]:
    fixed = ["--table", str(table), "--choices", ",".join(CHOICES), "--expensive", "error", "--cheap", "latency,macs"]
    return [*fixed, "--budget", "20", "--seeds", "2", "--out", str(out), *more]


def test_it_writes_a_row_for_each_evaluation_and_prints_a_summary_without_torch_and_ray(
    table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results.csv"
    names = "surrogate,cost-fronts,nsga2,random,optuna-tpe"
    done = run(*arguments(table, out, "--strategies", names, "--cheap-noise", "0.1", "--valid", "rough"))
    assert done.returncode == 0, done.stderr
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["strategy", "seed", "evaluation", "hypervolume", "seconds"]
    assert len(rows) == 5 * 2 * 20
    for name in names.split(","):
        for seed in ("0", "1"):
            curve = [float(row["hypervolume"]) for row in rows if row["strategy"] == name and row["seed"] == seed]
            assert curve == sorted(curve)
            assert 0 < curve[-1] <= 1 + 1e-9
        assert f"| {name} |" in done.stdout
    assert "loaded: []" in done.stdout


def test_a_whole_table_reaches_the_whole_front(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.csv"
    done = run(*arguments(table, out, "--strategies", "random", "--budget", "500", "--seeds", "1"))
    assert done.returncode == 0, done.stderr
    last = out.read_text().splitlines()[-1].split(",")
    assert last[2] == "81"
    assert float(last[3]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (["--strategies", "surogate"], "did you mean surrogate"),
        (["--expensive", "eror"], "did you mean error"),
        (["--table", "nowhere.parquet"], "--table: must be a Parquet file, got nowhere.parquet"),
        (["--space", "nasbench201"], "must name the 6 choices of nasbench201 in order, got 4"),
        (["--seeds", "0"], "must have budget and seeds of at least 1"),
    ],
)
def test_a_mistake_is_one_line_and_2(table: Path, tmp_path: Path, more: list[str], part: str) -> None:
    done = run(*arguments(table, tmp_path / "results.csv", "--strategies", "random", *more))
    assert done.returncode == 2
    assert part in done.stderr
    assert "Traceback" not in done.stderr


def load_score() -> object:
    spec = importlib.util.spec_from_file_location("tabular_score", SCRIPT.parent / "score.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_median_of_evaluations_counts_searches_that_never_arrive() -> None:
    score = load_score()
    never, third, fifth = np.zeros(8), np.array([0, 0, 1.0, 1, 1, 1, 1, 1]), np.array([0, 0, 0, 0, 1.0, 1, 1, 1])
    assert score.median_evaluations([third, fifth, never], 0.98) == 5  # type: ignore[attr-defined]
    assert score.median_evaluations([third, never, never], 0.98) == np.inf  # type: ignore[attr-defined]
    # Censored after two evaluations: it was not there to be seen arriving at the third.
    assert score.median_evaluations([third, fifth, never[:2], never[:2]], 0.98) == 3  # type: ignore[attr-defined]


def test_the_score_is_the_share_of_the_scaled_true_front() -> None:
    score = load_score()
    points = np.array([[10.0, 1.0], [0.0, 3.0], [10.0, 3.0], [99.0, 99.0]])
    scorer = score.Scorer(points)  # type: ignore[attr-defined]
    full = 0.1 * 1.1 + 1.0 * 0.1  # both ends, scaled to (1, 0) and (0, 1), below (1.1, 1.1)
    curve = scorer.curve(points[[3, 2, 0, 1]])
    np.testing.assert_allclose(curve, [0.0, 0.01 / full, 0.11 / full, 1.0])
