"""What the workers of a cluster are sent: this package, the user's own modules, packages to install, variables.

Responsible for Ray's ``runtime_env``. Ray caches what is sent by its contents: once a node, however many candidates.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nas
from nas.errors import UserError

if TYPE_CHECKING:
    from nas.run.ray_runner import RayRunner

_IGNORED = ["__pycache__", "*.pyc", ".git", "runs", ".venv"]
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Whoever sets these for workers opens the cluster, or has them read code from where they should not.
_KEPT = re.compile(r"RAY_.*|LD_.*|PYTHONSTARTUP")


def runtime_env(runner: RayRunner, modules: Sequence[str], *, num_threads: int) -> dict[str, Any]:
    """Ray's ``runtime_env`` for a runner that joins a cluster.

    Args:
        runner: how it is configured.
        modules: import names of the user's own packages, of which the source is sent.
        num_threads: of the numerical libraries in a worker.

    Raises:
        UserError: the source of a module is not found here.
    """
    environment: dict[str, Any] = {
        "env_vars": {"OMP_NUM_THREADS": str(num_threads), **{key: str(value) for key, value in runner.env.items()}},
        "excludes": _IGNORED,
    }
    sent = [Path(nas.__file__).resolve().parent] if runner.ship else []
    sent += [source(module) for module in modules if module.split(".")[0] != "nas"]
    if sent:
        environment["py_modules"] = list(dict.fromkeys(str(path) for path in sent))
    if runner.pip:
        environment["pip"] = list(runner.pip)
    if runner.working_dir is not None:
        environment["working_dir"] = str(Path(runner.working_dir).expanduser().resolve())
    return environment


def source(module: str) -> Path:
    """The folder or file of an importable package or module, by its top-level name."""
    top = module.split(".")[0]
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    places = list(spec.submodule_search_locations or ()) if spec else []
    if places:
        return Path(places[0])
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise UserError("allow", f"cannot find the source of '{top}' to send it to workers", "is it importable here?")
    return Path(spec.origin)


def check_packages(packages: Sequence[str]) -> None:
    """Raises `UserError` where ``runner.pip`` is no list of requirements."""
    if isinstance(packages, str) or not all(isinstance(one, str) and one.strip() for one in packages):
        raise UserError("runner.pip", f"must be a list of packages, got {packages!r}", "e.g. runner.pip=[timm==1.0.9]")
    for one in packages:
        if one.strip().startswith("-"):
            raise UserError("runner.pip", f"must name packages, got the option {one!r}", "set PIP_... on the nodes")


def check_variables(variables: Mapping[str, str]) -> None:
    """Raises `UserError` where ``runner.env`` holds what is no variable, or one that is not the search's to set."""
    for name in variables:
        if not _NAME.fullmatch(str(name)):
            raise UserError("runner.env", f"must hold names of variables, got {name!r}")
        if _KEPT.fullmatch(name):
            raise UserError("runner.env", f"must leave {name} alone", "set it where the nodes are started")
