"""The end of a retraining of one model: its best trial exported and judged on the test split, once.

The untuned recipe is judged there too, so that what tuning brought can be told on images that chose nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nas.commands.retrain_trial import Retraining, TrialRecord
from nas.deploy.model_folder import export_model
from nas.deploy.options import PRECISIONS, DeployOptions
from nas.deploy.records import TrainedNetwork, Training
from nas.deploy.samples import samples_of
from nas.errors import UserError
from nas.problem.evaluation import Candidate, Evaluation
from nas.run.atomic import write_atomically
from nas.space.deployment import FLOAT
from nas.train.evaluate import Trained
from nas.train.judge import judge


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a model.

    Attributes:
        digest: of its network.
        trial: that won.
        fields: its settings at the end; {} where the untuned recipe won.
        path: epoch from which -> settings, where these changed on the way.
        validation: accuracy of the network, by which it was chosen among ``complete`` trials.
        test: accuracy of the network.
        untuned_validation: of the untuned recipe at as many epochs; None where that training failed.
        untuned_test: likewise.
        trials: that began.
        complete: of them, that went to the end.
        failed: of them, that failed.
        seconds: of all trials together.
    """

    digest: str
    trial: int
    fields: Mapping[str, Any]
    path: Mapping[str, Any]
    validation: float
    test: float
    untuned_validation: float | None
    untuned_test: float | None
    trials: int
    complete: int
    failed: int
    seconds: float


def read_outcome(path: Path) -> Outcome | None:
    """The outcome in a file; None where there is none that can be read."""
    try:
        return Outcome(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


@dataclass(frozen=True, kw_only=True, eq=False)
class RetrainedWork:
    """Candidate -> evaluation by the validation split; leaves ``models/<digest>/`` and an `Outcome` behind.

    Raises what goes wrong: runners make a failed evaluation of it.

    Attributes:
        retraining: the trials.
        records: of the trials.
        best: the one that is exported.
        options: what is exported. A candidate that chooses the precision of its file is exported in that one, and in
            float32 as its reference.
        models: folder of model folders; on a cluster all nodes must see it.
        outcome: file of the outcome.
        command: that makes it again, for the record.
    """

    retraining: Retraining
    records: tuple[TrialRecord, ...]
    best: TrialRecord
    options: DeployOptions
    models: Path
    outcome: Path
    command: str = ""

    def __call__(self, candidate: Candidate) -> Evaluation:
        evaluate = self.retraining.evaluate
        trained = self.retraining.finished(self.best)
        test = self._test(trained)
        self._export(candidate, trained)
        untuned = next((one for one in self.records if one.place == 0 and one.status == "complete"), None)
        untuned_test = None
        if untuned is not None:
            untuned_test = test if untuned is self.best else self._test(self.retraining.finished(untuned))
        outcome = Outcome(
            digest=candidate.architecture.digest,
            trial=self.best.place,
            fields=dict(self.best.fields),
            path={str(epoch): dict(fields) for epoch, fields in self.best.path.items() if len(self.best.path) > 1},
            validation=self.best.accuracy,
            test=test,
            untuned_validation=None if untuned is None else untuned.accuracy,
            untuned_test=untuned_test,
            trials=len(self.records),
            complete=sum(record.status == "complete" for record in self.records),
            failed=sum(record.status in ("failed", "timeout") for record in self.records),
            seconds=sum(record.seconds for record in self.records),
        )
        write_atomically(self.outcome, json.dumps(asdict(outcome), indent=1) + "\n")
        evaluation = evaluate.complete(candidate, trained)
        return replace(evaluation, seconds=trained.fit.seconds)

    def _test(self, trained: Trained) -> float:
        task = self.retraining.evaluate.task
        return judge(trained.module.cpu(), task, "test", input_size=trained.input_size)["accuracy"]

    def _export(self, candidate: Candidate, trained: Trained) -> None:
        space, task = self.retraining.evaluate.space, self.retraining.evaluate.task
        options = self._options(candidate)
        recipe = asdict(self.retraining.recipe(self.best.fields))
        compress = self.retraining.options(self.best.fields)
        if compress.distil != "none":
            recipe |= {"distil": compress.distil, **asdict(compress.distil_options)}
        exported = export_model(
            self.models,
            TrainedNetwork(
                module=trained.module.cpu(),
                network=trained.network,
                architecture=candidate.architecture,
                space=space.name,
                space_digest=space.digest,
                macs=trained.costs.macs,
                parameters=trained.costs.parameters,
            ),
            samples_of(task, trained.network, num_calibration=options.calibration_images),
            Training(
                epochs=candidate.fidelity.epochs,
                seed=candidate.seed,
                seconds=self.best.seconds,
                validation_accuracy=self.best.accuracy,
                recipe=recipe,
            ),
            options,
            command=self.command,
        )
        if exported.failed and not exported.files:
            raise UserError(str(exported.folder), "; ".join(exported.failed.values()))

    def _options(self, candidate: Candidate) -> DeployOptions:
        space = self.retraining.evaluate.space
        if not space.precisions:
            return self.options
        own = space.network(candidate.architecture.row).deployment.file_precision
        return replace(self.options, precisions=tuple(name for name in PRECISIONS if name in (FLOAT, own)))
