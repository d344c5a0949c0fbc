import json
import os
import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from nas.device.anchor import ANCHOR, Anchor, anchor_model
from nas.device.card import Device
from nas.device.cores import BoundCore, bound_core
from nas.device.host import differences, host_facts
from nas.device.protocol import Measurement, TimingProtocol, separate
from nas.device.state import MachineState, machine_state
from nas.device.timing import MAX_GROUP, Bench, _groups, measure, measure_on_bench
from nas.errors import UserError

DEVICE = Device(name="here")
QUICK = TimingProtocol(blocks=3, runs=5, min_round_s=0.0, max_wait_s=2.0)
linux_only = pytest.mark.skipif(platform.system() != "Linux", reason="cores can be bound on Linux only")


def write_matmul(path: Path, size: int, *, batch: int | str = "batch", kind: int = TensorProto.FLOAT) -> Path:
    """A file that multiplies its input (batch, size) with a size x size matrix, twice."""
    weights = helper.make_tensor("w", kind, [size, size], np.ones(size * size, dtype=np.float32))
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    inputs = [helper.make_tensor_value_info("x", kind, [batch, size])]
    outputs = [helper.make_tensor_value_info("y", kind, [batch, size])]
    graph = helper.make_graph(nodes, "matmul", inputs, outputs, [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_measurements_come_in_the_order_of_the_files_and_tell_small_from_large(tmp_path: Path) -> None:
    large, small = write_matmul(tmp_path / "large.onnx", 700), write_matmul(tmp_path / "small.onnx", 8)
    taken = measure([large, small, large], device=DEVICE, protocol=QUICK)
    assert [entry.file for entry in taken] == [large, small, large]
    assert taken[0].latency_ms > 3 * taken[1].latency_ms
    assert taken[2].latency_ms == pytest.approx(taken[0].latency_ms, rel=0.5)
    for entry in taken:
        assert 0 < entry.latency_ms <= entry.p50_ms * 1.5
        assert entry.p50_ms <= entry.p90_ms
        assert entry.spread >= 0
        assert entry.blocks <= entry.blocks_timed <= 2 * QUICK.blocks * QUICK.max_tries
        assert entry.runs == entry.blocks * QUICK.runs
        assert entry.settled == (entry.note == "")
        assert entry.device == "here"


def test_a_record_is_plain_json_and_holds_the_host(tmp_path: Path) -> None:
    (taken,) = measure([write_matmul(tmp_path / "m.onnx", 8)], device=DEVICE, protocol=QUICK)
    record = json.loads(json.dumps(taken.to_record()))
    assert record["file"] == "m.onnx"
    assert record["latency_ms"] == taken.latency_ms
    assert record["host"]["onnxruntime"] == host_facts().onnxruntime


def test_no_files_give_no_measurements() -> None:
    assert measure([], device=DEVICE) == []


def test_progress_counts_every_file_once_and_ends_at_their_number(tmp_path: Path) -> None:
    files = [write_matmul(tmp_path / f"{index}.onnx", 8) for index in range(5)]
    told: list[tuple[int, int]] = []
    measure(files, device=DEVICE, protocol=replace(QUICK, max_files=2), progress=lambda done, n: told.append((done, n)))
    assert told[-1] == (5, 5)
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_a_reference_that_the_machine_cannot_reach_leaves_nothing_settled(tmp_path: Path) -> None:
    path = write_matmul(tmp_path / "m.onnx", 8)
    (taken,) = measure([path], device=DEVICE, protocol=replace(QUICK, max_wait_s=0.05), reference_ms=1e-6)
    assert not taken.settled
    assert taken.blocks == 0
    assert "blocks were undisturbed" in taken.note
    assert taken.latency_ms > 0


def test_files_are_grouped_by_number_and_size_and_keep_their_order(tmp_path: Path) -> None:
    files = [tmp_path / str(index) for index in range(6)]
    for path, size in zip(files, (10, 10, 10, 95, 10, 200), strict=True):
        path.write_bytes(b"x" * size)
    groups = _groups(files, 100, 2)
    assert groups == [[0, 1], [2], [3], [4], [5]]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.onnx: must be an ONNX file, there is none"):
        measure([tmp_path / "gone.onnx"], device=DEVICE, protocol=QUICK)


@pytest.mark.parametrize("content", [b"", b"not an onnx file"])
def test_a_broken_file_is_named_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.onnx: cannot be loaded by onnxruntime") as caught:
        measure([path], device=DEVICE, protocol=QUICK)
    assert "\n" not in str(caught.value)


def test_a_file_with_another_batch_than_the_devices_is_refused(tmp_path: Path) -> None:
    path = write_matmul(tmp_path / "four.onnx", 8, batch=4)
    with pytest.raises(UserError, match=r"must take the device's batch of 1, its input 'x' takes 4"):
        measure([path], device=DEVICE, protocol=QUICK)
    (taken,) = measure([path], device=replace(DEVICE, batch=4), protocol=QUICK)
    assert taken.latency_ms > 0


@linux_only
def test_a_core_is_bound_within_and_given_back_after_an_error() -> None:
    before = os.sched_getaffinity(0)

    def fail_when_bound() -> None:
        with bound_core() as core:
            assert os.sched_getaffinity(0) == {core.current}
            core.move()
            assert os.sched_getaffinity(0) == {core.current}
            assert set(core.cores) == before
            raise RuntimeError("within")

    with pytest.raises(RuntimeError, match="within"):
        fail_when_bound()
    assert os.sched_getaffinity(0) == before


def test_no_core_is_bound_for_a_device_of_several_threads() -> None:
    with bound_core(threads=2) as core:
        assert core.current is None
        core.move()


def test_the_anchor_is_loaded_by_the_runtime_and_knows_a_disturbance() -> None:
    assert ANCHOR.stat().st_size < 10_000
    anchor = Anchor(anchor_model(), QUICK, BoundCore(()))
    assert anchor.is_quiet(anchor.level_ms)
    assert not anchor.is_quiet(anchor.level_ms * (1 + 2 * QUICK.max_drift))


def test_facts_of_the_same_host_agree_and_say_what_differs() -> None:
    here = host_facts().fingerprint(1)
    assert differences(here, host_facts().fingerprint(1)) == ()
    assert differences(here, {**here, "onnxruntime": "0.1"}) == (f"onnxruntime was {here['onnxruntime']}, is 0.1",)
    assert host_facts().cpu
    assert host_facts().cores >= 1


class Scripted:
    """A file whose blocks take what a list says, over and over; a `nas.device.session.Stopwatch`."""

    def __init__(self, times_ms: Sequence[float], share_interrupted: float = 0.0) -> None:
        self.times_ms, self.interrupted, self.blocks = list(times_ms), share_interrupted, 0

    def block(self, warmups: int, runs: int) -> tuple[np.ndarray, np.ndarray]:
        time_ms = self.times_ms[self.blocks % len(self.times_ms)]
        self.blocks += 1
        wall_to_cpu = np.ones(runs)
        wall_to_cpu[: round(self.interrupted * runs)] = 2.0
        return np.full(runs, time_ms), wall_to_cpu


SCRIPTED = TimingProtocol(blocks=4, runs=10, min_round_s=0.0, max_wait_s=0.0)


def on_scripts(
    models: Sequence[Scripted],
    *,
    anchor: Scripted | None = None,
    states: Sequence[MachineState] = (MachineState(),),
    **options: object,
) -> list[Measurement]:
    """Measurements of scripted files on a scripted machine, named by their place."""
    moments = iter([*states, *[states[-1]] * 1000])
    bench = Bench(
        device="scripted",
        load=lambda path: models[int(path.name)],
        anchor=anchor or Scripted([1.0]),
        core=BoundCore(()),
        facts=host_facts,
        state=lambda: next(moments),
    )
    files = [Path(str(index)) for index in range(len(models))]
    return measure_on_bench(bench, files, protocol=SCRIPTED, **options)  # type: ignore[arg-type]


def test_a_block_that_differs_from_the_others_is_repeated_and_does_not_count() -> None:
    (taken,) = on_scripts([Scripted([2.0, 2.02, 2.9, 2.0, 2.01])])
    assert taken.settled
    assert (taken.blocks, taken.blocks_timed) == (4, 5)
    assert taken.latency_ms == pytest.approx(2.005)


def test_two_levels_are_refused_and_not_averaged() -> None:
    good, torn = on_scripts([Scripted([1.0]), Scripted([2.0, 4.0])])
    assert good.settled
    assert not torn.settled
    assert "undisturbed blocks agree within 15%" in torn.note
    assert separate([torn, good, torn]) == ([good], [torn, torn])


def test_interrupted_blocks_are_refused_however_well_they_agree() -> None:
    (taken,) = on_scripts([Scripted([2.0], share_interrupted=0.5)])
    assert (taken.settled, taken.blocks) == (False, 0)
    assert "blocks were undisturbed, 4 are needed" in taken.note
    assert on_scripts([Scripted([2.0], share_interrupted=0.1)])[0].settled


def test_tries_are_bounded_however_hopeless_a_file_is() -> None:
    hopeless = Scripted([1.0, 3.0])
    on_scripts([hopeless])
    assert hopeless.blocks <= SCRIPTED.blocks * SCRIPTED.max_tries * (1 + SCRIPTED.max_tries)


def test_a_machine_that_is_throttled_throughout_is_believed_only_beside_a_known_anchor() -> None:
    hot = MachineState(throttled="cpufreq at 3 of 8", temperature_c=85.0)
    (refused,) = on_scripts([Scripted([2.0])], states=[hot])
    assert not refused.settled
    assert refused.note.startswith("the processor was throttled throughout: cpufreq at 3 of 8 before")
    (known,) = on_scripts([Scripted([2.0])], states=[hot], reference_ms=1.0)
    assert known.settled
    (slow,) = on_scripts([Scripted([2.0])], anchor=Scripted([1.3]), reference_ms=1.0)
    assert not slow.settled
    (later,) = on_scripts([Scripted([2.0])], states=[MachineState(temperature_c=50.0, throttle_count=3), hot])
    assert later.settled
    assert later.host.throttled == "cpufreq at 3 of 8 after"
    assert (later.host.temperature_c, later.host.temperature_after_c) == (50.0, 85.0)


def test_groups_are_told_as_they_are_done_and_a_file_whose_blocks_no_longer_count_comes_again() -> None:
    models = [Scripted([1.0 + index]) for index in range(MAX_GROUP + 4)]
    told: list[list[int]] = []
    steps: list[int] = []
    # The anchor gets faster for good after the first group: all of its blocks stop counting.
    anchor = Scripted([1.2] * 96 + [1.0] * 100_000)
    taken = on_scripts(
        models,
        anchor=anchor,
        on_measured=lambda group: told.append([int(one.file.name) for one in group]),
        progress=lambda done, total: steps.append(done),
    )
    first, second = list(range(MAX_GROUP)), list(range(MAX_GROUP, MAX_GROUP + 4))
    assert told == [first, second, first]
    assert all(one.settled for one in taken)
    assert [one.latency_ms for one in taken] == [1.0 + index for index in range(MAX_GROUP + 4)]
    # The end is told once, after what was timed again.
    assert steps == sorted(set(steps))
    assert steps[-1] == len(models)


def test_progress_does_not_reach_the_end_while_a_file_is_timed_again() -> None:
    steps: list[int] = []
    blocks_at_end: list[int] = []
    hopeless = Scripted([1.0, 3.0])

    def progress(done: int, total: int) -> None:
        steps.append(done)
        if done == total:
            blocks_at_end.append(hopeless.blocks)

    on_scripts([Scripted([1.0]), hopeless], progress=progress)
    assert steps[-1] == 2
    assert blocks_at_end == [hopeless.blocks]


def test_a_record_gives_the_measurement_back(tmp_path: Path) -> None:
    (taken,) = on_scripts([Scripted([2.0])])
    record = json.loads(json.dumps(taken.to_record()))
    assert Measurement.from_record(record, file=taken.file) == taken
    protocol = replace(SCRIPTED, warmups=5)
    assert TimingProtocol.from_record(json.loads(json.dumps(protocol.to_record()))) == protocol


def test_frequency_temperature_and_throttling_are_read_where_the_kernel_tells_them(tmp_path: Path) -> None:
    assert machine_state(root=tmp_path) == MachineState()
    tree = {
        "sys/devices/system/cpu/cpu3/cpufreq/scaling_cur_freq": "1500000",
        "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "2",
        "sys/devices/system/cpu/cpu3/thermal_throttle/core_throttle_count": "5",
        "sys/class/thermal/thermal_zone0/temp": "51250",
        "sys/class/thermal/thermal_zone1/temp": "60000",
        "sys/class/thermal/cooling_device0/type": "cpufreq-cpu0",
        "sys/class/thermal/cooling_device0/cur_state": "2",
        "sys/class/thermal/cooling_device0/max_state": "9",
        "sys/class/thermal/cooling_device1/type": "pwm-fan",
        "sys/class/thermal/cooling_device1/cur_state": "1",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "50004",
    }
    for name, text in tree.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert machine_state(3, root=tmp_path) == MachineState(
        frequency_mhz=1500.0, temperature_c=60.0, throttled="cpufreq-cpu0 at 2 of 9, throttled", throttle_count=7
    )


@linux_only
def test_only_named_cores_are_used_and_unknown_ones_refused(tmp_path: Path) -> None:
    here = max(os.sched_getaffinity(0))
    (taken,) = measure([write_matmul(tmp_path / "m.onnx", 8)], device=DEVICE, protocol=QUICK, cores=[here])
    assert taken.host.core == here
    with bound_core(2, [here]):
        assert os.sched_getaffinity(0) == {here}
    with pytest.raises(UserError, match="4095 may not; these may: "):
        bound_core(1, [4095]).__enter__()
