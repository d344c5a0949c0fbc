"""Keeps out what runs code that came in a file (docs/security.md). What is allowed has its reason beside it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "nas"
FILES = sorted(PACKAGE.rglob("*.py"))

# Modules that turn bytes into objects of any kind, or unpack wherever a name says.
MODULES = {
    "pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "tarfile", "xml", "imp",
    "ctypes", "pty", "telnetlib", "ftplib", "xmlrpc", "code", "codeop",
}  # fmt: skip
CALLS = {
    "eval": "runs text",
    "exec": "runs text",
    "compile": "makes code of text",
    "__import__": "imports by name",
    "os.system": "runs a shell",
    "os.popen": "runs a shell",
    "subprocess.getoutput": "runs a shell",
    "subprocess.getstatusoutput": "runs a shell",
    "torch.load": "unpickles; weights are safetensors",
    "torch.jit.load": "runs what is in the file",
    "torch.hub.load": "downloads and runs code",
    "numpy.loadtxt": "decompresses by ending; arrays are npz",
    "hydra.utils.instantiate": "imports any name; nas.cli.instantiate does not",
    "hydra.utils.call": "calls any name",
    "yaml.full_load": "makes objects",
    "yaml.unsafe_load": "makes objects",
    "yaml.load_all": "knows no bound for aliases",
    "yaml.safe_load": "knows no bound for aliases; use nas.space.load",
    "yaml.safe_load_all": "knows no bound for aliases; use nas.space.load",
    "tempfile.mktemp": "names a file that somebody else may make",
    "shutil.unpack_archive": "unpacks wherever names say",
}
METHODS = {
    "read_pickle": "unpickles",
    "extractall": "unpacks wherever names say",
    "extract": "unpacks wherever a name says",
    "load_library": "runs what is in the file",
    "register_custom_ops_library": "runs what is in the file",
}
# File -> why it may import by a name that is not written out there.
IMPORTING = {
    "cli/instantiate.py": "what a config names, of nas and of prefixes in `allow`",
    "model/operators/custom.py": "operators of spaces, of prefixes in `allow`",
    "train/compression/teachers.py": "a teacher that the user names, of prefixes in `allow`",
    "deploy/targets/registry.py": "targets, by a literal table beside it",
    "deploy/targets/extras.py": "packages of extras, by a literal table",
    "deploy/targets/executorch_process.py": "functions of nas.deploy.targets, asked for by the parent process",
    "deploy/bundle/checking/runtimes.py": "runtimes, by a literal table beside it",
    "run/callbacks/extras.py": "packages of callbacks, by a literal table",
}
# File -> what it starts. None starts a shell.
STARTING = {
    "commands/export.py": "the check of the bundle that was just written, by this Python",
    "deploy/targets/executorch_process.py": "a converter, by this Python",
    "deploy/targets/microcontroller_code.py": "this machine's C++ compiler, and the program it made",
    "deploy/targets/tensorrt.py": "`bash -n` on a generated script",
    "device/counters.py": "nvidia-smi, for energy",
    "device/where/adb.py": "adb, as the device's card says",
    "device/where/link.py": "ssh, as the device's card says",
    "run/environment.py": "git, for the commit",
    "run/ray_address.py": "a probe of Ray's head, by this Python",
}
LOADING = {
    "run/tuning.py": "Ray Tune keeps pickles: its folder is sealed by nas.run.tuning_seal before it is read",
}


def calls_in(file: Path) -> Iterator[tuple[str, ast.Call]]:
    """Each call with its whole name as far as it is known: ``np.load`` is ``numpy.load``."""
    tree = ast.parse(file.read_text())
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name.split(".")[0]: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            head, dot, rest = ast.unparse(node.func).partition(".")
            yield names.get(head, head) + dot + rest, node


def imports_in(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


def keyword(call: ast.Call, name: str) -> str | None:
    return next((ast.unparse(one.value) for one in call.keywords if one.arg == name), None)


def is_written_out(call: ast.Call) -> bool:
    return bool(call.args) and isinstance(call.args[0], ast.Constant)


def wrong_with(name: str, call: ast.Call, place: str) -> str:
    """What is wrong with a call; "" if nothing."""
    method = name.rpartition(".")[2]
    if name in CALLS:
        return CALLS[name]
    if "." in name and method in METHODS:
        return METHODS[method]
    if name == "yaml.load" and keyword(call, "Loader") != "PlainLoader":
        return "must load plain data only, with PlainLoader"
    if name in ("yaml.compose", "yaml.compose_all") and keyword(call, "Loader") != "PlainLoader":
        return "knows no bound for aliases"
    if keyword(call, "allow_pickle") not in (None, "False"):
        return "unpickles"
    said = keyword(call, "mmap_mode") or keyword(call, "allow_pickle")
    # Targets read what they wrote themselves, in folders of their own.
    if name == "numpy.load" and not said and not place.startswith("deploy/targets/"):
        return "must say allow_pickle=False, or be nas.device.archives.read_arrays"
    if keyword(call, "shell") not in (None, "False"):
        return "runs a shell"
    if keyword(call, "trust_remote_code") not in (None, "False"):
        return "runs code of a data set or model"
    if name == "importlib.import_module" and not is_written_out(call) and place not in IMPORTING:
        return "imports a name that is not written out there"
    if name.startswith(("subprocess.", "os.exec", "os.spawn", "pexpect.")) and place not in STARTING:
        return "starts a program"
    if name.endswith("Tuner.restore") and place not in LOADING:
        return "unpickles"
    return ""


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_file_neither_unpickles_nor_runs_nor_imports_what_came_in_a_file(file: Path) -> None:
    place = file.relative_to(PACKAGE).as_posix()
    assert not imports_in(file) & MODULES
    found = [
        f"line {call.lineno}: {name} {wrong}"
        for name, call in calls_in(file)
        if (wrong := wrong_with(name, call, place))
    ]
    assert not found


@pytest.mark.parametrize(
    "text",
    [
        "import pickle\npickle.loads(b'')",
        "eval('1')",
        "import torch\ntorch.load('a')",
        "import numpy as np\nnp.load('a')",
        "import numpy as np\nnp.load('a', allow_pickle=True)",
        "import yaml\nyaml.load('a', Loader=yaml.Loader)",
        "from yaml import safe_load\nsafe_load('a')",
        "from hydra.utils import instantiate\ninstantiate({})",
        "import subprocess as s\ns.run('ls')",
        "from os import system as go\ngo('ls')",
        "import importlib\nimportlib.import_module(name)",
        "import pandas as pd\npd.read_pickle('a')",
        "archive.extractall('/')",
        "import datasets\ndatasets.load_dataset('a', trust_remote_code=True)",
    ],
)
def test_what_is_forbidden_is_found(text: str, tmp_path: Path) -> None:
    file = tmp_path / "one.py"
    file.write_text(text)
    assert imports_in(file) & MODULES or any(wrong_with(name, call, "one.py") for name, call in calls_in(file))


def test_who_is_allowed_something_still_does_it() -> None:
    does = {"importlib.import_module": IMPORTING, "subprocess.": STARTING, "ray.tune.Tuner.restore": LOADING}
    idle = [
        f"{place}: {what}"
        for what, places in does.items()
        for place in places
        if not any(name.startswith(what) for name, _ in calls_in(PACKAGE / place))
    ]
    assert idle == []


def test_no_page_parses_text_as_markup_or_code() -> None:
    parsing = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc"
    )
    scripts = sorted((PACKAGE / "report" / "assets").glob("*"))
    assert scripts
    assert [file.name for file in scripts if parsing.search(file.read_text())] == []


def test_no_page_fetches_anything() -> None:
    for file in (PACKAGE / "report" / "assets").glob("*.html"):
        assert not re.search(r"(?:src|href)=[\"'](?!#)", file.read_text()), file.name
