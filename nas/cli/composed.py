"""What Hydra is about to compose, checked before it does.

Responsible for the classes that Hydra imports by itself: any file that it composes may name callbacks and loggers,
which it makes before `nas.cli.instantiate` is asked. So groups are names and no paths, and a folder of groups says
nothing about Hydra.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from nas.errors import UserError, in_file

_HYDRA = re.compile(r"(?:^|[\s/@.])hydra\b")
_IMPORTING = re.compile(r"@hydra|hydra[./](?:callbacks|job_logging|hydra_logging|searchpath)|_target_|\(\)")
_PACKAGE = re.compile(r"^\s*#\s*@package\s+(\S+)", re.MULTILINE)
_PATH = re.compile(r"(?:^|[\[,'\"\s])(?:/|[\w./-]*\.\.(?:/|$))")
_ENDINGS = (".yaml", ".yml")
_ESCAPED = re.compile(r"\\[xuU\r\n]")  # how a quoted key may be spelt
_LONGEST = 250_000  # characters of a YAML file
_MOST_FOLDERS = 20_000


def check_override(argument: str, groups: frozenset[str]) -> None:
    """Refuses an override that has Hydra import something, or that takes a group from somewhere else.

    Args:
        argument: ``field=value``, also with ``+`` or ``~`` in front.
        groups: names of the groups that there are.

    Raises:
        UserError: it does.
    """
    key, _, value = argument.lstrip("+~").partition("=")
    if _HYDRA.search(key) and _IMPORTING.search(argument):
        problem = "must not name what Hydra imports by itself"
        advice = "classes come from groups of nas, and from packages in allow"
        raise UserError(f"argument '{argument}'", problem, advice)
    group = key.partition("@")[0]
    if (group in groups or "/" in group) and _PATH.search(value):
        raise UserError(group, f"must be the name of a group's file, got '{value}'", "--config-dir says where it lies")


def check_groups(folder: Path) -> None:
    """Refuses a folder of groups that configures Hydra itself: only groups of nas are taken from there.

    Files that do not speak of Hydra are not looked into: what is wrong with them is told when one is chosen.

    Raises:
        UserError: a file does, or is not to be understood and might; or its aliases stand for more than fits anywhere.
    """
    for file in _files(folder):
        place = "/".join(file.relative_to(folder).parts[:-1])
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):  # nor can Hydra read it
            continue
        _check_aliases(file, text)
        if "hydra" not in text and not _ESCAPED.search(text) and not _HYDRA.search(place):
            continue
        if len(text) > _LONGEST:
            raise UserError(str(file), f"must be at most {_LONGEST // 1000} kB", "is it a group of settings?")
        from nas.space.load import parse_yaml  # it brings numpy, which `--help` need not wait for

        names = (place, *_PACKAGE.findall(text), *_names_in(parse_yaml(text, source=str(file))))
        found = next((name for name in names if _HYDRA.search(name)), None)
        if found is not None:
            rule = f"must be about groups of nas, got '{found}'"
            raise UserError(in_file(file, "hydra"), rule, "options of Hydra go on the command line")


def _check_aliases(file: Path, text: str) -> None:
    if "*" not in text or "&" not in text:
        return
    import yaml

    from nas.space.load import LAUGHS, PlainLoader

    try:
        for _ in yaml.compose_all(text, Loader=PlainLoader):
            pass
    except yaml.MarkedYAMLError as error:
        if LAUGHS in str(error.problem):
            raise UserError(str(file), f"must not hold {error.problem}", "write the values out") from None
    except yaml.YAMLError:
        pass  # told when it is chosen


def _files(folder: Path) -> Iterator[Path]:
    """YAML files at any depth, also behind links, each folder once."""
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        if len(seen) >= _MOST_FOLDERS:
            raise UserError("--config-dir", f"must hold at most {_MOST_FOLDERS} folders, {folder} has more")
        seen.add(real)
        folders.sort()
        files = (Path(place) / name for name in sorted(names) if name.endswith(_ENDINGS))
        yield from (file for file in files if file.is_file())


def _names_in(value: object) -> Iterator[str]:
    """Keys of all mappings, and the entries of defaults lists."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            if key == "defaults" and isinstance(item, list):
                yield from (entry for entry in item if isinstance(entry, str))
            yield from _names_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from _names_in(item)
