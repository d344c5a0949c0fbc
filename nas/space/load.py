"""Reading a search space from a YAML file.

Responsible for what can be wrong with a file before the grammar sees it: missing, not text, not YAML, a key twice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from nas.errors import UserError
from nas.space.space import SearchSpace

_MAX_BYTES = 250_000
_MAX_KEYS = 10_000


def load_space(path: Path | str) -> SearchSpace:
    """The space in a YAML file; named after the file where it does not name itself.

    Raises:
        UserError: the file cannot be read, is not YAML (with the line), or breaks a rule of the grammar (with the key).
    """
    path = Path(path)
    template = parse_yaml(_text(path), source=str(path))
    return SearchSpace.from_template(template, source=str(path), name=path.stem)


def parse_yaml(text: str, *, source: str) -> Any:
    """Plain data from YAML text. Raises `UserError` with the line for a syntax error or a repeated key."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark, start = error.problem_mark or error.context_mark, error.context_mark
        where = f"{source}: line {mark.line + 1}, column {mark.column + 1}" if mark else source
        # A bracket that is not closed is noticed far behind it.
        begun = f" ({error.context} that begins in line {start.line + 1})" if mark and start and start != mark else ""
        raise UserError(where, f"is not YAML: {_one_line((error.problem or error.context or '') + begun)}") from None
    except yaml.YAMLError as error:
        raise UserError(source, f"is not YAML: {_one_line(str(error))}") from None
    except RecursionError:
        raise UserError(source, "must not be nested that deep", "flatten it") from None


class _Loader(yaml.SafeLoader):
    """A SafeLoader that refuses a key that stands twice in one mapping, and says where a value cannot be read."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, OverflowError) as error:
            # Dates that do not exist and numbers beyond all bounds come out of the constructors like this.
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from None

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        own: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in own:
                    problem = f"the key {key.value!r} twice in one mapping"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                own.add(key.value)
        super().flatten_mapping(node)
        if len(node.value) > _MAX_KEYS:
            raise yaml.constructor.ConstructorError(None, None, f"more than {_MAX_KEYS} keys", node.start_mark)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UserError(str(path), f"must be at most {_MAX_BYTES // 1000} kB, got {path.stat().st_size // 1000} kB")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(str(path), f"must be UTF-8 text, got other bytes at {error.start}") from None
    except OSError as error:
        raise UserError(str(path), f"must be a readable file, got '{error.strerror or error}'") from None


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 160 else f"{line[:157]}..."
