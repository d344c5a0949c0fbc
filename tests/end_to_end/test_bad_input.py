"""Bad input gets one clear line that names the field, exit code 2, and leaves nothing behind."""

from __future__ import annotations

import shlex
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from nas_command import SPACE, TINY, Here, assert_one_clear_line, contents
from PIL import Image

SPACES = {
    "small": SPACE,
    "not-yaml": "name: a\nnetwork:\n  - {op: conv, channels: [8}\n",
    "no-network": "name: a\n",
    "empty": "",
    "unknown-key": "network:\n  - {op: conv, channels: {chose: [8, 16]}}\n  - classifier\n",
    "unknown-operator": "network:\n  - {op: covn, channels: 8}\n  - classifier\n",
    "unknown-parameter": "network:\n  - {op: conv, chanels: 8}\n  - classifier\n",
    "shape": "network:\n  - {op: conv, channels: {choose: [8, 16]}}\n  - {op: conv, groups: 3}\n  - classifier\n",
    "custom": "network:\n  - {op: not_there.blocks.Shuffle, groups: {choose: [2, 4]}}\n  - classifier\n",
}

# Arguments of `nas search`, and what the line must contain.
FIELDS = [
    ("space=mobilnet-tiny", "space: no space named 'mobilnet-tiny'; did you mean mobilenet-tiny?", "resnet-tiny"),
    ("space=missing.yaml", "space: no file missing.yaml"),
    ("device=this-machin", "device: no device named 'this-machin'; did you mean this-machine? Known: 1080ti_1, "),
    ("strategy=surogate", "strategy: no strategy named 'surogate'; did you mean surrogate? Known: cost-fronts, nsga2"),
    ("recipe=defalt", "recipe: no recipe named 'defalt'; did you mean default? Known: adamw, default"),
    ("recipe=3", "recipe: no recipe named '3'; Known: adamw, default"),
    ("data=digit", "data: no data named 'digit'; did you mean digits? Known: digits, folder"),
    ("runner=rai", "runner: no runner named 'rai'; did you mean ray? Known: ray, serial"),
    ("deploy=coreml", "deploy: no deploy named 'coreml'; Known: onnxruntime"),
    ("display=loud", "display: no display named 'loud'; Known: auto, json, plain, quiet, rich"),
    ("run.candidate=3", "run.candidate: no field in run named 'candidate'; did you mean candidates?"),
    ("data=folder data.pth=x", "data.pth: no field in data named 'pth'; did you mean path?"),
    ("+foo=1", "foo: no field named 'foo'; Known: allow, budget"),
    ("+spase=resnet-tiny", "spase: no field named 'spase'; did you mean space?"),
    ("+run.foo=1", "run.foo: no field of run named 'foo'"),
    ("+budget.power=1W", "budget.power: no metric named 'power'; Known: accuracy, compressed, energy, flash, latency"),
    ("+seed=3", "seed: is there already"),
    ("~seed", "seed: must be there"),
    ("seed", "argument 'seed': is not of the form field=value"),
    ("=3", "argument '=3': must name a field"),
    ("--dryrun", "nas search: no option named '--dryrun'; did you mean --dry-run?"),
    ("--config-dir nowhere", "--config-dir: must be followed by a folder, got 'nowhere'"),
    ("--config-dir", "--config-dir: must be followed by a folder, got ''"),
    ("budget.latency='12 MB'", "budget.latency: must be in a unit of time (ns, us, µs, ms, s, min), got '12 MB'"),
    ("budget.latency=12", "budget.latency: must carry a unit (ns, us, µs, ms, s, min), got the bare number 12"),
    ("budget.latency=soon", "budget.latency: must be a quantity of time, got 'soon'"),
    ("budget.latency=-1ms", "budget.latency: must be positive"),
    ("budget.latency={a:1}", "budget.latency.a: no device of this search named 'a'; Known: this-machine"),
    ("budget.size=3ms", "budget.size: must be in a unit of bytes"),
    ("budget.accuracy=100%", "budget.accuracy: must be below 100 %"),
    ("budget=5", "budget: must be a group of fields, got 5"),
    ("confidence=2", "confidence: must be at least 0.5 and below 1, got 2"),
    ("confidence=high", "confidence: must be a number, got 'high'"),
    ("objectives=[latency]", "objectives: must hold a metric that is learned by training", "add accuracy"),
    ("objectives=[]", "objectives: must name at least one metric, got none"),
    ("objectives=[accuracy,speed]", "objectives: no metric named 'speed'; Known: accuracy"),
    ("objectives={a:1}", "objectives: "),
    ("seed=-1", "seed: must be a whole number of at least 0, got -1"),
    ("seed=1,2", "seed: has several values, but one is expected", "--multirun"),
    ("run.workers=0", "run.workers: must be a whole number of at least 1, got 0"),
    ("run.candidates=-1", "run.candidates: must be a whole number of at least 1, got -1"),
    ("run.candidates=many", "run.candidates: must be int, got 'many'"),
    ("run.name=a/b", "run.name: must be a plain folder name, got 'a/b'"),
    ("run=3", "run: must be a group of fields, got 3"),
    ("calibration.samples=3", "calibration.samples: must be a whole number of at least 12, got 3"),
    ("recipe.optimiser=adma", "recipe.optimiser: no optimiser named 'adma'; did you mean adamw?"),
    ("deploy.precisions=[float64]", "deploy.precisions: ", "did you mean float16?"),
    ("runner.memory=4s", "runner.memory: must be in a unit of bytes"),
    ("runner.address=nowhere", "runner.address: must be 'auto' or host:port, got 'nowhere'"),
    ("runner.address=127.0.0.1:1", "runner.address: no Ray cluster answers at 127.0.0.1:1", "address=null"),
    ("data.limit=5", "data.limit: must leave every class in every split: at least 30 images for 10 classes, got 5"),
    ("data=folder", "data.path: must say where the images are"),
    ("data=folder data.path=photos", "data.path: no such file or folder: photos"),
    ("data=npz data.path=broken.npz", "data: broken.npz "),
    ("data._target_=os.system", "data._target_: must start with one of nas., got 'os.system'"),
    ("run.resume=runs/nothing", "run.resume: must be a run folder, but there is no runs/nothing/manifest.json"),
    ("run.folder=broken.npz", "run.folder: must be a folder, but broken.npz is a file"),
    ("--multirun run.candidates=0,-1", "run.candidates: must be a whole number of at least 1, got 0"),
    ("space=not-yaml.yaml", "not-yaml.yaml: line 3, column 28: is not YAML"),
    ("space=no-network.yaml", "no-network.yaml: must have the key 'network'"),
    ("space=empty.yaml", "empty.yaml: must be a mapping with network"),
    ("space=unknown-key.yaml", "unknown-key.yaml: network[0].channels: ", "'chose'"),
    ("space=unknown-operator.yaml", "unknown-operator.yaml: network[0].op: no operator named 'covn'", "mean conv?"),
    ("space=unknown-parameter.yaml", "unknown-parameter.yaml: network[0].chanels: ", "did you mean channels?"),
    ("space=shape.yaml", "shape.yaml: network[1].groups: must divide the 8 channels of the input, got 3"),
    ("space=custom.yaml", "custom.yaml: network[0].op: must come from an allowed package (none)", "`allow`"),
    ("space=custom.yaml allow=[not_there]", "custom.yaml: network[0].op: ", "No module named 'not_there'"),
]  # fmt: skip


@pytest.fixture
def filled(here: Here) -> Here:
    """The current folder with space files, and a file that is no npz."""
    for name, text in SPACES.items():
        Path(f"{name}.yaml").write_text(text)
    Path("broken.npz").write_bytes(b"no zip")
    return here


@pytest.mark.parametrize("case", FIELDS, ids=[case[0] for case in FIELDS])
def test_a_wrong_argument_is_refused_before_anything_is_spent(filled: Here, case: tuple[str, ...]) -> None:
    arguments, *expected = case
    before = contents(filled.folder)
    assert_one_clear_line(filled.nas("search", *shlex.split(arguments)), *expected)
    assert contents(filled.folder) == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("serch", "nas: no command named 'serch'; did you mean search? Known: calibrate, "),
        ("spaces extra", "nas spaces: must have no arguments, got extra"),
        ("verify", "nas verify: must be given a bundle or a folder"),
        ("verify nowhere", "nowhere: must be a bundle, a run folder or a model folder, there is no such"),
    ],
)
def test_a_wrong_command_is_refused(here: Here, arguments: str, expected: str) -> None:
    assert_one_clear_line(here.nas(*arguments.split()), expected)


def photos(sizes: dict[str, tuple[int, int]], *, per_class: int = 4, mode: str = "L") -> None:
    """``photos/<class>/<number>.png`` of those sizes."""
    for name, size in sizes.items():
        folder = Path("photos") / name
        folder.mkdir(parents=True)
        for number in range(per_class):
            Image.new(mode, size, number).save(folder / f"{number}.png")


def none_at_all() -> None:
    Path("photos").mkdir()


def one_unreadable() -> None:
    photos({"cat": (8, 8), "dog": (8, 8)})
    Path("photos/dog/1.png").write_bytes(b"no picture")


def mixed_sizes() -> None:
    photos({"cat": (8, 8), "dog": (9, 8)})


def mixed_channels() -> None:
    photos({"cat": (8, 8), "dog": (8, 8)})
    Image.new("RGB", (8, 8)).save("photos/dog/0.png")


def unlabelled() -> None:
    photos({"cat": (8, 8), "dog": (8, 8)})
    Image.new("L", (8, 8)).save("photos/stray.png")


def fewer_than_classes() -> None:
    photos(dict.fromkeys(("cat", "dog", "emu"), (8, 8)), per_class=1)


def one_class() -> None:
    photos({"cat": (8, 8)})


def arrays() -> None:
    np.savez("photos", images=np.zeros((6, 8, 8), dtype=np.uint8))
    Path("photos.npz").rename("photos")


@pytest.mark.parametrize(
    ("make", "source", "expected"),
    [
        (none_at_all, "folder", "data: photos holds no images"),
        (one_unreadable, "folder", "data: photos/dog/1.png cannot be read as an image"),
        (mixed_sizes, "folder", "photos/dog/0.png is 9x8 and photos/cat/0.png is 8x8; set data.resolution to resize"),
        (mixed_channels, "folder", "photos/dog/0.png has 3 channels and photos/cat/0.png has 1 channel; set data."),
        (unlabelled, "folder", "data: photos/stray.png is unlabelled"),
        (fewer_than_classes, "folder", "each class must have at least 3 images, one a split, but 'cat' has 1"),
        (one_class, "folder", "data: must have at least two classes, got one (cat)"),
        (arrays, "npz", "data: photos must hold images and labels"),
        (none_at_all, "parquet", "data"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_used_are_refused_with_the_file(
    here: Here, make: Callable[[], None], source: str, expected: str
) -> None:
    make()
    before = contents(here.folder)
    assert_one_clear_line(here.nas("search", f"data={source}", "data.path=photos"), expected)
    assert contents(here.folder) == before


def test_a_budget_that_nothing_meets_ends_the_run_with_the_tightest_value_and_its_causes(again: Here) -> None:
    before = contents(again.folder)
    outcome = again.nas("search", *TINY, "budget.latency=0.01 us")
    assert_one_clear_line(
        outcome,
        "budget.latency: nothing in small meets 0.01 us on this-machine with 95% confidence; the fastest seen is 0.0",
        "relax it to 0.0",
        "body.depth=3 costs ",
    )
    assert contents(again.folder) == before


def test_budgets_that_nothing_meets_together_are_refused_with_what_comes_nearest(again: Here) -> None:
    before = contents(again.folder)
    outcome = again.nas("search", *TINY, "budget.parameters=200", "budget.size=1 kB")
    assert_one_clear_line(outcome, "budget", "nothing in small meets", "relax")
    assert contents(again.folder) == before


def test_a_full_disk_is_refused_before_anything_is_spent(filled: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 5_000_000, 5_000_000))
    before = contents(filled.folder)
    expected = ("run.folder: ", "must have at least 200 MB free, has 5 MB", "make room, or name another disk")
    assert_one_clear_line(filled.nas("search", *TINY), *expected)
    assert contents(filled.folder) == before


def test_a_folder_of_something_else_is_not_written_into(filled: Here) -> None:
    Path("runs/mine").mkdir(parents=True)
    Path("runs/mine/notes.txt").write_text("keep")
    before = contents(filled.folder)
    outcome = filled.nas("search", *TINY, "run.name=mine")
    assert_one_clear_line(outcome, "run.name: the folder runs/mine exists and is not empty")
    assert contents(filled.folder) == before


def test_a_manifest_that_is_none_is_refused(filled: Here) -> None:
    Path("runs/odd").mkdir(parents=True)
    for text, told in [("{", "cannot read runs/odd/manifest.json"), ("{}", "is not the manifest of a run")]:
        Path("runs/odd/manifest.json").write_text(text)
        assert_one_clear_line(filled.nas("search", "run.resume=runs/odd"), "run.resume: ", told)


def test_what_allow_names_is_found_in_the_current_folder(here: Here) -> None:
    Path("blocks_of_mine.py").write_text("def shift(in_channels):\n    raise TypeError('not like this')\n")
    Path("mine.yaml").write_text("network:\n  - {op: blocks_of_mine.shift}\n  - classifier\n")
    outcome = here.nas("search", "space=mine.yaml", "allow=[blocks_of_mine]")
    assert_one_clear_line(outcome, "mine.yaml: network[0].op: blocks_of_mine.shift must be callable", "not like this")
