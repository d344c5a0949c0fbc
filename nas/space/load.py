"""Reading a search space from a YAML file, and YAML from anywhere as plain data.

Responsible for what can be wrong with a file before anything else sees it: missing, not text, not YAML, a key twice,
aliases that stand for far more than the file holds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from nas.errors import UserError
from nas.space.space import SearchSpace

_MAX_BYTES = 250_000
_MAX_KEYS = 10_000
_MAX_NODES = 100_000  # that a file stands for once its aliases are written out
LAUGHS = f"more than {_MAX_NODES} values once aliases are written out"
"""What is wrong with a file of aliases of aliases."""


def load_space(path: Path | str) -> SearchSpace:
    """The space in a YAML file; named after the file where it does not name itself.

    Raises:
        UserError: the file cannot be read, is not YAML (with the line), or breaks a rule of the grammar (with the key).
    """
    path = Path(path)
    template = read_yaml(path)
    return SearchSpace.from_template(template, source=str(path), name=path.stem)


def read_yaml(path: Path) -> Any:
    """Plain data from a YAML file of at most 250 kB.

    Raises:
        UserError: it cannot be read, or is not YAML.
    """
    return parse_yaml(_text(path), source=str(path))


def parse_yaml(text: str, *, source: str) -> Any:
    """Plain data from YAML text. Raises `UserError` with the line for a syntax error or a repeated key."""
    try:
        return yaml.load(text, Loader=PlainLoader)
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


class PlainLoader(yaml.SafeLoader):
    """A SafeLoader that refuses a key that stands twice in one mapping, and says where a value cannot be read.

    Aliases share what they stand for, but whoever walks over it, or prints it, meets each of them: a few lines of
    aliases of aliases are more than fits anywhere, and are refused.
    """

    def compose_document(self) -> yaml.Node | None:
        root: yaml.Node | None = super().compose_document()
        if root is not None:
            _written_out(root, {}, set())
        return root

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


def _written_out(node: yaml.Node, known: dict[int, int], open_nodes: set[int]) -> int:
    """Nodes below and with this one, those of aliases each time that they stand somewhere."""
    key = id(node)
    if isinstance(node, yaml.ScalarNode) or key in open_nodes:  # one that holds itself is found out by its depth
        return 1
    if key not in known:
        open_nodes.add(key)
        pairs = isinstance(node, yaml.MappingNode)
        below = [child for pair in node.value for child in pair] if pairs else node.value
        known[key] = 1 + sum(_written_out(child, known, open_nodes) for child in below)
        open_nodes.remove(key)
    if known[key] > _MAX_NODES:
        raise yaml.constructor.ConstructorError(None, None, LAUGHS, node.start_mark)
    return known[key]


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
