from pathlib import Path

import pytest

from nas.device.card import Device, device_names, load_device, read_card
from nas.device.card_figures import Figure
from nas.device.where.places import Local, Nowhere
from nas.errors import UserError
from nas.locate import resource_folder


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).mkdir(parents=True)
    path = folder / name / "device.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_shipped_card_is_this_machine_on_one_thread_in_float32() -> None:
    device = load_device("this-machine", [resource_folder("latency_models")])
    assert (device.runtime, device.threads, device.batch, device.precision) == ("onnxruntime", 1, 1, "float32")


def test_a_card_with_its_name_only_has_the_defaults(tmp_path: Path) -> None:
    assert read_card(write(tmp_path, "plain", "name: plain\n")) == Device(name="plain")


def test_a_users_card_is_taken_before_the_shipped_one(tmp_path: Path) -> None:
    write(tmp_path / "own", "board", "name: board\nthreads: 2\n")
    write(tmp_path / "shipped", "board", "name: board\n")
    write(tmp_path / "shipped", "other", "name: other\n")
    folders = [tmp_path / "own", tmp_path / "missing", tmp_path / "shipped"]
    assert load_device("board", folders).threads == 2
    assert load_device("other", folders).threads == 1
    assert device_names(folders) == ("board", "other")


def test_an_unknown_device_lists_the_known_and_suggests_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, "this-machine", "name: this-machine\n")
    with pytest.raises(UserError, match=r"no device named 'this-machin'; did you mean this-machine\? Known"):
        load_device("this-machin", [tmp_path])


def test_peaks_are_kept_in_units_a_second_with_their_source(tmp_path: Path) -> None:
    text = "name: gpu\npeaks:\n  memory_bandwidth: {value: 4.8 TB/s, source: data sheet}\n"
    text += "  float32: {value: 67 TFLOP/s, source: data sheet}\n"
    peaks = read_card(write(tmp_path, "gpu", text)).peaks
    assert peaks["memory_bandwidth"].per_second == pytest.approx(4.8e12)
    assert peaks["float32"].per_second == pytest.approx(67e12)
    assert peaks["float32"].source == "data sheet"


def test_memories_and_energies_are_kept_in_their_units_with_their_source(tmp_path: Path) -> None:
    text = "name: board\nkind: microcontroller\nprecision: int8-signed\nwhere: none\n"
    text += "memory:\n  ram: {value: 512 KiB, source: sheet}\n"
    text += "energy:\n  mac_int8: {value: 4 pJ, source: table}\n  static: {value: 350 mW, source: meter}\n"
    device = read_card(write(tmp_path, "board", text))
    assert (device.kind, device.precision, device.where) == ("microcontroller", "int8-signed", Nowhere())
    assert device.memory == {"ram": Figure(value=2.0**19, source="sheet")}
    assert device.energy["mac_int8"].value == pytest.approx(4e-9)
    assert device.energy["static"].value == pytest.approx(0.35)
    assert device.energy["static"].source == "meter"


def test_a_card_is_of_this_machine_unless_it_says_otherwise(tmp_path: Path) -> None:
    assert read_card(write(tmp_path, "plain", "name: plain\n")).where == Local()


@pytest.mark.parametrize("name", device_names([resource_folder("latency_models")]))
def test_every_figure_of_a_shipped_card_has_a_source_that_can_be_looked_up(name: str) -> None:
    device = load_device(name, [resource_folder("latency_models")])
    assert device.description
    sources = [figure.source for group in (device.peaks, device.memory, device.energy) for figure in group.values()]
    assert all(len(source.split()) >= 2 for source in sources)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: bad\nkind: toaster\n", "device.yaml: kind: no kind named 'toaster'"),
        ("name: bad\nwhere: moon\n", "device.yaml: where: no place named 'moon'"),
        ("name: bad\nmemory: {ram: 512 KiB}\n", "memory.ram: must have a value and a source"),
        ("name: bad\nmemory: {ram: {value: 512, source: x}}\n", "memory.ram: must carry a unit"),
        ("name: bad\nmemory: {disk: {value: 1 GB, source: x}}\n", "memory.disk: no memory named 'disk'"),
        ("name: bad\nenergy: {static: {value: 2 mJ, source: x}}\n", "energy.static: must be in a unit of power"),
        (
            "name: bad\nenergy: {mac_int8: {value: 2 pJ, source: ''}}\n",
            "energy.mac_int8: must have a value and a source",
        ),
        ("name: bad\nthread: 1\n", "device.yaml: thread: no field named 'thread'; did you mean threads"),
        ("name: bad\nthreads: 0\n", "device.yaml: threads: must be a whole number of at least 1, got 0"),
        ("name: bad\nbatch: true\n", "device.yaml: batch: must be a whole number"),
        ("name: bad\nprecision: int2\n", "device.yaml: precision: no precision named 'int2'"),
        ("name: bad\nruntime: tensorrt\n", "device.yaml: runtime: no runtime named 'tensorrt'"),
        ("name: other\n", "device.yaml: name: must be the name of the card's folder, 'bad', got 'other'"),
        ("name: 3\n", "device.yaml: name: must be text, got 3"),
        ("name: [bad\n", "device.yaml: line 2: is not valid YAML"),
        ("- bad\n", "device.yaml: must be a mapping of fields"),
        ("name: bad\npeaks: fast\n", "peaks: must be a mapping"),
        ("name: bad\npeaks: {speed: {value: 1 B/s, source: x}}\n", "peaks.speed: no peak named 'speed'"),
        ("name: bad\npeaks: {int8: {value: 1 TOP/s}}\n", "peaks.int8: must have a value and a source"),
        ("name: bad\npeaks: {int8: {value: 1 TB/s, source: x}}\n", "peaks.int8: must be a rate in OP/s, got '1 TB/s'"),
        ("name: bad\npeaks: {memory_bandwidth: {value: 48, source: x}}\n", "must be a rate in B/s, got 48"),
    ],
)
def test_a_broken_card_names_the_file_the_key_and_the_rule(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, "bad", text)
    with pytest.raises(UserError) as caught:
        read_card(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
