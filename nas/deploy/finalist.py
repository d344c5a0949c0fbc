"""The work on a member of the front: train it in full, judge it on the test split, export it.

Responsible for the order of these; each part is done elsewhere.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from nas.deploy.deployed import CandidateEvaluate
from nas.deploy.deployed_file import precisions_of_modules
from nas.deploy.manifest import read_manifest
from nas.deploy.model_folder import export_model
from nas.deploy.options import PRECISIONS, DeployOptions
from nas.deploy.records import TrainedNetwork, Training
from nas.deploy.samples import samples_of
from nas.problem.evaluation import Candidate, Evaluation
from nas.space.deployment import FLOAT
from nas.train.evaluate import TrainingEvaluate
from nas.train.judge import judge


@dataclass(frozen=True, kw_only=True, eq=False)
class FinalistWork:
    """Candidate -> evaluation with the test accuracy of the trained network; leaves ``models/<digest>/`` behind.

    Raises what goes wrong: runners make a failed evaluation of it.

    Attributes:
        evaluate: builds and trains; its validation accuracy goes into the record.
        options: what is exported. A candidate that chooses the precision of its file is exported in that one, and in
            float32 as its reference.
        models: folder of model folders; on a cluster all nodes must see it.
        command: that makes the run again, for the record.
    """

    evaluate: CandidateEvaluate
    options: DeployOptions
    models: Path
    command: str = ""

    def __call__(self, candidate: Candidate) -> Evaluation:
        evaluate, task, space = self.evaluate, self.evaluate.task, self.evaluate.space
        options = self._options(candidate)
        trained = evaluate.train(candidate)
        module = trained.module.cpu()
        test = judge(module, task, "test", input_size=trained.input_size)
        exported = export_model(
            self.models,
            TrainedNetwork(
                module=module,
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
                seconds=trained.fit.seconds,
                validation_accuracy=trained.fit.metrics["accuracy"],
                recipe=asdict(evaluate.recipe),
            ),
            options,
            command=self.command,
        )
        stages = precisions_of_modules(trained.network)
        if stages:
            made = next(entry for entry in read_manifest(exported.folder)["files"] if entry["quantisation"])
            assert made["quantisation"].get("stages") == stages, "the file must hold each stage in its precision"
        training = evaluate if isinstance(evaluate, TrainingEvaluate) else evaluate.training
        complete = training.complete(candidate, trained)
        figures = {f"accuracy.{file.precision}": file.accuracy for file in exported.files}
        validation = {"validation_accuracy": trained.fit.metrics["accuracy"]}
        if space.precisions:  # what is shipped is what counts
            test["accuracy"] = figures.get(f"accuracy.{options.precisions[-1]}", test["accuracy"])
        return replace(complete, metrics={**complete.metrics, **validation, **test, **figures})

    def _options(self, candidate: Candidate) -> DeployOptions:
        space = self.evaluate.space
        if not space.precisions:
            return self.options
        own = space.network(candidate.architecture.row).deployment.file_precision
        return replace(self.options, precisions=tuple(name for name in PRECISIONS if name in (FLOAT, own)))
