"""ONNX graphs made lean: what the runtime does not need is left out of the file.

Responsible for changes to a graph that change none of its figures. A small network's file is otherwise more names than
numbers.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto, numpy_helper

PRODUCER = "nas"


def lean(model: ModelProto) -> ModelProto:
    """The same computation without exporter metadata, repeated constants and unused imports; changed in place.

    Requires: one graph, no functions that are still called. Ensures: equal outputs; names of inputs, outputs and
    operators kept; equal bytes for equal graphs; a mean over height and width is a GlobalAveragePool.
    """
    graph = model.graph
    _forward_constant_identities(model)
    _name_global_pools(graph)
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:]
    for entry in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        entry.ClearField("doc_string")
        entry.ClearField("metadata_props")
    graph.ClearField("doc_string")
    graph.ClearField("metadata_props")
    model.ClearField("doc_string")
    model.ClearField("metadata_props")
    model.producer_name = PRODUCER
    model.ClearField("producer_version")
    domains = {node.domain for node in graph.node} | {node.domain for f in model.functions for node in f.node} | {""}
    imports = [entry for entry in model.opset_import if entry.domain in domains]
    del model.opset_import[:]
    model.opset_import.extend(imports)
    return model


def _forward_constant_identities(model: ModelProto) -> None:
    """Readers of a copied constant read the constant: exporters copy equal ones (fresh batch norms) by Identity."""
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    source: dict[str, str] = {}
    nodes = []
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in constants and node.output[0] not in outputs:
            source[node.output[0]] = node.input[0]
        else:
            nodes.append(node)
    for node in nodes:
        node.input[:] = [source.get(name, name) for name in node.input]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)


def _name_global_pools(graph: GraphProto) -> None:
    """Calls the mean over height and width what it is: as a ReduceMean, runtimes neither fuse nor quantise it."""
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in (*graph.value_info, *graph.input)}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type != "ReduceMean" or len(node.input) != 2 or ranks.get(node.input[0]) != 4:
            continue
        axes = constants.get(node.input[1])
        keeps = all(attribute.i == 1 for attribute in node.attribute if attribute.name == "keepdims")
        if axes is not None and keeps and sorted(numpy_helper.to_array(axes) % 4) == [2, 3]:
            node.op_type = "GlobalAveragePool"
            del node.input[1:]
            del node.attribute[:]


def shorten_names(model: ModelProto, keep: Collection[str]) -> ModelProto:
    """Short names for all values but those in ``keep``, and none for quantising nodes; changed in place.

    A quantiser names a scale ``<layer>/<operator>_output_0_scale``, and so on: in a file of 76 kB these were 30 kB.
    Operators keep their names, and so does every value of the float network, by which tools compare the two.

    Ensures: names of graph inputs and outputs are kept.
    """
    graph = model.graph
    fixed = {*keep, *(value.name for value in (*graph.input, *graph.output)), ""}
    new: dict[str, str] = {}

    def short(name: str) -> str:
        if name in fixed:
            return name
        while name not in new:
            candidate = f"q{len(new)}"
            new[name] = candidate
            if candidate in fixed:
                new[name] = candidate + "_"
        return new[name]

    for tensor in graph.initializer:
        tensor.name = short(tensor.name)
    for node in graph.node:
        node.input[:] = [short(name) for name in node.input]
        node.output[:] = [short(name) for name in node.output]
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.ClearField("name")
    return model


def copied(model: ModelProto) -> ModelProto:
    """A model of its own with the same contents."""
    return ModelProto.FromString(model.SerializeToString())


def write_model(model: ModelProto, path: Path) -> None:
    """Checks the model and writes it so that ``path`` is either the old file or the whole new one.

    Raises:
        onnx.checker.ValidationError: the graph breaks a rule of ONNX.
    """
    onnx.checker.check_model(model, full_check=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(model.SerializeToString(deterministic=True))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
