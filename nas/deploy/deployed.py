"""The evaluation of a candidate by the file that it is shipped as: candidate -> evaluation.

Responsible for what comes behind the training in a search over deployments: the file of the candidate's precision is
made, run in onnxruntime on validation images, and its accuracy is the candidate's.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from nas.deploy.deployed_file import FLOAT_FILE, write_deployed
from nas.deploy.judge import FileJudgement, judge_file, run_file
from nas.deploy.options import DeployOptions
from nas.deploy.samples import NormalisedImages, samples_of
from nas.deploy.shrunk import Shares, train_shrunk
from nas.errors import one_line
from nas.model.build import DoesNotFit
from nas.problem.evaluation import Candidate, Evaluation, Status
from nas.space.deployment import FLOAT
from nas.space.space import SearchSpace
from nas.train.checks import check_number
from nas.train.compression.options import CompressOptions
from nas.train.curves_watch import HopelessError
from nas.train.data.splits import stratified_order
from nas.train.evaluate import Trained, TrainingEvaluate
from nas.train.fit import DeadlineError
from nas.train.recipe import Recipe
from nas.train.task import ImageClassification

_SUBSET_SEED = 0  # all candidates are judged on the same images, or they could not be compared


@dataclass(frozen=True, kw_only=True)
class FileJudging:
    """How candidates are judged by their files in a search.

    Attributes:
        images: validation images that a file is run on, at most.
        calibration_images: training images that it is quantised by, at most.
        shares: how epochs are divided where a network is shrunk.
    """

    images: int = 512
    calibration_images: int = 64
    shares: Shares = field(default_factory=Shares)

    def __post_init__(self) -> None:
        check_number("judging.images", self.images, low=1, integer=True)
        check_number("judging.calibration_images", self.calibration_images, low=1, integer=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class DeployedEvaluate:
    """Trains candidates as they are shipped, and judges their files; the callable that runners send to their workers.

    A candidate of full width in dense float32 is evaluated by ``training``, and costs nothing more. Of any other the
    metrics are those of `TrainingEvaluate` for the network as it is shipped, and

    - ``accuracy`` of its file (see `file_accuracy`), ``accuracy_float`` of torch before quantising;
    - ``agreement``: share of the images on which the file gives the class of the float32 file;
    - ``size_bytes`` of the file, ``compressed_bytes`` of the packed one where weights are sparse;
    - ``file_seconds`` that exporting, quantising and judging took.

    A dense float32 file is torch's network to the last digits, so none is made for a network that is only narrower.

    Attributes:
        training: builds and trains.
        options: how files are made.
        judging: on how many images.
        compress: how networks are made narrower and sparse.
    """

    training: TrainingEvaluate
    options: DeployOptions = field(default_factory=DeployOptions)
    judging: FileJudging = field(default_factory=FileJudging)
    compress: CompressOptions = field(default_factory=CompressOptions)

    @property
    def space(self) -> SearchSpace:
        """The candidates' rows are rows of it."""
        return self.training.space

    @property
    def task(self) -> ImageClassification:
        """What they learn."""
        return self.training.task

    @property
    def recipe(self) -> Recipe:
        """How they are trained."""
        return self.training.recipe

    def __call__(self, candidate: Candidate) -> Evaluation:
        """What came of a candidate; never raises for one that cannot be built, trained or exported.

        Status and errors are as of `TrainingEvaluate`; a file that cannot be made is ``failed``.
        """
        deployment = self.space.network(candidate.architecture.row).deployment
        if deployment.is_default:
            return self.training(candidate)
        start = time.monotonic()
        try:
            return self.complete(candidate, self.train(candidate, start=start), start=start)
        except DoesNotFit as error:
            return _without_result(candidate, "infeasible", start, one_line(error))
        except DeadlineError as error:
            reason = f"{error}, after {time.monotonic() - start:.1f} of {self.training.time_limit_seconds:g} s"
            return _without_result(candidate, "timeout", start, reason)
        except HopelessError as error:
            return _without_result(candidate, "stopped", start, str(error), curve=error.curve)
        except Exception as error:  # a custom operator may raise anything, and torch for lack of memory
            return _without_result(candidate, "failed", start, one_line(error))

    def train(self, candidate: Candidate, *, start: float | None = None) -> Trained:
        """The network as it is shipped, trained, in float32. Arguments and errors as of `TrainingEvaluate.train`."""
        network = self.space.network(candidate.architecture.row)
        is_shrunk = bool(network.trained) and self.judging.shares.wide > 0
        if not is_shrunk and not network.deployment.sparsity:
            return self.training.train(candidate, start=start)
        begin = time.monotonic() if start is None else start
        return train_shrunk(self.training, candidate, self.judging.shares, self.compress, start=begin)

    def complete(self, candidate: Candidate, trained: Trained, *, start: float | None = None) -> Evaluation:
        """The evaluation of a candidate that was trained, judged by its file. Raises `UserError` where none is made."""
        evaluation = self.training.complete(candidate, trained, start=start)
        deployment = trained.network.deployment
        if deployment.file_precision == FLOAT and not deployment.sparsity:
            return evaluation
        begin = time.monotonic()
        figures = dict(self._of_file(trained, evaluation.metrics["accuracy"]))
        peak = candidate.predicted.get("peak_activation_bytes")
        # As for candidates that have no file: counted on the graph, not on this processor's padding of channels.
        figures["peak_activation_bytes"] = (
            trained.costs.files[deployment.file_precision].peak_bytes if peak is None else peak
        )
        seconds = time.monotonic() - begin
        metrics = {**evaluation.metrics, **figures, "file_seconds": seconds}
        return replace(evaluation, metrics=metrics, seconds=evaluation.seconds + seconds)

    def _of_file(self, trained: Trained, accuracy: float) -> Mapping[str, float]:
        """Figures of the file of a trained network whose validation accuracy in torch is ``accuracy``."""
        task, network = self.task, trained.network
        labels = task.labels(self.training.judge_on).numpy()
        subset = judged_images(labels, self.judging.images)
        inputs = NormalisedImages(task=task, pixels=task.pixels(self.training.judge_on, trained.input_size)[subset])
        samples = samples_of(task, network, num_calibration=self.judging.calibration_images)
        with tempfile.TemporaryDirectory(prefix="nas-judge-") as name:
            folder = Path(name)
            path = write_deployed(
                trained.module.cpu().eval(), network, folder, calibration=samples.calibration, options=self.options
            )
            # The float32 file and not torch: both give the same logits, and onnxruntime takes a tenth of the time.
            reference = run_file(folder / FLOAT_FILE, inputs)
            judgement = judge_file(path, inputs, labels[subset], reference)
            figures = {"size_bytes": float(path.stat().st_size)}
            if network.deployment.sparsity:
                figures["compressed_bytes"] = float(packed_size(path))
        in_float = float((reference.argmax(axis=1) == labels[subset]).mean())
        return {
            "accuracy": file_accuracy(accuracy, in_float, judgement),
            "accuracy_float": accuracy,
            "agreement": judgement.agreement,
            **figures,
        }


CandidateEvaluate = TrainingEvaluate | DeployedEvaluate
"""Candidate -> evaluation, in a search: by training, or by the file as well."""


def judged_images(labels: np.ndarray, count: int) -> np.ndarray:
    """Positions of at most ``count`` images, rising: every class in proportion, the same ones each time."""
    order = stratified_order(labels, np.random.default_rng(_SUBSET_SEED))
    return np.sort(order[:count])


def file_accuracy(accuracy: float, accuracy_on_subset: float, judgement: FileJudgement) -> float:
    """What the accuracy of a file on all validation images is estimated to be, in [0, 1].

    Accuracy in float on all of them, corrected by how far the file was off on those that it was run on. Both make
    the same mistakes on nearly all images, so the correction is far surer than an accuracy on few images would be;
    where the file was run on all of them it is the file's accuracy itself.

    Args:
        accuracy: in float on all images.
        accuracy_on_subset: in float on those that the file was run on.
        judgement: of the file on these.
    """
    return min(1.0, max(0.0, accuracy + judgement.accuracy - accuracy_on_subset))


def packed_size(path: Path) -> int:
    """Bytes of a file once it is packed by deflate, as zip archives and app stores do."""
    return len(zlib.compress(path.read_bytes(), 9))


def _without_result(
    candidate: Candidate, status: Status, start: float, error: str, *, curve: tuple[float, ...] = ()
) -> Evaluation:
    return Evaluation(
        candidate=candidate,
        status=status,
        seconds=time.monotonic() - start,
        error=error,
        worker=f"{socket.gethostname()}:{os.getpid()}",
        finished=datetime.now(UTC).isoformat(timespec="milliseconds"),
        curve=curve,
    )
