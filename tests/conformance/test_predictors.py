"""What every latency predictor keeps, whatever it is made of: one case a kind, no special cases."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from nas.device.card import Device
from nas.device.card_figures import Peak
from nas.device.codecs import CODECS, StoredPredictor, kind_of
from nas.device.encoded import fit_encoded
from nas.device.encoders import Encoder
from nas.device.operators import Probed, Provenance, fit_operators
from nas.device.predictor import LatencyPredictor, Scope, fit_predictor
from nas.device.roofline import RooflinePredictor
from nas.device.store import PredictorMisfitError, load_predictor, save_predictor
from nas.device.transfer import choose_transfer_samples, fit_sources, fit_transfer
from nas.errors import UserError
from nas.model.features import FEATURE_NAMES
from nas.model.population_costs import PopulationCosts
from nas.model.probes import draw_probes
from nas.space.moves import Population, sample
from nas.space.space import SearchSpace

SHAPE, CLASSES = (1, 8, 8), 10
TEMPLATE = {
    "name": "small",
    "network": [
        {"op": "conv", "channels": {"choose": [8, 16, 32], "name": "stem"}, "kernel": 3},
        {
            "repeat": {
                "times": {"choose": [1, 2, 3], "name": "depth"},
                "block": {
                    "op": "inverted_residual",
                    "kernel": {"choose": [3, 5]},
                    "expansion": {"choose": [1, 2, 4]},
                    "squeeze_excite": {"choose": [False, True]},
                },
            }
        },
        {"op": "classifier"},
    ],
}
SPACE = SearchSpace.from_template(TEMPLATE)
PEAKS = {"memory_bandwidth": Peak(per_second=1e10, source="test"), "float32": Peak(per_second=1e11, source="test")}
SCOPE = Scope(
    space=SPACE,
    input_shape=SHAPE,
    num_classes=CLASSES,
    device=Device(name="here", peaks=PEAKS),
    precision="float32",
)
RATES = {"kernels": 2e-3, "padded_macs": 5e-8, "activation_bytes": 1e-7, "weight_bytes": 1e-7}


@pytest.fixture(scope="module")
def costs() -> PopulationCosts:
    return PopulationCosts(SPACE, input_shape=SHAPE, num_classes=CLASSES)


def timed_ms(features: np.ndarray, seed: int, *, macs: float = 1.0) -> np.ndarray:
    """A machine with a rate for each figure, and 3 % noise."""
    rates = [RATES.get(name.rpartition(".")[2], 0.0) * (macs if "macs" in name else 1.0) for name in FEATURE_NAMES]
    return features @ np.array(rates) * np.exp(0.03 * np.random.default_rng(seed).standard_normal(len(features)))


def cost(costs: PopulationCosts) -> LatencyPredictor:
    rows = sample(SPACE, 24, np.random.default_rng(0))
    return fit_predictor(costs, rows, timed_ms(costs.features(rows), 0), scope=SCOPE, protocol="made", time="then")


def encoded(costs: PopulationCosts) -> LatencyPredictor:
    rows = sample(SPACE, 24, np.random.default_rng(0))
    return fit_encoded(rows, timed_ms(costs.features(rows), 0), scope=SCOPE)


def transfer(costs: PopulationCosts) -> LatencyPredictor:
    rows = np.unique(sample(SPACE, 400, np.random.default_rng(0)), axis=0)
    rows = rows[np.random.default_rng(1).permutation(len(rows))]
    features = costs.features(rows)
    measured = {name: (rows, timed_ms(features, seed, macs=macs)) for seed, (name, macs) in enumerate(OTHERS.items())}
    sources = fit_sources(Encoder(space=SPACE), measured, reference=rows)
    plan = choose_transfer_samples(sources, rows, 20)
    latency_ms = timed_ms(costs.features(plan.population), 9, macs=3.0)
    return fit_transfer(sources, plan.population, latency_ms, scope=SCOPE, random=plan.random)


def operators(costs: PopulationCosts) -> LatencyPredictor:
    features = np.array([probe.features for probe in draw_probes(120, np.random.default_rng(0))])
    probed = Probed(features=features, latency_ms=timed_ms(features, 0), random=np.arange(120) < 80)
    provenance = Provenance(
        device="here", precision="float32", threads=1, batch=1, protocol="made", anchor_ms=0.03, time="then"
    )
    rows = sample(SPACE, 12, np.random.default_rng(3))
    model = fit_operators(probed, provenance)
    return model.predictor(SCOPE, costs, population=rows, latency_ms=timed_ms(costs.features(rows), 1))


def roofline(costs: PopulationCosts) -> LatencyPredictor:
    return RooflinePredictor.for_scope(SCOPE, costs)


OTHERS = {"fast": 0.5, "slow": 5.0}
KINDS = {"cost": cost, "encoded": encoded, "transfer": transfer, "operators": operators, "roofline": roofline}


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    kind: str
    predictor: LatencyPredictor
    costs: PopulationCosts

    @property
    def stored(self) -> StoredPredictor:
        """The predictor, where its kind is stored at all: an estimate from a card is made anew each time."""
        if self.kind not in CODECS:
            pytest.skip(f"{self.kind} predictors are not stored")
        assert isinstance(self.predictor, CODECS[self.kind].predictor)
        return self.predictor


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest, costs: PopulationCosts) -> Case:
    return Case(kind=request.param, predictor=KINDS[request.param](costs), costs=costs)


@pytest.fixture(scope="module")
def fresh() -> Population:
    return sample(SPACE, 300, np.random.default_rng(5))


def test_every_kind_that_is_stored_has_a_case() -> None:
    assert set(CODECS) <= set(KINDS)


def test_predictions_are_one_a_row_finite_and_above_zero(case: Case, fresh: Population) -> None:
    for predicted in (case.predictor.predict_ms(fresh), case.predictor.upper_ms(fresh, 0.95)):
        assert predicted.shape == (300,)
        assert predicted.dtype == np.float64
        assert np.isfinite(predicted).all()
        assert (predicted > 0).all()


def test_predictions_tell_architectures_apart_as_the_machine_does(case: Case, fresh: Population) -> None:
    true_ms = timed_ms(case.costs.features(fresh), 2)
    assert np.corrcoef(np.log(case.predictor.predict_ms(fresh)), np.log(true_ms))[0, 1] > 0.85


def test_no_rows_give_no_latencies(case: Case, fresh: Population) -> None:
    assert case.predictor.predict_ms(fresh[:0]).shape == (0,)
    assert case.predictor.upper_ms(fresh[:0], 0.9).shape == (0,)


def test_a_row_is_predicted_the_same_wherever_it_stands(case: Case, fresh: Population) -> None:
    order = np.random.default_rng(1).permutation(len(fresh))
    together = case.predictor.predict_ms(fresh)
    assert np.array_equal(case.predictor.predict_ms(fresh[order]), together[order])
    assert np.array_equal(case.predictor.predict_ms(np.ascontiguousarray(fresh)), together)
    assert case.predictor.predict_ms(fresh[7:8])[0] == together[7]
    many = np.concatenate([fresh] * 250)
    assert np.array_equal(case.predictor.predict_ms(many)[-300:], together)


def test_a_population_is_left_as_it_was(case: Case, fresh: Population) -> None:
    before = fresh.copy()
    case.predictor.upper_ms(fresh, 0.95)
    assert np.array_equal(fresh, before)


def test_bounds_are_no_less_than_predictions_and_grow_with_confidence(case: Case, fresh: Population) -> None:
    before = case.predictor.predict_ms(fresh)
    for confidence in (0.5, 0.8, 0.9, 0.95, 0.99, 0.999):
        upper = case.predictor.upper_ms(fresh, confidence)
        assert (upper >= before).all()
        before = upper
    assert (before > case.predictor.predict_ms(fresh)).all()


@pytest.mark.parametrize("confidence", [0.0, 0.49, 1.0, -1.0, float("nan")])
def test_a_confidence_out_of_range_is_refused(case: Case, fresh: Population, confidence: float) -> None:
    with pytest.raises(UserError, match="confidence: must be at least"):
        case.predictor.upper_ms(fresh, confidence)


def test_saving_and_loading_changes_nothing(case: Case, fresh: Population, tmp_path: Path) -> None:
    predictor, path = case.stored, tmp_path / "deep" / SCOPE.file_name
    save_predictor(predictor, path)
    again = load_predictor(path, case.costs, scope=SCOPE)
    assert kind_of(again) == case.kind
    assert np.array_equal(again.predict_ms(fresh), predictor.predict_ms(fresh))
    for confidence in (0.5, 0.9, 0.95):
        assert np.array_equal(again.upper_ms(fresh, confidence), predictor.upper_ms(fresh, confidence))
    assert again.quality == predictor.quality
    assert again.calibration.points() == predictor.calibration.points()
    assert again.bound_text(0.95) == predictor.bound_text(0.95)
    assert [entry.name for entry in path.parent.iterdir()] == [SCOPE.file_name]


def test_a_file_is_one_record_and_arrays_without_pickle(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    save_predictor(case.stored, path)
    with np.load(path, allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)
        record = json.loads(str(file["record"]))
    assert record["kind"] == case.kind
    assert record["format"] == 2


def test_another_space_device_or_format_is_refused_in_one_line(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    save_predictor(case.stored, path)
    other = SearchSpace.from_template(TEMPLATE | {"input": {"resolution": {"choose": [8, 16]}}})
    with pytest.raises(PredictorMisfitError, match=r"space_digest must be .*; calibrate again"):
        load_predictor(path, case.costs, scope=replace(SCOPE, space=other))
    with pytest.raises(PredictorMisfitError, match="device must be there, it is here; calibrate again"):
        load_predictor(path, case.costs, scope=replace(SCOPE, device=Device(name="there")))
    rewrite(path, format=1)
    with pytest.raises(PredictorMisfitError, match="must be of format 2, it is of format 1; calibrate again"):
        load_predictor(path, case.costs, scope=SCOPE)


def test_a_kind_that_nobody_knows_is_refused(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    save_predictor(case.stored, path)
    rewrite(path, kind="oracle")
    with pytest.raises(PredictorMisfitError, match="it is of kind oracle"):
        load_predictor(path, case.costs, scope=SCOPE)


def test_a_file_that_lacks_parts_is_refused(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    save_predictor(case.stored, path)
    rewrite(path, without=CODECS[case.kind].arrays[0])
    with pytest.raises(PredictorMisfitError, match="parts of it are missing"):
        load_predictor(path, case.costs, scope=SCOPE)


def rewrite(path: Path, *, without: str = "", **changes: object) -> None:
    """The file with entries of its record changed, or an array left out."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files if name != without}
    record = json.loads(str(arrays.pop("record"))) | changes
    np.savez(path, record=np.array(json.dumps(record)), **arrays)
