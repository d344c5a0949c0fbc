"""Files and arguments of people who mean harm, or whose disk did, through the command itself.

Each is refused: one clear line, exit code 2, nothing run, and whatever was given is left as it was.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import hostile_files as bad
import numpy as np
import pytest
from hostile_files import RUN
from nas_command import TINY, Finished, Here, assert_one_clear_line, copy_of, run_nas

from nas.cli.main import main
from nas.report.write import write_report

SEARCH = ("search", *TINY, "runner=serial", "run.name=new")
RESUME = ("search", f"run.resume={RUN}", "runner=serial")
AWAY = ("search", *TINY, "runner=serial", "run.name=new", "device=far-away")
EXPORT = ("export", f"run={RUN}", "golden_only=true", "profile=false", "workers=0", "archive=false", "out=given")
SMALL_DATA = ("search", "space=small.yaml", "runner=serial", "run.name=new")
Arguments = Sequence[str]


def space(text: str) -> Callable[[], Arguments]:
    """A search in a space of this text."""

    def make() -> Arguments:
        Path("theirs.yaml").write_text(text)
        return ("search", "space=theirs.yaml", "runner=serial")

    return make


def given(*arguments: str) -> Callable[[], Arguments]:
    """Nothing but these arguments."""
    return lambda: arguments


def group(text: str, *arguments: str, name: str = "data/theirs.yaml") -> Callable[[], Arguments]:
    """A search with a folder of groups that holds a file of this text."""

    def make() -> Arguments:
        path = Path("groups") / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
        return ("search", "--config-dir", "groups", *(arguments or ("data=theirs",)))

    return make


def with_files(prepare: Callable[[], object], *arguments: str) -> Callable[[], Arguments]:
    """These arguments, once the files are prepared."""

    def make() -> Arguments:
        prepare()
        return arguments

    return make


def model(prepare: Callable[[Path], object]) -> Callable[[], Arguments]:
    """`nas verify` of a model folder."""

    def make() -> Arguments:
        folder = bad.a_model()
        prepare(folder)
        return ("verify", str(folder))

    return make


def operator(path: str) -> str:
    return f"network:\n  - {{op: {path}}}\n  - classifier\n"


CONFIGS: dict[str, tuple[Callable[[], Arguments], str]] = {
    "a function as a target": (given(*SEARCH, "data._target_=os.system"), "data._target_: must start with one of nas."),
    "a program as a target": (
        given(*SEARCH, "data._target_=subprocess.Popen", "+data.args=[touch,canary]"),
        "data._target_: must start with one of nas.",
    ),
    "a class that a module of ours imports": (
        given(*SEARCH, "+callbacks.x._target_=nas.cli.hydra_run.TemporaryDirectory"),
        "callbacks.x._target_: must name a group of settings of nas",
    ),
    "a module that a module of ours imports": (
        given(*SEARCH, "+callbacks.x._target_=nas.run.environment.subprocess.Popen"),
        "callbacks.x._target_: cannot be imported",
    ),
    "a target that is not allowed": (group("_target_: trap.Trap\n"), "data._target_: must start with one of nas."),
    "a prefix that only begins alike": (
        group("_target_: trap.Trap\n", "data=theirs", "allow=[tra]"),
        "data._target_: must start with one of nas., tra.",
    ),
    "settings of another kind": (group("_target_: nas.train.recipe.Recipe\n"), "data: must be"),
    "a runner of another kind": (
        group("_target_: nas.train.recipe.Recipe\n", "runner=theirs", name="runner/theirs.yaml"),
        "runner: must be",
    ),
    "a callback of hydra": (
        given(*SEARCH, "+hydra.callbacks.x._target_=trap.Trap"),
        "must not name what Hydra imports by itself",
    ),
    "a callback of hydra in a group": (
        group("# @package _global_\nhydra:\n  callbacks:\n    x: {_target_: trap.Trap}\n"),
        "theirs.yaml: hydra: must be about groups of nas",
    ),
    "a logger of hydra in a group": (
        group("# @package hydra.job_logging\nhandlers: {x: {(): trap.Trap}}\n"),
        "theirs.yaml: hydra: must be about groups of nas",
    ),
    "a billion laughs in a group": (group(bad.LAUGHS), "theirs.yaml: must not hold more than 100000 values"),
    "hydra spelt with escapes": (
        group('# @package _global_\n"\\x68ydra":\n  callbacks:\n    x: {_target_: trap.Trap}\n'),
        "theirs.yaml: hydra: must be about groups of nas",
    ),
    "a group that is put under hydra": (
        group("_target_: trap.Trap\n", "+data@hydra.callbacks.x=theirs"),
        "must not name what Hydra imports by itself",
    ),
    "a group from elsewhere": (given(*SEARCH, "data=../../groups/theirs"), "data: must be the name of a group's file"),
    "a tag of python in a group": (
        group("!!python/object/apply:exec ['raise SystemExit']\n"),
        "theirs",
    ),
    "brackets without end": (given(*SEARCH, "objectives=" + "[" * 300), "argument"),
    "a number beyond all bounds": (given(*SEARCH, "run.candidates=1e999"), "run.candidates: must be int, got inf"),
    "a name that leads elsewhere": (given(*SEARCH, "run.name=../../away"), "run.name: must be a plain folder name"),
    "a device that leads elsewhere": (given(*SEARCH, "device=../../away"), "device: no device named"),
    "a name that drives a terminal": (
        given(*SEARCH, f"space='{bad.ESCAPES}'"),
        r"space: no space named '\x1b]0;owned\x07\x1b[2J\u202e'",
    ),
}

SPACES: dict[str, tuple[Callable[[], Arguments], str]] = {
    "a tag of python": (space("network: !!python/object/apply:os.system ['touch canary']\n"), "theirs.yaml: line 1"),
    "a billion laughs": (space(bad.LAUGHS + "network: *a9\n"), "more than 100000 values once aliases are written out"),
    "nesting without end": (space("network: " + bad.NESTED), "theirs.yaml: "),
    "an alias that holds itself": (space("network: &a [*a]\n"), "theirs.yaml: "),
    "more than a space can be": (space("# " + "x" * 300_000), "theirs.yaml: must be at most 250 kB"),
    "no text at all": (
        with_files(lambda: Path("theirs.yaml").write_bytes(bytes(range(256))), "search", "space=theirs.yaml"),
        "theirs.yaml: must be UTF-8 text",
    ),
    "a key twice": (space("network: []\nnetwork: [classifier]\n"), "the key 'network' twice"),
    "a function as an operator": (space(operator("os.system")), "must come from an allowed package (none)"),
    "a module of theirs": (space(operator("trap.trap")), "must come from an allowed package (none)"),
    "sizes beyond all bounds": (space("network:\n  - {op: conv, channels: 1e999}\n  - classifier\n"), "channels"),
    "a layer as large as a machine": (
        space("network:\n  - {op: conv, channels: 99999999999999999999}\n  - classifier\n"),
        "theirs.yaml: network[0]",
    ),
    "a number that is none": (space("network:\n  - {op: conv, channels: .nan}\n  - classifier\n"), "channels"),
    "a repeat without end": (
        space("network:\n  - repeat: {times: 1000000000, block: {op: conv, channels: 8}}\n  - classifier\n"),
        "theirs.yaml: network[0]",
    ),
}

DATA: dict[str, tuple[Callable[[], Arguments], str]] = {
    "a pickle in an npz": (
        with_files(lambda: bad.pickled_npz(Path("a.npz")), *SMALL_DATA, "data=npz", "data.path=a.npz"),
        "a.npz must hold plain arrays, got pickled objects",
    ),
    "a bare pickle": (
        with_files(
            lambda: Path("a.npz").write_bytes(bad.pickle.dumps(bad.Trap())), *SMALL_DATA, "data=npz", "data.path=a.npz"
        ),
        "data: a.npz ",
    ),
    "an npz without end": (
        with_files(lambda: bad.endless_npz(Path("a.npz")), *SMALL_DATA, "data=npz", "data.path=a.npz"),
        "a.npz cannot be read",
    ),
    "numbers that are none": (
        with_files(
            lambda: np.savez("a.npz", images=np.full((40, 8, 8), np.nan), labels=np.arange(40) % 2),
            *SMALL_DATA,
            "data=npz",
            "data.path=a.npz",
        ),
        "must be finite, got NaN",
    ),
    "an image that is a program": (
        with_files(lambda: bad.photos(bad.POSTSCRIPT), *SMALL_DATA, "data=folder", "data.path=photos"),
        "it is in no known image format",
    ),
    "an image without end": (
        with_files(lambda: bad.photos(bad.png(60_000, 60_000)), *SMALL_DATA, "data=folder", "data.path=photos"),
        "cannot be read as an image",
    ),
    "an image of half a gigabyte": (
        with_files(lambda: bad.photos(bad.png(10_000, 12_000)), *SMALL_DATA, "data=folder", "data.path=photos"),
        "cannot be read as an image",
    ),
    "a table that is none": (
        with_files(
            lambda: Path("a.parquet").write_bytes(b"PAR1" + bytes(64) + b"PAR1"),
            *SMALL_DATA,
            "data=parquet",
            "data.path=a.parquet",
        ),
        "a.parquet cannot be read as Parquet",
    ),
    "a table that reads elsewhere": (
        with_files(bad.stray_table, *SMALL_DATA, "data=parquet", "data.path=tables/a.parquet"),
        "must name a file below tables",
    ),
}

DEVICES: dict[str, tuple[Callable[[], Arguments], str]] = {
    "a tag of python in a card": (
        with_files(lambda: bad.far_away("name: !!python/object/apply:os.getcwd []\n"), *AWAY),
        "device.yaml: line 1: is not valid YAML",
    ),
    "a billion laughs in a card": (
        with_files(lambda: bad.far_away(bad.LAUGHS + "name: far-away\nthreads: *a9\n"), *AWAY),
        "more than 100000 values once aliases are written out",
    ),
    "a card without end": (with_files(lambda: bad.far_away("name: " + bad.NESTED), *AWAY), "device.yaml"),
    "a day that does not exist": (
        with_files(lambda: bad.far_away("name: far-away\nthreads: 2026-99-99\n"), *AWAY),
        "device.yaml: line 2",
    ),
    "an option as a host": (
        with_files(
            lambda: bad.far_away("name: far-away\nwhere: {kind: ssh, host: -oProxyCommand=touch canary}\n"), *AWAY
        ),
        "where.host: must be a plain host name",
    ),
    "a pickle as a predictor": (
        with_files(lambda: bad.pickled_npz(bad.far_away() / "small-1x8x8-10-float32.npz", "record"), *AWAY),
        "device: far-away has no latency model",
    ),
    "a predictor without end": (
        with_files(lambda: bad.endless_npz(bad.far_away() / "small-1x8x8-10-float32.npz", "record"), *AWAY),
        "device: far-away has no latency model",
    ),
    "a predictor of other shapes": (
        with_files(lambda: bad.predictor(lambda record, arrays: arrays.update(weights=np.zeros(3))), *AWAY),
        "device: far-away has no latency model",
    ),
    "a predictor that answers with no number": (
        with_files(lambda: bad.predictor(lambda record, arrays: arrays["weights"].fill(np.nan)), *AWAY),
        "device: far-away has no latency model",
    ),
    "a predictor that says nothing of itself": (
        with_files(lambda: bad.predictor(lambda record, arrays: record.update(quality=[], host=3)), *AWAY),
        "device: far-away has no latency model",
    ),
    "measurements that are none": (
        with_files(
            bad.odd_measurements,
            "calibrate",
            "space=small.yaml",
            "data.limit=300",
            "samples=12",
            "blocks=3",
        ),
        "must be a measurement, it cannot be read",
    ),
}

RUNS: dict[str, tuple[Callable[[], Arguments], str]] = {
    "a line that is no evaluation": (with_files(lambda: bad.second_line('{"index": 1}'), *RESUME), "history.jsonl: "),
    "a line of nothing but brackets": (with_files(lambda: bad.second_line(bad.DEEP), *RESUME), "history.jsonl: line 2"),
    "a row beyond the space": (
        with_files(lambda: bad.history(lambda line: line.update(row=[30000] * len(line["row"]))), *RESUME),
        "is no row of the space small",
    ),
    "a row beyond all numbers": (
        with_files(lambda: bad.history(lambda line: line.update(row=[10**30] * len(line["row"]))), *RESUME),
        "history.jsonl: line 2: row must be a list of integers from -1 to 32767",
    ),
    "a digest that leads elsewhere": (
        with_files(lambda: bad.history(lambda line: line.update(digest="../../../away")), *RESUME),
        "history.jsonl: line 2: digest must be a word of letters and digits",
    ),
    "a digest of another network": (
        with_files(lambda: bad.history(lambda line: line.update(digest="0" * 16)), *RESUME),
        "must have the digest",
    ),
    "a metric beyond all bounds": (
        with_files(lambda: bad.history(lambda line: line["metrics"].update(accuracy=10**400)), *RESUME),
        "history.jsonl: line 2: metrics must be a number or null",
    ),
    "a lock that is a link": (
        with_files(lambda: bad.linked(RUN / ".lock", Path("../../precious.txt")), *RESUME),
        "must hold plain files, but .lock is none or leads out of it",
    ),
    "a history that is a link": (
        with_files(lambda: bad.linked(RUN / "history.jsonl", Path("../../precious.txt")), *RESUME),
        "must hold plain files, but history.jsonl is none or leads out of it",
    ),
    "a folder of models that is a link": (
        with_files(lambda: (bad.shutil.rmtree(RUN / "models"), bad.linked(RUN / "models", Path("/tmp"))), *RESUME),
        "must hold plain files, but models is none or leads out of it",
    ),
    "a history that is a pipe": (
        with_files(lambda: bad.a_pipe(RUN / "history.jsonl"), *RESUME),
        "must hold plain files, but history.jsonl is none or leads out of it",
    ),
    "a manifest of nothing but brackets": (
        with_files(lambda: (RUN / "manifest.json").write_text(bad.DEEP), *RESUME),
        "run.resume: cannot read",
    ),
    "a manifest that allows code": (
        with_files(lambda: bad.overrides("allow=[trap]"), *RESUME),
        "run.resume: the run was begun with allow=[trap], which a run folder cannot decide",
    ),
    "a manifest with a callback": (
        with_files(lambda: bad.overrides("callbacks=[wandb]"), *RESUME),
        "run.resume: the run was begun with callbacks=[wandb]",
    ),
    "a manifest with another cluster": (
        with_files(lambda: bad.overrides("runner=ray", "runner.address=10.0.0.1:6379"), "search", f"run.resume={RUN}"),
        "run.resume: the run was begun with runner.address=10.0.0.1:6379",
    ),
    "a manifest with an option": (
        with_files(lambda: bad.overrides("--config-dir=groups"), *RESUME),
        "run.resume: must hold fields of nas as overrides",
    ),
    "a manifest with options of hydra": (
        with_files(lambda: bad.overrides("+hydra.callbacks.x._target_=trap.Trap"), *RESUME),
        "run.resume: must hold fields of nas as overrides",
    ),
    "a manifest with a group from elsewhere": (
        with_files(lambda: bad.overrides("data=../../groups/theirs"), *RESUME),
        "data: must be the name of a group's file",
    ),
    "a manifest with groups that configure hydra": (
        with_files(bad.groups_of_the_run, *RESUME),
        "hydra: must be about groups of nas",
    ),
    "an earlier run of brackets": (
        with_files(lambda: bad.second_line(bad.DEEP), *SEARCH, f"run.warm_start={RUN}"),
        "history.jsonl: line 2",
    ),
    "a status of brackets": (
        with_files(lambda: (RUN / "manifest.json").write_text(bad.DEEP), "status", str(RUN)),
        "manifest.json: cannot be read",
    ),
    "a manifest that is a pipe": (
        with_files(lambda: bad.a_pipe(RUN / "manifest.json"), "status", str(RUN)),
        "manifest.json: cannot be read",
    ),
    "a merge with a broken run": (
        with_files(
            lambda: (bad.a_second_run(), bad.second_line("{}")), "runs", "merge", str(RUN), "runs/other", "out=new"
        ),
        "history.jsonl: line 2",
    ),
    "a merge into a run": (
        with_files(bad.a_second_run, "runs", "merge", str(RUN), "runs/other", f"out={RUN}"),
        "run.name: the run folder runs/tiny exists",
    ),
    "a comparison with a table that is none": (
        with_files(
            lambda: (bad.a_second_run(), (RUN / "front.csv").write_text('digest\n"' + "x" * 200_000 + '"\n')),
            "runs",
            "compare",
            str(RUN),
            "runs/other",
        ),
        "front.csv: cannot be read as CSV",
    ),
    "a list of nothing": (given("runs", "list", "nowhere"), "nowhere"),
    "an export with a class of theirs": (
        with_files(
            lambda: bad.manifest(config={"data": {"_target_": "trap.Trap"}}),
            *[text for text in EXPORT if not text.startswith("golden_only")],
        ),
        "data._target_: must start with one of nas.",
    ),
    "an export of brackets": (
        with_files(lambda: (RUN / "manifest.json").write_text(bad.DEEP), *EXPORT),
        "manifest.json",
    ),
}

MODELS: dict[str, tuple[Callable[[], Arguments], str]] = {
    "a file that lies elsewhere": (model(lambda at: bad.listed(at, "../../manifest.json")), "list files of its own"),
    "a file by its whole path": (model(lambda at: bad.listed(at, "/etc/passwd")), "list files of its own"),
    "a file that was changed": (
        model(lambda at: (at / "model.fp32.onnx").write_bytes(b"changed")),
        "was changed: its checksum is not that of the manifest",
    ),
    "a manifest of brackets": (
        model(lambda at: (at / "manifest.json").write_text(bad.DEEP)),
        "manifest.json: cannot be read",
    ),
    "a manifest of other types": (
        model(lambda at: (at / "manifest.json").write_text('{"format": 1, "contents": 3, "files": [[]]}')),
        "manifest.json",
    ),
    "no model at all": (model(lambda at: bad.replaced(at, "model.fp32.onnx", b"no model")), "model.fp32.onnx"),
    "weights that lie elsewhere": (model(lambda at: bad.onnx_beside(at, "../../../precious.txt")), "model.fp32.onnx"),
    "weights at a whole path": (model(lambda at: bad.onnx_beside(at, "/etc/passwd")), "model.fp32.onnx"),
    "golden outputs that are a pickle": (
        model(lambda at: (bad.pickled_npz(at / "g"), bad.replaced(at, "golden.npz", (at / "g").read_bytes()))),
        "golden.npz: cannot be read, images holds pickled objects",
    ),
    "golden outputs without end": (
        model(lambda at: (bad.endless_npz(at / "g"), bad.replaced(at, "golden.npz", (at / "g").read_bytes()))),
        "golden.npz: cannot be read",
    ),
    "weights that are a pickle": (
        model(lambda at: bad.replaced(at, "weights.safetensors", bad.pickle.dumps(bad.Trap()))),
        "weights.safetensors",
    ),
    "weights with a header without end": (
        model(lambda at: bad.replaced(at, "weights.safetensors", b"\xff" * 7 + b"\x7f" + b"{}")),
        "weights.safetensors",
    ),
    "an architecture with a tag of python": (
        model(lambda at: bad.replaced(at, "architecture.yaml", b"!!python/object/apply:os.getcwd []\n")),
        "architecture.yaml: line 1",
    ),
    "an architecture of laughs": (
        model(lambda at: bad.replaced(at, "architecture.yaml", bad.LAUGHS.encode())),
        "more than 100000 values once aliases are written out",
    ),
    "a profile of no model": (
        with_files(lambda: Path("a.onnx").write_bytes(b"\x08" * 1000), "profile", "a.onnx"),
        "a.onnx: must be an ONNX file",
    ),
    "a check of no model": (
        with_files(lambda: Path("a.onnx").write_bytes(b"\x08" * 1000), "check", "run=a.onnx"),
        "a.onnx: must be an ONNX file",
    ),
}

BUNDLES: dict[str, tuple[Callable[[], Arguments], str]] = {
    "a name that leads out": (
        with_files(lambda: bad.zipped(Path("given"), Path("b.zip"), added=b"run"), "verify", "b.zip"),
        "must hold names that stay inside, got '../canary'",
    ),
    "a name at the root": (
        with_files(
            lambda: bad.zipped(Path("given"), Path("b.zip"), renamed={"README.md": "/tmp/README.md"}),
            "verify",
            "b.zip",
        ),
        "must hold names that stay inside",
    ),
    "a file that unpacks without end": (
        with_files(bad.zip_without_end, "verify", "b.zip"),
        "README.md has another size than the manifest says",
    ),
    "a link in a zip": (with_files(bad.zip_with_link, "verify", "b.zip"), "is a link"),
    "a zip that broke off": (
        with_files(
            lambda: (
                bad.zipped(Path("given"), Path("a.zip")),
                Path("b.zip").write_bytes(Path("a.zip").read_bytes()[:5000]),
            ),
            "verify",
            "b.zip",
        ),
        "b.zip: cannot be unpacked, it is truncated or damaged",
    ),
    "a bundle of brackets": (
        with_files(lambda: bad.bundle_text(bad.DEEP), "verify", "given"),
        "manifest.json",
    ),
    "a bundle with no number": (
        with_files(bad.bundle_without_number, "verify", "given"),
        "manifest.json: must be JSON, NaN is no JSON number",
    ),
    "a bundle whose script was changed": (
        with_files(lambda: Path("given/verify.py").write_text(bad.CODE), "verify", "given"),
        "verify.py",
    ),
    "a bundle that lists what is not its own": (
        with_files(lambda: bad.bundle_lists("../precious.txt"), "verify", "given"),
        "must hold names that stay inside, got '../precious.txt'",
    ),
    "a bundle with a link": (
        with_files(lambda: bad.linked(Path("given/README.md"), Path("../precious.txt")), "verify", "given"),
        "README.md: must be there as a plain file",
    ),
}

EVERYTHING = {
    f"{kind}: {name}": case
    for kind, cases in (
        ("config", CONFIGS),
        ("space", SPACES),
        ("data", DATA),
        ("device", DEVICES),
        ("run", RUNS),
        ("model", MODELS),
        ("bundle", BUNDLES),
    )
    for name, case in cases.items()
}


@pytest.fixture(scope="session")
def bundled(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished search, its bundle, a file that must stay as it is, and the trap as a module."""
    place = copy_of(finished.workplace, tmp_path_factory.mktemp("hostile"))
    told = io.StringIO()
    with contextlib.chdir(place), contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        code = main([*EXPORT, "precisions=[float32]", "display=quiet"])
    assert code == 0, told.getvalue()
    (place / "trap.py").write_text(bad.MODULE)
    (place / "precious.txt").write_text("three years of work")
    return place


@pytest.fixture
def trapped(
    bundled: Path, here: Here, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The current folder is a copy of it. Gives the file that is written when anything of theirs is run."""
    canary = tmp_path_factory.mktemp("canary") / "canary"
    monkeypatch.setenv("NAS_CANARY", str(canary))
    monkeypatch.syspath_prepend(str(here.folder))  # what is never imported may well be found
    monkeypatch.setitem(sys.modules, "trap", None)
    monkeypatch.delitem(sys.modules, "trap")
    copy_of(bundled, here.folder)
    return canary


def as_it_is() -> dict[str, str]:
    """The current folder: where links lead, what files hold."""
    found = {}
    for path in sorted(Path().rglob("*")):
        if path.is_symlink():
            found[str(path)] = f"link to {os.readlink(path)}"
        elif path.name != ".lock" and not path.is_fifo():
            found[str(path)] = path.read_bytes().hex() if path.is_file() else "folder"
    return found


@pytest.mark.parametrize("name", EVERYTHING)
def test_what_means_harm_gets_one_line_and_does_none(name: str, trapped: Path, here: Here) -> None:
    make, expected = EVERYTHING[name]
    arguments = make()
    before = as_it_is()
    outcome = here.nas(*arguments)
    assert_one_clear_line(outcome, expected)
    assert outcome.err.rstrip("\n").isprintable()
    assert outcome.out.replace("\n", "").isprintable()
    assert not trapped.exists()
    assert as_it_is() == before
    assert Path("precious.txt").read_text() == "three years of work"


def test_a_run_that_is_only_looked_at_drives_no_terminal(trapped: Path, here: Here) -> None:
    bad.history(lambda line: line.update(status="failed", error=f"{bad.ESCAPES}; log ../../precious.txt", metrics={}))
    bad.manifest(objectives=[f"accuracy{bad.ESCAPES}"], devices=[{"name": bad.ESCAPES}], space={"name": bad.ESCAPES})
    (RUN / "status.json").unlink()
    before = as_it_is()
    for arguments in (("status", str(RUN)), ("runs",), ("runs", "list", "runs", "--json")):
        outcome = here.nas(*arguments)
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.out.replace("\n", "").isprintable()
        assert "three years" not in outcome.out
    assert (as_it_is(), trapped.exists()) == (before, False)


def test_names_on_a_page_stay_text(trapped: Path, here: Here) -> None:
    tag = "</script><img src=x onerror=alert(1)><!--"
    bad.history(lambda line: line.update(status="failed", error=tag, worker=tag, choices={tag: tag}))
    bad.manifest(devices=[{"name": tag}], space={"name": tag, "digest": tag}, command=tag, notes=[tag])
    Path(bad.a_second_run()).rename(Path("runs") / "<img src=x onerror=alert(2)>")
    outcome = here.nas("runs", "compare", str(RUN), "runs/<img src=x onerror=alert(2)>", "out=page.html")
    assert outcome.code == 0, outcome.err
    for page in (Path("page.html"), write_report(RUN)):
        assert "<img" not in page.read_text()
        assert "default-src 'none'" in page.read_text()


@pytest.mark.parametrize("name", ["bundle: a name that leads out", "run: a manifest that is a pipe"])
def test_a_process_of_its_own_refuses_them_too(name: str, trapped: Path, here: Here) -> None:
    make, expected = EVERYTHING[name]
    arguments = make()
    before = as_it_is()
    assert_one_clear_line(run_nas(*arguments, folder=here.folder), expected)
    assert (as_it_is(), trapped.exists()) == (before, False)


def test_there_are_at_least_fifty() -> None:
    assert len(EVERYTHING) >= 50
