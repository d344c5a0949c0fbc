"""A history as an Optuna study."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from runs_example import KEY, ROWS, SPACE, evaluation, make_run

from nas.cli.runs import run_runs
from nas.errors import UserError
from nas.problem.history import HistoryFile
from nas.run.optuna_export import export_to_optuna


@pytest.fixture(autouse=True)
def quiet_optuna() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    make_run(folder / "a", [evaluation(index, ROWS[index]) for index in range(4)])
    make_run(folder / "b", [evaluation(0, ROWS[8])])
    return folder


def test_an_exported_study_has_what_the_history_has(tmp_path: Path) -> None:
    curve = [math.nan, 0.25, 0.5]
    run = make_run(
        tmp_path / "a",
        [
            evaluation(0, ROWS[4], curve=curve),
            evaluation(2, ROWS[5], status="stopped", curve=[0.1]),
            evaluation(3, ROWS[6], status="timeout"),
            evaluation(4, ROWS[7], latency=math.nan),
        ],
    )
    storage = f"sqlite:///{tmp_path / 'x.db'}"
    assert export_to_optuna(run, storage).added == 4
    study = optuna.load_study(study_name="a", storage=storage)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert study.metric_names == ["accuracy", KEY]
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.FAIL]
    first = study.trials[0]
    assert first.values == pytest.approx([0.6, 0.3])
    assert first.params == dict(SPACE.architecture(np.array(ROWS[4], dtype=np.int16)).choices)
    assert first.intermediate_values == {2: 0.25, 3: 0.5}
    assert first.duration is not None
    assert first.duration.total_seconds() == pytest.approx(2.0)
    assert (
        first.user_attrs["nas:index"],
        first.user_attrs["macs" if "macs" in first.user_attrs else "predicted macs"],
    ) == (0, 300.0)
    assert study.trials[2].user_attrs["error"] == "RuntimeError: no"
    assert [trial.number for trial in study.best_trials] == [0]


def test_an_export_again_adds_what_came_since_and_never_mixes_runs(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = f"sqlite:///{tmp_path / 'x.db'}"
    assert run_runs(["export", f"run={runs / 'a'}", f"storage={storage}"]) == 0
    assert "study a: 4 trials, 4 of them new" in capsys.readouterr().out
    HistoryFile(runs / "a" / "history.jsonl").append(evaluation(9, ROWS[7]))
    again = export_to_optuna(runs / "a", storage)
    assert (again.added, again.total) == (1, 5)
    indices = [trial.user_attrs["nas:index"] for trial in optuna.load_study(study_name="a", storage=storage).trials]
    assert indices == [0, 1, 2, 3, 9]
    with pytest.raises(UserError, match=r"must be a study of this run, but 'a' in .* is of another one, a"):
        export_to_optuna(runs / "b", storage, study="a")
    journal = export_to_optuna(runs / "a", str(tmp_path / "x.log"), study="mine")
    assert (journal.study, journal.total) == ("mine", 5)
    for given in ("nonsense", "sqlite:////no/such/folder/x.db", "mysql://nobody@nowhere/x"):
        with pytest.raises(UserError, match="storage: cannot be opened, got"):
            export_to_optuna(runs / "a", given)
