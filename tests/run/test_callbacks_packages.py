"""TensorBoard, MLflow and Weights & Biases, read back. Each is skipped where its package is missing."""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from run_problem import Judge
from status_run import make_run, search

from nas.problem.evaluation import Candidate, Evaluation
from nas.run.callbacks.mlflow import MLflow
from nas.run.callbacks.prometheus import Prometheus
from nas.run.callbacks.tensorboard import TensorBoard
from nas.run.callbacks.wandb import WeightsAndBiases

# What these packages warn of is theirs.
pytestmark = pytest.mark.filterwarnings("ignore")


def learn(candidate: Candidate) -> Evaluation:
    evaluation = Judge(fails=True)(candidate)
    return Evaluation(
        candidate=candidate, status="complete", metrics=evaluation.metrics, curve=(math.nan, 0.25, 0.5)
    )  # fmt: skip


def test_tensorboard_reads_the_figures_of_every_evaluation(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, notes = make_run(tmp_path / "a"), list[str]()
    history = search(run, total=4, callbacks=[TensorBoard()], note=notes.append)
    history = search(run, total=6, callbacks=[TensorBoard()], note=notes.append)
    assert notes == []
    events = EventAccumulator(str(run.path / "tensorboard")).Reload()
    accuracy = events.Scalars("candidate/accuracy")
    assert [event.step for event in accuracy] == [1, 2, 3, 4, 5, 6]
    assert [event.value for event in accuracy] == pytest.approx([one.metrics["accuracy"] for one in history])
    assert [event.value for event in events.Scalars("search/done")] == [1, 2, 3, 4, 5, 6]


def test_mlflow_has_a_run_for_the_search_and_one_in_it_for_each_candidate(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    run, notes = make_run(tmp_path / "a"), list[str]()
    history = search(run, total=4, work=learn, callbacks=[MLflow(experiment="mine")], note=notes.append)
    assert notes == []
    client = MlflowClient(tracking_uri=f"sqlite:///{run.path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("mine")
    runs = {one.info.run_name: one for one in client.search_runs([experiment.experiment_id])}
    assert len(runs) == 5
    parent = runs.pop("a")
    assert parent.info.status == "FINISHED"
    assert parent.data.params["space"] == "small"
    assert len(client.get_metric_history(parent.info.run_id, "done")) == 4
    for evaluation in history:
        index, digest = evaluation.candidate.index, evaluation.candidate.architecture.digest
        one = runs[f"{index} {digest[:6]}"]
        assert one.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert one.info.status == ("FINISHED" if evaluation.status == "complete" else "FAILED")
        assert one.data.params.items() >= evaluation.candidate.architecture.choices.items()
        if evaluation.status == "complete":
            assert one.data.metrics["accuracy"] == evaluation.metrics["accuracy"]
            curve = client.get_metric_history(one.info.run_id, "curve")
            assert [(metric.step, metric.value) for metric in curve] == [(2, 0.25), (3, 0.5)]
    assert {evaluation.status for evaluation in history} == {"complete", "failed"}


def test_weights_and_biases_writes_into_the_run_folder_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.chdir(tmp_path)
    run, notes = make_run(tmp_path / "a"), list[str]()
    search(run, total=4, callbacks=[WeightsAndBiases(project="mine")], note=notes.append)
    assert notes == []
    (written,) = (run.path / "wandb").glob("offline-run-*/run-*.wandb")
    # Its service writes what it was told a moment after it said so.
    until = time.monotonic() + 20
    while b"search/hypervolume" not in written.read_bytes() and time.monotonic() < until:
        time.sleep(0.1)
    assert b"candidate/accuracy" in written.read_bytes()
    assert b"search/hypervolume" in written.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_prometheus_without_a_ray_that_exposes_metrics_is_told_once(tmp_path: Path) -> None:
    program = f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from status_run import make_run, search
        from nas.run.callbacks.prometheus import Prometheus
        notes = []
        history = search(make_run(Path({str(tmp_path)!r}) / "a"), total=3, callbacks=[Prometheus()], note=notes.append)
        assert len(history) == 3
        print(*notes, sep=chr(10))
    """
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True, check=True
    )  # fmt: skip
    expected = (
        "callbacks.prometheus failed, the search goes on: callbacks.prometheus: must have a running Ray; use runner=ray"
    )
    assert told.stdout.splitlines() == [expected]
    Prometheus().check()
