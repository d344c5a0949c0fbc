"""MLflow: the search as a run, each candidate as a run nested in it, with its choices, metrics and learning curve.

Needs the package ``mlflow``. Look at it by ``mlflow ui --backend-store-uri <store>``.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from typing import Any

from nas.problem.evaluation import Evaluation
from nas.run.callbacks.callback import Ended, Evaluated, Started
from nas.run.callbacks.extras import check_package, load
from nas.run.callbacks.figures import candidate_figures, search_figures

_PACKAGE = "mlflow"
_LONGEST = 500  # characters of a parameter that every store takes
_PARAMS = 100  # that a store takes in one request
_STATES = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


@dataclass(frozen=True, kw_only=True)
class MLflow:
    """Writes to a tracking store, by default a database file in the run folder: nothing leaves this machine unasked.

    A resumed search begins a run of its own, which is tagged with the same run folder.

    Attributes:
        store: tracking URI; None: ``MLFLOW_TRACKING_URI`` where that is set, else ``mlflow.db`` in the run folder.
        experiment: that the runs are in.
        candidates: a nested run for each candidate; False: the search alone.
    """

    store: str | None = None
    experiment: str = "nas"
    candidates: bool = True
    name = "mlflow"

    def check(self) -> None:
        """See `nas.run.callbacks.callback.Callback`."""
        check_package(self.name, _PACKAGE)

    def open(self, started: Started) -> _Listener:
        """See `nas.run.callbacks.callback.Callback`."""
        own = f"sqlite:///{started.folder.resolve() / 'mlflow.db'}"
        return _Listener(self, started, self.store or os.environ.get("MLFLOW_TRACKING_URI") or own)


class _Listener:
    def __init__(self, options: MLflow, started: Started, store: str) -> None:
        tracking = load(MLflow.name, _PACKAGE, "mlflow.tracking")
        self._entities = load(MLflow.name, _PACKAGE, "mlflow.entities")
        self._options = options
        # It tells of each table that it makes, into the middle of the search's own lines.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        self._client: Any = tracking.MlflowClient(tracking_uri=store)
        experiment = self._client.get_experiment_by_name(options.experiment)
        self._experiment = (
            experiment.experiment_id if experiment else self._client.create_experiment(options.experiment)
        )
        tags = {"mlflow.runName": started.name, "nas.folder": str(started.folder), "nas.earlier": str(started.earlier)}
        self._run = self._client.create_run(self._experiment, tags=tags).info.run_id
        space, data = started.manifest.get("space"), started.manifest.get("data")
        about = {
            "space": space.get("name") if isinstance(space, dict) else None,
            "space_digest": space.get("digest") if isinstance(space, dict) else None,
            "data": data.get("name") if isinstance(data, dict) else None,
            "data_digest": data.get("digest") if isinstance(data, dict) else None,
            "objectives": ", ".join(started.objectives),
            "seed": started.manifest.get("seed"),
            "command": started.manifest.get("command"),
        }
        self._log(self._run, params={key: value for key, value in about.items() if value is not None})

    def __call__(self, event: Evaluated | Ended) -> None:
        if isinstance(event, Ended):
            self._client.set_terminated(self._run, status=_STATES[event.state])
            return
        self._log(self._run, metrics=self._metrics(search_figures(event.progress), event.position))
        if self._options.candidates:
            self._candidate(event.evaluation)

    def _candidate(self, evaluation: Evaluation) -> None:
        candidate, end = evaluation.candidate, int(time.time() * 1e3)
        tags = {
            "mlflow.parentRunId": self._run,
            "mlflow.runName": f"{candidate.index} {candidate.architecture.digest[:6]}",
            "nas.digest": candidate.architecture.digest,
            "nas.status": evaluation.status,
            "nas.worker": evaluation.worker,
            "nas.error": evaluation.error,
        }
        start = end - int(evaluation.seconds * 1e3)
        run = self._client.create_run(self._experiment, start_time=start, tags=tags).info.run_id
        curve = [
            metric
            for step, value in enumerate(evaluation.curve, start=1)
            if value == value
            for metric in self._metrics({"curve": value}, step)
        ]
        fidelity = {"index": candidate.index, "epochs": candidate.fidelity.epochs, "seed": candidate.seed}
        self._log(
            run,
            metrics=[*self._metrics(candidate_figures(evaluation), 0), *curve],
            params={**candidate.architecture.choices, **fidelity},
        )
        state = "FINISHED" if evaluation.status in ("complete", "stopped") else "FAILED"
        self._client.set_terminated(run, status=state, end_time=end)

    def _metrics(self, figures: dict[str, float], step: int) -> list[Any]:
        moment = int(time.time() * 1e3)
        return [self._entities.Metric(name, value, moment, step) for name, value in figures.items()]

    def _log(self, run: str, *, metrics: list[Any] | None = None, params: dict[str, Any] | None = None) -> None:
        entries = [self._entities.Param(key, str(value)[:_LONGEST]) for key, value in (params or {}).items()]
        self._client.log_batch(run, metrics=metrics or [], params=entries[:_PARAMS])
        for start in range(_PARAMS, len(entries), _PARAMS):
            self._client.log_batch(run, params=entries[start : start + _PARAMS])
