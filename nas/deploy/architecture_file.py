"""``architecture.yaml``: a resolved network in plain YAML, from which it is built again without its search space.

Responsible for the file's form. It holds names and numbers only: reading it imports and runs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nas.errors import UserError, in_file
from nas.space.architecture import Architecture
from nas.space.deployment import TWO_OF_FOUR, Deployment
from nas.space.folding import network_digest, shipped_digest
from nas.space.load import read_yaml
from nas.space.network import Cell, Edge, Layer, Network, Parameter

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class StoredArchitecture:
    """What the file says.

    Attributes:
        network: resolved and folded.
        choices: name -> label of the option taken, for people.
        data_shape: channels, height and width of the data, before it is resized for the network.
        num_classes: logits the network gives.
    """

    network: Network
    choices: Mapping[str, str]
    data_shape: tuple[int, int, int]
    num_classes: int


def architecture_text(
    network: Network, architecture: Architecture, *, data_shape: tuple[int, int, int], num_classes: int
) -> str:
    """The file's text; equal for equal arguments."""
    record = {
        "format": FORMAT,
        "digest": network.digest,
        "choices": dict(architecture.choices),
        "data_shape": list(data_shape),
        "num_classes": num_classes,
        "resolution": network.resolution,
        "stages": [_stage(stage) for stage in network.stages],
        **_deployment(network),
    }
    return yaml.safe_dump(record, sort_keys=False, default_flow_style=None, width=120)


def read_architecture(path: Path) -> StoredArchitecture:
    """The architecture in the file at ``path``.

    Raises:
        UserError: the file is missing, broken or of a later format, or its stages do not fit its digest.
    """
    record = read_yaml(path)
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else record
        raise UserError(in_file(path, "format"), f"must be {FORMAT}, got {found!r}", "it needs another version of nas")
    try:
        stages = tuple(_stage_from(entry, f"stages[{index}]") for index, entry in enumerate(record["stages"]))
        resolution = record["resolution"]
        deployment, trained, names = _deployment_from(record)
        channels, height, width = (int(size) for size in record["data_shape"])
        stored = StoredArchitecture(
            network=Network(
                resolution=resolution,
                stages=stages,
                digest=str(record["digest"]),
                deployment=deployment,
                trained=trained,
                stage_names=names,
            ),
            choices={str(name): str(label) for name, label in record["choices"].items()},
            data_shape=(channels, height, width),
            num_classes=int(record["num_classes"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise UserError(str(path), f"is not an architecture: {error!r}", "export the model again") from error
    found = shipped_digest(network_digest(resolution, stages), trained, deployment, names)
    if found != stored.network.digest:
        problem = f"must fit the stages, whose digest is {found}, got {stored.network.digest}"
        raise UserError(in_file(path, "digest"), problem, "the file was changed; export the model again")
    return stored


def _deployment(network: Network) -> dict[str, object]:
    """How the network is shipped; nothing where that is as it was trained, in dense float32."""
    asked = network.deployment
    if asked.is_default and not network.trained:
        return {}
    own = {"precision": asked.precision, "stages": dict(asked.stages), "width": asked.width, "sparsity": asked.sparsity}
    return {"deployment": own, "trained": network.trained, "stage_names": list(network.stage_names)}


def _deployment_from(record: Mapping[str, Any]) -> tuple[Deployment, str, tuple[str, ...]]:
    if "deployment" not in record:
        return Deployment(), "", ()
    own = record["deployment"]
    sparsity = own["sparsity"]
    deployment = Deployment(
        precision=str(own["precision"]),
        stages={str(name): str(precision) for name, precision in own["stages"].items()},
        width=float(own["width"]),
        sparsity=TWO_OF_FOUR if sparsity == TWO_OF_FOUR else float(sparsity),
    )
    return deployment, str(record["trained"]), tuple(str(name) for name in record["stage_names"])


def _stage(stage: Layer | Cell) -> dict[str, object]:
    if isinstance(stage, Layer):
        return _layer(stage)
    edges = [{"source": edge.source, "target": edge.target, **_layer(edge.layer)} for edge in stage.edges]
    return {"num_nodes": stage.num_nodes, "edges": edges}


def _layer(layer: Layer) -> dict[str, object]:
    return {"op": layer.op, "parameters": {name: _plain(value) for name, value in layer.parameters.items()}}


def _plain(value: Parameter) -> object:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _stage_from(entry: Mapping[str, object], where: str) -> Layer | Cell:
    if "op" in entry:
        return _layer_from(entry, where)
    edges, num_nodes = entry["edges"], entry["num_nodes"]
    if not isinstance(edges, list) or not isinstance(num_nodes, int):
        raise ValueError(f"{where} is neither a layer nor a cell")
    return Cell(
        num_nodes=num_nodes,
        edges=tuple(_edge_from(edge, f"{where}.edges[{index}]") for index, edge in enumerate(edges)),
        where=where,
    )


def _edge_from(entry: Mapping[str, object], where: str) -> Edge:
    source, target = entry["source"], entry["target"]
    if not isinstance(source, int) or not isinstance(target, int):
        raise ValueError(f"{where} must go from node to node")
    return Edge(source=source, target=target, layer=_layer_from(entry, where))


def _layer_from(entry: Mapping[str, object], where: str) -> Layer:
    op, parameters = entry["op"], entry.get("parameters") or {}
    if not isinstance(op, str) or not isinstance(parameters, dict):
        raise ValueError(f"{where} must have an operator and its parameters")
    return Layer(op=op, parameters={str(name): _tuples(value) for name, value in parameters.items()}, where=where)


def _tuples(value: object) -> Parameter:
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"a parameter must be a scalar or a list of such, got {value!r}")
