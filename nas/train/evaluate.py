"""The evaluation of a candidate by training it: candidate -> evaluation.

Responsible for building, training and judging one architecture, and for turning whatever goes wrong with it into a
recorded evaluation.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nas.errors import one_line
from nas.model.build import DoesNotFit, build
from nas.model.costs import Costs, network_costs
from nas.model.shapes import input_shape_of
from nas.problem.evaluation import Candidate, Evaluation, Status
from nas.space.network import Network
from nas.space.space import SearchSpace
from nas.train.checks import check_number
from nas.train.curves_watch import HopelessError
from nas.train.data.images import SplitName
from nas.train.fit import DeadlineError, Fit, fit
from nas.train.recipe import Recipe
from nas.train.task import ImageClassification
from nas.train.torch_settings import seeded
from nas.train.weights import save_weights

_events = logging.getLogger("nas.candidate")  # see nas.run.candidate_log


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A candidate that was trained.

    Attributes:
        module: holds the judged weights, in evaluation mode.
        network: that it was built from.
        input_size: height and width that it takes.
        fit: how the training went, with the metrics.
        costs: exact figures of the network.
    """

    module: nn.Module
    network: Network
    input_size: tuple[int, int]
    fit: Fit
    costs: Costs


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingEvaluate:
    """Builds, trains and judges candidates; the callable that runners send to their workers.

    Metrics of a complete evaluation are those that were judged or counted here: ``accuracy``, ``loss``,
    ``train_loss``, ``macs``, ``parameters``, ``size_bytes`` (weights in float32) and ``peak_activation_bytes``.
    Predicted ones, such as latency, stay in the candidate.

    Attributes:
        space: the candidates' rows are rows of it.
        task: what they learn.
        recipe: how they are trained.
        judge_on: the split that accuracy and loss are of.
        time_limit_seconds: after which a training is given up, as ``timeout``; None for no limit. Checked between
            steps: a step that hangs is for the runner to end.
        checkpoints: folder for states of training, so that a candidate of higher fidelity goes on where the same
            architecture with the same seed stopped; None for none. On a cluster all nodes must see it.
        weights: folder where ``<digest>.safetensors`` is left after a complete evaluation; None for none.
        allow: import prefixes of custom operators.
        device: torch's name of where to train, ``cpu`` or ``cuda``.
        watched: keep the learning curve of each candidate; it costs about 3 % of an epoch for each but the last.

    Raises:
        UserError: a time limit that is no time.
    """

    space: SearchSpace
    task: ImageClassification
    recipe: Recipe
    judge_on: SplitName = "validation"
    time_limit_seconds: float | None = None
    checkpoints: Path | None = None
    weights: Path | None = None
    allow: tuple[str, ...] = ()
    device: str = "cpu"
    watched: bool = True

    def __post_init__(self) -> None:
        if self.time_limit_seconds is not None:
            check_number("time_limit_seconds", self.time_limit_seconds, low=0, above_low=True)

    def __call__(self, candidate: Candidate) -> Evaluation:
        """What came of a candidate; never raises for one that cannot be built or trained.

        ``infeasible`` where it cannot be built for this input, ``timeout`` past the limit, ``stopped`` where its
        accuracy fell below what the candidate asks for, ``failed`` where it raised or diverged. An interrupt or exit of
        the process passes.
        """
        start = time.monotonic()
        try:
            trained = self.train(candidate, start=start)
        except DoesNotFit as error:
            return _evaluation(candidate, "infeasible", start=start, error=one_line(error))
        except DeadlineError as error:
            reason = f"{error}, after {time.monotonic() - start:.1f} of {self.time_limit_seconds:g} s"
            return _evaluation(candidate, "timeout", start=start, error=reason)
        except HopelessError as error:
            return _evaluation(candidate, "stopped", start=start, error=str(error), curve=error.curve)
        except Exception as error:  # a custom operator may raise anything, and torch for lack of memory
            _events.info("raised", exc_info=True)
            return _evaluation(candidate, "failed", start=start, error=one_line(error))
        return self.complete(candidate, trained, start=start)

    def build(self, network: Network, *, seed: int) -> nn.Module:
        """The module of a network for this task; initial weights follow from ``seed``."""
        entropy = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
        with seeded(entropy, torch.device("cpu")):
            return build(
                network, input_shape=self.task.input_shape, num_classes=self.task.num_classes, allow=self.allow
            )

    def train(self, candidate: Candidate, *, start: float | None = None) -> Trained:
        """Builds and trains a candidate.

        Args:
            candidate: what, for how long.
            start: of `time.monotonic`, from which the time limit counts; None: now.

        Raises:
            DoesNotFit: it cannot be built for this input.
            DivergenceError, DeadlineError, HopelessError: see `nas.train.fit.fit`.
            Exception: whatever a custom operator or torch raises.
        """
        start = time.monotonic() if start is None else start
        network = self.space.network(candidate.architecture.row)
        module = self.build(network, seed=candidate.seed)
        size = input_shape_of(network, self.task.input_shape)[1:]
        name = f"{candidate.architecture.digest}-{candidate.seed}.safetensors"
        result = fit(
            module,
            self.task,
            self.recipe,
            fidelity=candidate.fidelity,
            seed=candidate.seed,
            judge_on=self.judge_on,
            input_size=size,
            checkpoint=self.checkpoints / name if self.checkpoints is not None else None,
            deadline=start + self.time_limit_seconds if self.time_limit_seconds is not None else None,
            device=self.device,
            watched=self.watched,
            stop_below=candidate.stop_below,
        )
        costs = network_costs(
            network, input_shape=self.task.input_shape, num_classes=self.task.num_classes, allow=self.allow
        )
        return Trained(module=module, network=network, input_size=size, fit=result, costs=costs)

    def complete(self, candidate: Candidate, trained: Trained, *, start: float | None = None) -> Evaluation:
        """The evaluation of a candidate that was trained; ``start`` of `time.monotonic`, None: its training's."""
        if self.weights is not None:
            digest = candidate.architecture.digest
            save_weights(trained.module, self.weights / f"{digest}.safetensors", metadata={"digest": digest})
        costs = trained.costs
        metrics = {
            **trained.fit.metrics,
            "macs": float(costs.macs),
            "parameters": float(costs.parameters),
            "size_bytes": float(costs.size_bytes["float32"]),
            "peak_activation_bytes": float(costs.peak_activation_bytes),
        }
        since = time.monotonic() - trained.fit.seconds if start is None else start
        return _evaluation(candidate, "complete", start=since, metrics=metrics, curve=trained.fit.curve)


def _evaluation(
    candidate: Candidate,
    status: Status,
    *,
    start: float,
    metrics: Mapping[str, float] | None = None,
    error: str = "",
    curve: tuple[float, ...] = (),
) -> Evaluation:
    return Evaluation(
        candidate=candidate,
        status=status,
        metrics=metrics or {},
        seconds=time.monotonic() - start,
        error=error,
        worker=f"{socket.gethostname()}:{os.getpid()}",
        finished=datetime.now(UTC).isoformat(timespec="milliseconds"),
        curve=curve,
    )
