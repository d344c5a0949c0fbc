"""What a calibration of kernels measures, keeps and goes on with; timings come from known rates."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.commands import operators
from nas.commands.display import Silent
from nas.commands.operators import OperatorsRun, calibrate_operators
from nas.device.card import Device
from nas.device.host import host_facts
from nas.device.operators_store import load_operators
from nas.device.protocol import Measurement
from nas.device.where.places import Offline
from nas.errors import UserError
from nas.model.features import FEATURE_NAMES
from nas.model.probes import NUM_CLASSES, draw_probes
from nas.model.stage_figures import StageFigures

HOST = host_facts()
RUN = OperatorsRun(probes=80, checks=3)
RATES = np.array([{"kernels": 1e-3, "steps": 4e-7}.get(name.rpartition(".")[2], 0.0) for name in FEATURE_NAMES])


class Machine:
    """Takes the place of export and timing: a file's latency is that of its network's kernels."""

    def __init__(self, *, stop_after: int = 10**6, unsettled: int = 0) -> None:
        self.timed: list[str] = []
        self.stop_after, self.unsettled = stop_after, unsettled
        self.latency_ms: dict[str, float] = {}

    def export(self, network: Any, folder: Path, precisions: Sequence[str], **given: Any) -> dict[str, Path]:
        shape, total = given["input_shape"], 0.0
        if network.resolution is not None:
            shape = (shape[0], *network.input_size(*shape[1:]))
        for stage in network.stages:
            figures = FIGURES.find(stage, shape)
            total += float(np.asarray(figures.features) @ RATES)
            shape = figures.out_shape
        file = folder / f"{network.digest}.onnx"
        self.latency_ms[file.name] = total
        return dict.fromkeys(precisions, file)

    def measure(self, device: Device, files: Sequence[Path], **given: Any) -> list[Measurement]:
        for start in range(0, len(files), 10):
            if len(self.timed) >= self.stop_after:
                raise KeyboardInterrupt
            group = []
            for file in files[start : start + 10]:
                self.timed.append(file.name)
                group.append(self.measurement(device, file, len(self.timed) > self.unsettled))
            given["on_measured"](group)
        return []

    def measurement(self, device: Device, file: Path, settled: bool) -> Measurement:
        facts: dict[str, Any] = {
            "file": file,
            "latency_ms": self.latency_ms[file.name],
            "p50_ms": 1.0,
            "p90_ms": 1.0,
            "spread": 0.01,
            "blocks": 8,
            "blocks_timed": 8,
            "runs": 80,
            "anchor_ms": 0.03,
            "settled": settled,
            "note": "" if settled else "too few blocks",
            "device": device.name,
            "host": HOST,
        }
        return Measurement(**facts)


FIGURES = StageFigures(num_classes=NUM_CLASSES)
PROBES = functools.cache(lambda n: draw_probes(n, np.random.default_rng(0)))
CHECKS = functools.cache(lambda count: operators._checks(count, np.random.default_rng(0)))


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    monkeypatch.chdir(tmp_path)
    probes, checks = PROBES(2 * RUN.probes), CHECKS(RUN.checks)  # drawn once for all tests: that takes seconds
    monkeypatch.setattr(operators, "draw_probes", lambda n, rng: probes)
    monkeypatch.setattr(operators, "_checks", lambda count, rng: checks)
    return Device(name="here")


def use(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(operators, "export_untrained", machine.export)
    monkeypatch.setattr(operators, "measure_on", machine.measure)
    return machine


def test_a_calibration_measures_as_many_as_asked_and_stores_a_model_that_is_right(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = use(Machine(), monkeypatch)
    model = calibrate_operators(device, ["float32"], RUN, Silent())["float32"]
    assert len(set(machine.timed)) == len(machine.timed) == 80 + 3 * 4
    assert len(model.probed) == 80
    assert model.probed.random.sum() == 40
    assert set(model.checks) == {"mobilenet-tiny", "nasbench-macro", "nasbench201", "resnet-tiny"}
    assert max(np.abs(errors).max() for errors in model.checks.values()) < 0.1
    stored = load_operators(Path("latency_models/here/operators-float32.npz"), device=device, precision="float32")
    np.testing.assert_array_equal(stored.rates, model.rates)


def test_an_interrupted_calibration_goes_on_without_measuring_twice(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = use(Machine(stop_after=70), monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        calibrate_operators(device, ["float32"], RUN, Silent())
    second = use(Machine(), monkeypatch)
    resumed = calibrate_operators(device, ["float32"], RUN, Silent())["float32"]
    assert not set(first.timed) & set(second.timed)
    assert len(resumed.probed) == 80
    third = use(Machine(), monkeypatch)
    again = calibrate_operators(device, ["float32"], RUN, Silent())["float32"]
    assert third.timed == []
    np.testing.assert_array_equal(again.rates, resumed.rates)


def test_refresh_measures_everything_again(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    first = use(Machine(), monkeypatch)
    calibrate_operators(device, ["float32"], RUN, Silent())
    second = use(Machine(), monkeypatch)
    calibrate_operators(device, ["float32"], OperatorsRun(probes=80, checks=3, refresh=True), Silent())
    assert sorted(first.timed) == sorted(second.timed)


def test_what_does_not_settle_is_left_out_and_said(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []

    class Listening(Silent):
        def note(self, text: str) -> None:
            notes.append(text)

    use(Machine(unsettled=5), monkeypatch)
    model = calibrate_operators(device, ["float32"], RUN, Listening())["float32"]
    assert model.provenance.num_unsettled == 5
    assert any("5 float32 timings did not settle" in note for note in notes)


def test_nothing_that_settles_is_one_clear_line(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    use(Machine(unsettled=10**6), monkeypatch)
    with pytest.raises(UserError, match="no timing settled"):
        calibrate_operators(device, ["float32"], RUN, Silent())


def test_a_machine_that_nobody_reaches_gets_all_files_at_once(
    device: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[int] = []
    machine = use(Machine(), monkeypatch)

    def measure(device: Device, files: Sequence[Path], **given: Any) -> list[Measurement]:
        calls.append(len(files))
        return machine.measure(device, files, **given)

    monkeypatch.setattr(operators, "measure_on", measure)
    away = Device(name="away", where=Offline(folder=str(tmp_path / "job")))
    calibrate_operators(away, ["float32"], RUN, Silent())
    assert calls == [80 + 3 * 4]


@pytest.mark.parametrize(("name", "value"), [("probes", 79), ("checks", -1), ("blocks", 0), ("probes", True)])
def test_settings_out_of_range_are_refused(name: str, value: object) -> None:
    with pytest.raises(UserError, match=rf"operators\.{name}"):
        OperatorsRun(**{name: value})  # type: ignore[arg-type]
