"""Which layer of the network an operator of the file belongs to.

Responsible for reading names: exporters write the module's path into operators (``/s1_cell/edges/0/conv/Conv``), into
the tensors that they make, or into metadata.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Sequence

from onnx import GraphProto, NodeProto

_OUTPUT = re.compile(r"_output_\d+$")
_SCOPES = "pkg.torch.onnx.name_scopes"
_OUR_STAGE = re.compile(r"s\d+_\w+$")
_QUANTISING = frozenset({"QuantizeLinear", "DequantizeLinear"})
# Stages are told one level deeper while one of them holds more than this share of the operators.
_MOST_IN_A_STAGE = 0.5
_DEEPEST = 4

Path = tuple[str, ...]


def label_operators(graph: GraphProto) -> list[Path]:
    """The module path of every operator of a file, in its order; () where its name tells none.

    A quantising operator belongs to what made the tensor. An operator without a name, one of several that stand for
    an operator of the network, belongs to what reads it.
    """
    constants = {tensor.name for tensor in graph.initializer}
    own = [() if node.op_type in _QUANTISING else _own_path(node) for node in graph.node]
    maker = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    readers: dict[str, list[int]] = {}
    for index, node in enumerate(graph.node):
        for name in node.input:
            readers.setdefault(name, []).append(index)
    for index, node in enumerate(graph.node):  # makers stand before readers
        if not own[index] and node.op_type in _QUANTISING and node.input[0] not in constants:
            own[index] = own[maker[node.input[0]]] if node.input[0] in maker else ()
    for index in reversed(range(len(graph.node))):
        if not own[index]:
            after = [
                own[reader] for name in graph.node[index].output for reader in readers.get(name, ()) if own[reader]
            ]
            own[index] = after[0] if after else ()
    return own


def stage_depth(paths: Sequence[Path]) -> int:
    """How many parts of a path name the stage: as few as tell the network's parts apart."""
    known = [path for path in paths if path]
    if not known or all(_OUR_STAGE.match(path[0]) for path in known):
        return 1
    depth = 1
    while depth < _DEEPEST:
        counts = Counter(path[:depth] for path in known)
        largest, count = counts.most_common(1)[0]
        deeper = {path[: depth + 1] for path in known if path[:depth] == largest}
        if count <= _MOST_IN_A_STAGE * len(known) or (len(deeper) == 1 and len(counts) > 1):
            break
        depth += 1
    return depth


def _own_path(node: NodeProto) -> Path:
    scope = scope_of(node)
    if scope:
        return scope
    if "/" in node.name:
        return _parts(node.name)[:-1]
    named = next((name for name in node.output if "/" in name), "")
    return _parts(_OUTPUT.sub("", named))[:-1]


def scope_of(node: NodeProto) -> Path:
    """The module that torch's exporter says an operator is from; () where it says none.

    It writes ``['', 's0_conv', 's0_conv.conv', 'conv2d']``: the modules from the outside in, then the operator.
    """
    text = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "[]")
    try:
        scopes = [str(scope) for scope in ast.literal_eval(text)]
    except (ValueError, SyntaxError, TypeError):
        return ()
    return tuple(scopes[-2].split(".")) if len(scopes) > 1 and scopes[-2] else ()


def _parts(name: str) -> Path:
    """The parts of a path, each without what it repeats of the one before: ``/blocks/blocks.2`` is blocks, 2."""
    raw = [part for part in name.split("/") if part]
    return tuple(
        part.removeprefix(f"{before}.") if part.startswith(f"{before}.") else part
        for before, part in zip(["", *raw], raw, strict=False)
    )
