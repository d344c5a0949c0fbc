from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.device.counters import MeterLog, NvidiaSmi, Powercap, read_meter
from nas.errors import UserError


def zone(root: Path, name: str, *, energy_uj: int, range_uj: int = 10_000_000, label: str = "package-0") -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(label + "\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    (folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return folder


def test_energy_of_all_packages_is_summed_and_parts_of_a_package_are_not_counted_again(tmp_path: Path) -> None:
    first, second = zone(tmp_path, "intel-rapl:0", energy_uj=1_000), zone(tmp_path, "intel-rapl:1", energy_uj=5_000)
    zone(tmp_path, "intel-rapl:0:0", energy_uj=0, label="core")
    zone(tmp_path, "intel-rapl:2", energy_uj=0, label="psys")
    (tmp_path / "intel-rapl").mkdir()
    counter = Powercap.find(tmp_path)
    assert counter.zones == (first, second)

    def work() -> None:
        (first / "energy_uj").write_text("4000\n")
        (second / "energy_uj").write_text("6500\n")

    consumed = counter.during(work)
    assert consumed.energy_mj == pytest.approx(3.0 + 1.5)
    assert consumed.seconds >= 0


@given(start=st.integers(0, 9_999_999), used=st.integers(0, 9_999_999))
def test_a_counter_that_starts_again_loses_nothing(start: int, used: int) -> None:
    counter = Powercap(zones=(Path("x"),), ranges_mj=(10_000.0,))
    end = (start + used) % 10_000_000
    assert counter.between_mj([start / 1e3], [end / 1e3]) == pytest.approx(used / 1e3, abs=1e-6)


def test_a_machine_without_a_counter_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must hold an energy counter, there is none; it takes a processor with RAPL"):
        Powercap.find(tmp_path)


def test_a_counter_that_may_not_be_read_says_how_to_open_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = zone(tmp_path, "intel-rapl:0", energy_uj=1)
    plain = Path.read_text

    def refusing(path: Path, *args: object, **options: object) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return plain(path, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "read_text", refusing)
    with pytest.raises(UserError, match="access is denied; run as root, or let your user read it") as caught:
        Powercap.find(tmp_path)
    assert caught.value.where == str(folder / "energy_uj")


def test_a_counter_that_shows_no_number_is_refused(tmp_path: Path) -> None:
    (zone(tmp_path, "intel-rapl:0", energy_uj=1) / "energy_uj").write_text("lots\n")
    with pytest.raises(UserError, match="must be a number of microjoules, got 'lots'"):
        Powercap.find(tmp_path)


def test_energy_of_a_gpu_is_its_power_over_the_time_of_the_work() -> None:
    asked: list[str] = []

    def run(command: object) -> str:
        asked.append(" ".join(command))  # type: ignore[call-overload]
        return "50.00\n"

    consumed = NvidiaSmi(index=1, run=run).during(lambda: time.sleep(0.1))
    assert consumed.energy_mj == pytest.approx(50.0 * consumed.seconds * 1e3)
    assert 0.1 <= consumed.seconds < 2
    assert set(asked) == {"nvidia-smi --id=1 --query-gpu=power.draw --format=csv,noheader,nounits"}


def test_a_gpu_whose_power_rises_while_it_works_counts_what_flows_then() -> None:
    powers = itertools.chain([10.0], itertools.repeat(110.0))
    consumed = NvidiaSmi(run=lambda command: f"{next(powers)}").during(lambda: time.sleep(0.3))
    assert 50e3 * consumed.seconds < consumed.energy_mj < 110e3 * consumed.seconds


@pytest.mark.parametrize("shown", ["[N/A]", "", "nan", "-3"])
def test_a_gpu_that_shows_no_power_is_refused(shown: str) -> None:
    with pytest.raises(UserError, match="nvidia-smi, GPU 0: must show a power in W"):
        NvidiaSmi(run=lambda command: shown).power_w()


def test_a_missing_program_is_one_clear_line() -> None:
    with pytest.raises(UserError, match="no-such-smi: cannot be run") as caught:
        NvidiaSmi(program="no-such-smi").power_w()
    assert "\n" not in str(caught.value)


def test_a_failure_while_the_work_runs_is_told_after_it() -> None:
    answers = itertools.chain(["50"], itertools.repeat("[N/A]"))
    with pytest.raises(UserError, match="must show a power"):
        NvidiaSmi(run=lambda command: next(answers)).during(lambda: time.sleep(0.1))


def meter(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_meters_log_is_integrated_between_any_two_moments(tmp_path: Path) -> None:
    log = read_meter(meter(tmp_path / "log.csv", "power_w,note,time_s\n0,a,0\n10,b,1\n10,c,3\n"))
    assert log.energy_mj(0.5, 2.0) == pytest.approx((3.75 + 10.0) * 1e3)


@given(power=st.floats(0, 500), start=st.floats(0.1, 4), length=st.floats(1.1, 5))
def test_constant_power_gives_power_times_time(power: float, start: float, length: float) -> None:
    log = MeterLog(seconds=np.arange(11.0), power_w=np.full(11, power), source="log.csv")
    assert log.energy_mj(start, start + length) == pytest.approx(power * length * 1e3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time_s,watts\n0,1\n1,1\n", "must have a column power_w"),
        ("time_s,power_w\n0,1\n", "must hold at least two samples, got 1"),
        ("time_s,power_w\n0,1\n1,much\n", "line 3: must hold two numbers"),
        ("time_s,power_w\n0,1\n1,-2\n", "line 3: must hold a time and a power of at least 0"),
        ("time_s,power_w\n0,1\n0,1\n", "sample 2: must be later than the one before it"),
        ("", "must have a column time_s"),
    ],
)
def test_a_broken_log_names_file_line_and_rule(tmp_path: Path, text: str, message: str) -> None:
    path = meter(tmp_path / "log.csv", text)
    with pytest.raises(UserError) as caught:
        read_meter(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_log_that_does_not_cover_the_runs_is_refused(tmp_path: Path) -> None:
    log = read_meter(meter(tmp_path / "log.csv", "time_s,power_w\n0,1\n1,1\n5,1\n"))
    with pytest.raises(UserError, match=r"must cover 4\.000 to 6\.000 s, it covers 0\.000 to 5\.000 s"):
        log.energy_mj(4, 6)
    with pytest.raises(UserError, match=r"must have a sample between 2\.000 and 3\.000 s"):
        log.energy_mj(2, 3)


def test_a_log_that_is_missing_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_meter(tmp_path / "none.csv")
