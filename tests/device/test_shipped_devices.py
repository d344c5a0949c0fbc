"""Latency models that are shipped load anywhere, and know the devices that they are named after."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from nas.device.card import load_device
from nas.device.encoded import EncodedPredictor
from nas.device.predictor import Scope
from nas.device.store import load_predictor
from nas.device.where.places import Nowhere
from nas.space.load import load_space
from nas.space.moves import enumerate_rows, sample

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "latency_models"
NAME = "nasbench201-3x32x32-10-float32.npz"
DEVICES = sorted(
    path.parent.name for path in FOLDER.glob(f"*/{NAME}") if "HELP" in (path.parent / "card.md").read_text()
)
EDGES = ("0>1", "0>2", "1>2", "0>3", "1>3", "2>3")
# Below this, cells folded to nothing on the device.
FOLDED_MS = 0.05


def load(device_name: str) -> EncodedPredictor:
    device = load_device(device_name, [FOLDER])
    space = load_space(ROOT / "search_spaces" / "nasbench201.yaml")
    scope = Scope(space=space, input_shape=(3, 32, 32), num_classes=10, device=device, precision="float32")
    predictor = load_predictor(FOLDER / device_name / NAME, None, scope=scope)
    assert isinstance(predictor, EncodedPredictor)
    return predictor


def data_file(name: str) -> Path:
    folders = [Path(os.environ["NAS_DATA"])] if "NAS_DATA" in os.environ else []
    folders.append(ROOT.parent / "shared" / "data")
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    pytest.skip(f"{name} is neither in $NAS_DATA nor in {folders[-1]}")


def test_twenty_devices_are_shipped() -> None:
    assert len(DEVICES) == 20


@pytest.mark.parametrize("name", DEVICES)
def test_a_shipped_model_loads_on_any_machine_and_holds_no_table(name: str) -> None:
    predictor = load(name)
    rows = sample(predictor.scope.space, 50, np.random.default_rng(0))
    assert (predictor.upper_ms(rows, 0.95) > predictor.predict_ms(rows)).all()
    assert isinstance(predictor.scope.device.where, Nowhere)
    assert len(predictor.calibration.population) == 0
    assert len(predictor.regression.log_residuals) <= 400
    assert (FOLDER / name / NAME).stat().st_size < 50_000
    assert 0.93 <= predictor.quality.coverage <= 0.97
    text = (FOLDER / name / "card.md").read_text()
    assert "HayeonLee/HELP" in text
    assert "MIT" in text


@pytest.mark.parametrize("name", DEVICES)
def test_a_shipped_model_ranks_and_bounds_the_published_latencies(name: str) -> None:
    table = pd.read_parquet(data_file("nasbench201/latency_ms.parquet"), columns=["index", name])
    codes = pd.read_parquet(data_file("nasbench201/accuracy.parquet"))
    table = table.merge(codes, on="index")
    measured = table[name].to_numpy()
    rows = table[[f"op_{edge}" for edge in EDGES]].to_numpy().astype(np.int16)
    predictor = load(name)
    usable = measured >= FOLDED_MS
    predicted = predictor.predict_ms(rows[usable])
    assert spearmanr(predicted, measured[usable])[0] >= predictor.quality.spearman_interval[0] - 0.01
    assert 0.93 <= (measured[usable] <= predictor.upper_ms(rows[usable], 0.95)).mean() <= 0.97
    assert len(enumerate_rows(predictor.scope.space)) == len(rows)
