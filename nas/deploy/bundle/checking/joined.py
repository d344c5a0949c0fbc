"""The check of a bundle as one script, which a bundle carries as ``verify.py``.

Responsible for the joining: the modules of this package behind each other, their imports of each other left out, all
other imports at the head. The script needs Python 3.9, numpy, and the runtimes of the files that it is to run.
"""

from __future__ import annotations

import ast
from importlib.resources import files

_MODULES = ("findings", "json_schema", "archive", "runtimes", "check")
_OWN = "nas."
_HEAD = '''\
#!/usr/bin/env python3
"""Checks this bundle: python verify.py [folder or zip]

Structure, checksums, and the answers of its model files to the golden inputs. Needs Python 3.9 or later and numpy; a
file is run where its runtime is installed. Exit code 0: it holds; 2: it does not, and one line says what.

SPDX-License-Identifier: Apache-2.0
"""

from __future__ import annotations

'''
_FOOT = """

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


def standalone_text() -> str:
    """The script's text; the same each time."""
    imports: set[str] = {"import sys"}
    parts: list[str] = []
    defined: set[str] = set()
    for module in _MODULES:
        text = (files(__package__) / f"{module}.py").read_text(encoding="utf-8")
        body = ast.parse(text).body
        last_import = max(node.end_lineno or 0 for node in body if isinstance(node, ast.Import | ast.ImportFrom))
        for node in body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                imports |= _kept(node)
            names = _defined(node)
            assert not names & defined, f"{names & defined} is defined in two of the modules that are joined"
            defined |= names
        parts.append("\n".join(text.splitlines()[last_import:]).strip("\n"))
    return _HEAD + "\n".join(sorted(imports)) + "\n\n\n" + "\n\n\n".join(parts) + "\n" + _FOOT


def _kept(node: ast.Import | ast.ImportFrom) -> set[str]:
    """The import as lines of one name each; none where it is of a module that is joined."""
    if isinstance(node, ast.Import):
        return {ast.unparse(ast.Import(names=[alias])) for alias in node.names}
    module = node.module or ""
    if module == "__future__" or module.startswith(_OWN):
        return set()
    return {f"from {module} import {alias.name}" for alias in node.names}


def _defined(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.AnnAssign):
        return {ast.unparse(node.target)}
    if isinstance(node, ast.Assign):
        return {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return set()
