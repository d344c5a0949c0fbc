"""The work on a member of the front: train it in full, judge it on the test split, export it.

Responsible for the order of these, and for what of the options of compression touches a network; each part is done
elsewhere.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from nas.deploy.deployed import CandidateEvaluate, DeployedEvaluate
from nas.deploy.deployed_file import precisions_of_modules
from nas.deploy.load import load_model
from nas.deploy.manifest import read_manifest
from nas.deploy.model_folder import export_model
from nas.deploy.options import PRECISIONS, DeployOptions
from nas.deploy.qat_finalist import export_rounded
from nas.deploy.records import TrainedNetwork, Training
from nas.deploy.samples import samples_of
from nas.deploy.shrunk import train_final
from nas.deploy.teacher import distillation_of
from nas.problem.evaluation import Candidate, Evaluation
from nas.space.deployment import FLOAT
from nas.space.network import Network
from nas.train.compression.distillation import Distillation
from nas.train.compression.options import CompressOptions
from nas.train.compression.steps import Setting
from nas.train.compression.teachers import TorchTeacher
from nas.train.evaluate import Trained, TrainingEvaluate
from nas.train.judge import judge

_ROUNDING_STREAM = 8  # of the seed: data comes in another order in the training with rounding


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
        compress: who teaches, how networks become narrow and sparse, and whether INT8 files are trained for.
        largest: model folder of the network that teaches where ``compress`` says ``largest``; None while that one is
            itself trained, by nobody.
    """

    evaluate: CandidateEvaluate
    options: DeployOptions
    models: Path
    command: str = ""
    compress: CompressOptions = field(default_factory=CompressOptions)
    largest: Path | None = None

    def __call__(self, candidate: Candidate) -> Evaluation:
        start = time.monotonic()
        task, training, space = self.evaluate.task, self._training, self.evaluate.space
        options, teacher = self._options(candidate), self._teacher()
        trained = self._trained(candidate, teacher, start)
        module = trained.module.cpu()
        test = judge(module, task, "test", input_size=trained.input_size)
        network = TrainedNetwork(
            module=module,
            network=trained.network,
            architecture=candidate.architecture,
            space=space.name,
            space_digest=space.digest,
            macs=trained.costs.macs,
            parameters=trained.costs.parameters,
        )
        samples = samples_of(task, trained.network, num_calibration=options.calibration_images)
        record = Training(
            epochs=candidate.fidelity.epochs,
            seed=candidate.seed,
            seconds=trained.fit.seconds,
            validation_accuracy=trained.fit.metrics["accuracy"],
            recipe={**asdict(training.recipe), **self._compression},
        )
        if self.compress.qat_epochs and "int8" in options.precisions and not precisions_of_modules(trained.network):
            setting = self._setting(candidate, trained, teacher, start)
            exported = export_rounded(
                self.models, network, samples, record, options, setting=setting, command=self.command
            )
        else:
            exported = export_model(self.models, network, samples, record, options, command=self.command)
        _check_stages(trained.network, exported.folder)
        complete = training.complete(candidate, trained)
        figures = {f"accuracy.{file.precision}": file.accuracy for file in exported.files}
        validation = {"validation_accuracy": trained.fit.metrics["accuracy"]}
        if space.precisions:  # what is shipped is what counts
            test["accuracy"] = figures.get(f"accuracy.{options.precisions[-1]}", test["accuracy"])
        return replace(complete, metrics={**complete.metrics, **validation, **test, **figures})

    @property
    def _training(self) -> TrainingEvaluate:
        return self.evaluate if isinstance(self.evaluate, TrainingEvaluate) else self.evaluate.training

    @property
    def _compression(self) -> dict[str, object]:
        """What the record of a training says of it; nothing where the options are the defaults."""
        return {"compress": asdict(self.compress)} if self.compress != CompressOptions() else {}

    def made(self, folder: Path) -> bool:
        """Whether a model folder says that it was compressed by these very options."""
        recorded = read_manifest(folder)["training"]["recipe"].get("compress")
        return bool(recorded == self._compression.get("compress"))

    def _trained(self, candidate: Candidate, teacher: Distillation | None, start: float) -> Trained:
        network = self.evaluate.space.network(candidate.architecture.row)
        wide_first = isinstance(self.evaluate, DeployedEvaluate) and self.evaluate.judging.shares.wide > 0
        if teacher is None and not network.deployment.sparsity and not (network.trained and wide_first):
            return self.evaluate.train(candidate)
        return train_final(
            self._training, candidate, self.compress, wide_first=wide_first, teacher=teacher, start=start
        )

    def _teacher(self) -> Distillation | None:
        largest, training = None, self._training
        if self.largest is not None:
            loaded = load_model(self.largest, allow=training.allow)
            height, width = loaded.manifest["input"]["shape"][2:]
            largest = TorchTeacher(loaded.module, input_size=(int(height), int(width)))
        return distillation_of(
            self.compress,
            input_shape=training.task.input_shape,
            num_classes=training.task.num_classes,
            allow=training.allow,
            largest=largest,
        )

    def _setting(self, candidate: Candidate, trained: Trained, teacher: Distillation | None, start: float) -> Setting:
        training = self._training
        limit = training.time_limit_seconds
        return Setting(
            task=training.task,
            recipe=training.recipe,
            options=self.compress,
            seed=int(np.random.SeedSequence([candidate.seed, _ROUNDING_STREAM]).generate_state(1)[0]),
            input_size=trained.input_size,
            judge_on=training.judge_on,
            teacher=teacher,
            device=training.device,
            deadline=None if limit is None else start + limit,
        )

    def _options(self, candidate: Candidate) -> DeployOptions:
        space = self.evaluate.space
        if not space.precisions:
            return self.options
        own = space.network(candidate.architecture.row).deployment.file_precision
        return replace(self.options, precisions=tuple(name for name in PRECISIONS if name in (FLOAT, own)))


def _check_stages(network: Network, folder: Path) -> None:
    stages = precisions_of_modules(network)
    if stages:
        made = next(entry for entry in read_manifest(folder)["files"] if entry["quantisation"])
        assert made["quantisation"].get("stages") == stages, "the file must hold each stage in its precision"
