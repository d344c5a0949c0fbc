"""A new device that behaves like devices whose models are shipped: twenty measurements are enough for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from nas.commands.subject import Subject
from nas.commands.transfer import better_of
from nas.deploy.options import DeployOptions
from nas.device.card import Device, load_device
from nas.device.predictor import Scope, fit_predictor
from nas.device.samples import choose_samples
from nas.device.store import load_predictor
from nas.device.transfer import TransferPredictor
from nas.locate import resource_folder
from nas.model.population_costs import PopulationCosts
from nas.space.load import load_space
from nas.space.moves import Population, sample

SHAPE, CLASSES = (3, 32, 32), 10
SPACE = load_space(resource_folder("search_spaces") / "nasbench201.yaml")
COSTS = PopulationCosts(SPACE, input_shape=SHAPE, num_classes=CLASSES)


def shipped_ms(name: str, rows: Population) -> np.ndarray:
    folder = resource_folder("latency_models")
    scope = Scope(
        space=SPACE,
        input_shape=SHAPE,
        num_classes=CLASSES,
        device=load_device(name, [folder]),
        precision="float32",
    )
    return load_predictor(folder / name / scope.file_name, COSTS, scope=scope).predict_ms(rows)


def new_device_ms(rows: Population, rng: np.random.Generator) -> np.ndarray:
    """Between two kinds of hardware, with 2 % of noise: no sum over kernels, as a GPU hides most of them."""
    mixed = np.sqrt(shipped_ms("titanx_1", rows) * shipped_ms("1080ti_1", rows))
    return np.asarray(mixed * rng.lognormal(0, 0.02, len(rows)))


@pytest.fixture
def subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Subject:
    monkeypatch.chdir(tmp_path)
    return Subject(
        space=SPACE,
        input_shape=SHAPE,
        num_classes=CLASSES,
        costs=COSTS,
        device=Device(name="new-gpu"),
        deploy=DeployOptions(),
    )


def test_models_of_other_devices_are_drawn_on_where_they_help(subject: Subject) -> None:
    rng = np.random.default_rng(1)
    plan = choose_samples(SPACE, COSTS, 20, rng)
    fitted = fit_predictor(
        COSTS, plan.population, new_device_ms(plan.population, rng), scope=subject.scope("float32"), random=plan.random
    )
    chosen = better_of(fitted, subject, "float32", confidence=0.95, rng=rng)
    assert isinstance(chosen, TransferPredictor)
    fresh = sample(SPACE, 300, rng)
    truth = new_device_ms(fresh, rng)
    errors = {model: np.abs(model.predict_ms(fresh) / truth - 1).mean() for model in (fitted, chosen)}
    assert errors[chosen] < errors[fitted]
    assert spearmanr(chosen.predict_ms(fresh), truth)[0] > 0.97
    assert (truth <= chosen.upper_ms(fresh, 0.95)).mean() > 0.85


def test_without_other_devices_the_fitted_model_stays(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.commands.transfer.device_folders", lambda: [])
    rng = np.random.default_rng(2)
    plan = choose_samples(SPACE, COSTS, 14, rng)
    latency_ms = new_device_ms(plan.population, rng)
    fitted = fit_predictor(COSTS, plan.population, latency_ms, scope=subject.scope("float32"), random=plan.random)
    assert better_of(fitted, subject, "float32", confidence=0.95, rng=rng) is fitted
