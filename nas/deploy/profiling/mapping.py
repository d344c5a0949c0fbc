"""From the runtime's operators back to those of the file.

Responsible for saying which operators of the file a kernel computes, and which one gives it its place in the network.
Three ways, the surest first: the kernel's name was made from an operator's; the tensor that it makes is one of the
file's; it stands between kernels that are known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnx import NodeProto

from nas.deploy.profiling.graphs import SOURCE_PREFIX, Graphs
from nas.deploy.profiling.records import Mapped
from nas.deploy.profiling.work import CONVERTING, HEAVY, LIGHT

_FROM_NAME = re.compile(rf"{SOURCE_PREFIX}(\d+)(?:\D|$)")
_FROM_TENSOR = re.compile(r"(.+?)(?:_nchwc)?(?:_token_\d+)?$")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a kernel comes from.

    Attributes:
        operator: index of the operator in the file that gives it its place: the convolution or matrix product among
            those that it computes, or else the one that it is named after; None where nothing does.
        mapped: how that was found.
        computes: indices of the operators in the file that it computes, in order; empty for what the runtime added.
    """

    operator: int | None
    mapped: Mapped
    computes: tuple[int, ...]


def origins(graphs: Graphs) -> list[Origin]:
    """The origin of every operator of the runtime's graph, in its order."""
    kernels = list(graphs.runtime.graph.node)
    source = list(graphs.source.graph.node)
    maker = {name: index for index, node in enumerate(source) for name in node.output if name}
    found = [_direct(node, name, maker, source) for node, name in zip(kernels, graphs.kernel_names, strict=True)]
    claimed = _claimed(kernels, source, found, maker)
    places = _spread([operator for operator, _ in found], kernels)
    return [
        Origin(
            operator=next((op for op in claimed.get(index, ()) if source[op].op_type in HEAVY), places[index]),
            mapped=mapped if operator is not None else "neighbour" if places[index] is not None else "none",
            computes=tuple(claimed.get(index, ())),
        )
        for index, (operator, mapped) in enumerate(found)
    ]


def _direct(
    node: NodeProto, name: str, maker: Mapping[str, int], source: Sequence[NodeProto]
) -> tuple[int | None, Mapped]:
    """The operator that a kernel's name, or the tensor that it makes, was named after."""
    match = _FROM_NAME.match(name)
    if match:
        return int(match.group(1)), "name"
    tensor = _FROM_TENSOR.match(name)
    if tensor and tensor.group(1) in maker and "_nchwc" in name:
        return maker[tensor.group(1)], "name"
    made = next((maker[output] for output in node.output if output in maker), None)
    return made, "none" if made is None else "tensor"


def _claimed(
    kernels: Sequence[NodeProto],
    source: Sequence[NodeProto],
    found: Sequence[tuple[int | None, Mapped]],
    maker: Mapping[str, int],
) -> dict[int, list[int]]:
    """Kernel -> the file's operators that it computes."""
    kernel_of: dict[int, int] = {}
    for index, (operator, mapped) in enumerate(found):
        if operator is not None and _computes(kernels[index], source[operator], mapped):
            kernel_of.setdefault(operator, index)
    for operator, index in list(kernel_of.items()):
        _claim_before(operator, kernels[index], index, source, maker, kernel_of)
    ranks = _ranks(kernels)
    for operator, node in enumerate(source):  # makers stand before readers
        if operator not in kernel_of and node.op_type in LIGHT:
            before = [kernel_of[maker[name]] for name in node.input if name in maker and maker[name] in kernel_of]
            if before:  # a sum goes into the later of two convolutions
                kernel_of[operator] = max(before, key=lambda kernel: ranks[kernel])
    claimed: dict[int, list[int]] = {}
    for operator in sorted(kernel_of):
        index = kernel_of[operator]
        claimed.setdefault(index, []).append(operator)
    return claimed


def _computes(kernel: NodeProto, operator: NodeProto, mapped: Mapped) -> bool:
    """Whether a kernel computes the operator that it is named after, or only hands on its result in another form."""
    if _plain(kernel.op_type) == _plain(operator.op_type):
        return True
    # The runtime makes one Split of several Gathers, and a Transpose into a Reshape: then the name is proof enough.
    return kernel.op_type not in CONVERTING or (mapped == "name" and operator.op_type not in HEAVY | LIGHT)


def _claim_before(
    last: int,
    kernel: NodeProto,
    index: int,
    source: Sequence[NodeProto],
    maker: Mapping[str, int],
    kernel_of: dict[int, int],
) -> None:
    """Claims what stands before an operator for a kernel that is named after the last of those that it computes.

    A convolution with its activation may be named after the activation. Such a kernel does something else than the
    operator that it is named after; a kernel that does the same begins with it.
    """
    if _plain(kernel.op_type) == _plain(source[last].op_type) or kernel.op_type in CONVERTING:
        return
    todo = [last]
    while todo:
        for name in source[todo.pop()].input:
            operator = maker.get(name)
            if operator is None or operator in kernel_of:
                continue
            heavy = source[operator].op_type in HEAVY
            if source[operator].op_type in CONVERTING or (heavy and kernel.op_type not in HEAVY):
                continue
            kernel_of[operator] = index
            if not heavy:
                todo.append(operator)


def _plain(kind: str) -> str:
    """The operator's name without what the runtime puts before it: ``QLinearConv`` is a Conv."""
    for prefix in ("QLinear", "Fused", "Q"):
        if kind.startswith(prefix) and kind != "QuantizeLinear":
            return kind.removeprefix(prefix)
    return kind


def _ranks(kernels: Sequence[NodeProto]) -> list[int]:
    """How many kernels lie before each on the longest way from an input: the later of two has the higher rank."""
    maker = {name: index for index, node in enumerate(kernels) for name in node.output if name}
    ranks = [0] * len(kernels)
    changed = True
    while changed:  # once through, where kernels stand in the order in which they run
        changed = False
        for index, node in enumerate(kernels):
            rank = 1 + max((ranks[maker[name]] for name in node.input if name in maker), default=-1)
            if rank > ranks[index]:
                ranks[index], changed = rank, True
    return ranks


def _spread(places: Sequence[int | None], kernels: Sequence[NodeProto]) -> list[int | None]:
    """Fills gaps: a conversion belongs to what made its tensor, any other kernel to what reads its result."""
    filled = list(places)
    maker = {name: index for index, node in enumerate(kernels) for name in node.output if name}
    readers: dict[str, list[int]] = {}
    for index, node in enumerate(kernels):
        for name in node.input:
            readers.setdefault(name, []).append(index)
    for _ in kernels:
        gaps = [index for index, place in enumerate(filled) if place is None]
        if not gaps:
            break
        for index in gaps:
            node = kernels[index]
            before = [filled[maker[name]] for name in node.input if name in maker]
            after = [filled[reader] for name in node.output for reader in readers.get(name, ())]
            ordered = [*before, *after] if node.op_type in CONVERTING else [*after, *before]
            filled[index] = next((place for place in ordered if place is not None), None)
        if all(filled[index] is None for index in gaps):
            break
    return filled
