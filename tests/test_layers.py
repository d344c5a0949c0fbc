"""Keeps the order of the layers and the homes of third parties (docs/design.md)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "nas"
ORDER = [
    "errors", "units", "locate", "space", "problem", "model", "device",
    "strategy", "train", "deploy", "run", "report", "commands", "cli",
]  # fmt: skip
EVERYWHERE = {"numpy", "yaml"}
HOMES = {
    "moocore": {"problem"},
    "torch": {"model", "train", "deploy"},
    "scipy": {"device", "strategy", "problem", "report", "deploy"},
    "sklearn": {"device", "train"},
    "psutil": {"device", "run"},
    "optuna": {"strategy", "run"},
    "onnxruntime": {"device", "deploy"},
    "onnx": {"deploy"},
    "torch_pruning": {"train"},
    "safetensors": {"train", "deploy"},
    "pandas": {"train", "run", "report"},
    "pyarrow": {"train"},
    "PIL": {"train"},
    "datasets": {"train"},
    "torchvision": {"train"},
    "ray": {"run"},
    "hydra": {"cli"},
    "omegaconf": {"cli"},
    "rich": {"cli"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def imported_names(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found.add(node.module or "")
    return found


def package_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_file_imports_only_from_the_left_and_each_third_party_at_its_home(file: Path) -> None:
    home = package_of(file)
    for name in imported_names(file):
        top, _, rest = name.partition(".")
        if top == "nas":
            other = rest.split(".")[0]
            if home == "__init__" or not other:
                continue
            assert other in ORDER, f"imports nas.{other}, which has no place in the order"
            assert ORDER.index(other) <= ORDER.index(home), f"nas.{home} imports nas.{other} to its right"
        elif top in HOMES:
            assert home in HOMES[top], f"{top} has its home in {sorted(HOMES[top])}, not in nas.{home}"
        else:
            import sys

            assert top in sys.stdlib_module_names or top in EVERYWHERE, f"{top} has no home"


def test_every_package_has_its_place_in_the_order() -> None:
    packages = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.name[0] != "_"}
    assert packages == set(ORDER)
