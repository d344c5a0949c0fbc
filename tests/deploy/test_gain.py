"""What compression bought, in time beside what it saved on paper."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from nas.deploy.export import export_onnx
from nas.deploy.gain import Gain, measure_gain
from nas.device.card import load_device
from nas.device.protocol import TimingProtocol
from nas.locate import resource_folder

QUICK = TimingProtocol(blocks=3, warmups=1, runs=3, max_wait_s=0.1, min_round_s=0.0)


@pytest.fixture(scope="module")
def gain(tmp_path_factory) -> Gain:
    folder = tmp_path_factory.mktemp("gain")
    files = [folder / "wide.onnx", folder / "narrow.onnx"]
    for path, width in zip(files, (64, 16), strict=True):
        export_onnx(nn.Sequential(nn.Conv2d(1, width, 5), nn.Flatten()), (1, 32, 32), path)
    torch.manual_seed(0)
    device = load_device("this-machine", [resource_folder("latency_models")])
    return measure_gain(files[0], files[1], macs=(400, 100), device=device, protocol=QUICK)


def test_both_files_are_timed_and_weighed(gain):
    assert gain.before.file.name == "wide.onnx"
    assert gain.after.file.name == "narrow.onnx"
    assert gain.macs_share == 0.25
    assert gain.bytes_share == gain.after.file.stat().st_size / gain.before.file.stat().st_size < 0.5
    assert gain.time_share == gain.after.latency_ms / gain.before.latency_ms


def test_the_line_for_people_tells_shares_and_milliseconds(gain):
    half = replace(
        gain,
        before=replace(gain.before, latency_ms=0.2, settled=True, note=""),
        after=replace(gain.after, latency_ms=0.18, settled=True, note=""),
        bytes_before=1000,
        bytes_after=540,
    )
    assert half.describe() == "25 % of the MACs, 90 % of the time (0.2 -> 0.18 ms), 54 % of the file"


def test_a_latency_that_did_not_settle_is_not_told_as_one(gain):
    unsettled = replace(gain, after=replace(gain.after, settled=False, note="the machine was busy"))
    assert not unsettled.settled
    assert "time not known (the machine was busy)" in unsettled.describe()
