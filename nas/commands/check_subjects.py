"""What `nas check` looks at: float32 files, with what is known of the layers in them.

Responsible for drawing architectures so that every option of a space is seen, where there is room for that, and for
finding the layer of an architecture that an operator of its file belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nas.deploy.architecture_file import read_architecture
from nas.deploy.manifest import NAME, read_manifest
from nas.deploy.profiling.graphs import read_source
from nas.errors import UserError
from nas.model.cell import execution_order
from nas.space.moves import sample
from nas.space.network import Cell, Layer, Network
from nas.space.space import SearchSpace

_POOL = 512  # rows that are drawn for each one that is taken
_ARCHITECTURE = "architecture.yaml"
_QUANTISED = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulNBits"})


@dataclass(frozen=True, kw_only=True, eq=False)
class PlacedLayer:
    """A layer with the choices that decided on it: name -> label that was chosen."""

    layer: Layer
    choices: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class CheckedModel:
    """A file to look at.

    Attributes:
        name: digest, or the file's name.
        file: float32 ONNX.
        layers: beginning of an operator's path -> the layer: ``s1_conv``, or ``s2_cell/edges/0_to_1_0``.
    """

    name: str
    file: Path
    layers: Mapping[str, PlacedLayer] = field(default_factory=dict)

    def layer_of(self, node: str) -> str:
        """The key in ``layers`` that an operator belongs to; "" where it is of none that is known."""
        parts = node.strip("/").split("/")
        for depth in (3, 1):
            key = "/".join(parts[:depth])
            if key in self.layers:
                return key
        return ""


def draw_covering(space: SearchSpace, n: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """Up to ``n`` different rows ``(k, m)`` that show as many options of the space as they can.

    Returns:
        The rows, and how many of the options that a large sample shows they leave out.
    """
    pool = np.unique(sample(space, _POOL * n, rng), axis=0)
    pool = pool[rng.permutation(len(pool))]
    counts = [choice.num_options for choice in space.choices]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(int)
    shown = np.zeros((len(pool), int(starts[-1])), dtype=bool)
    for column, start in enumerate(starts[:-1]):
        active = np.flatnonzero(pool[:, column] >= 0)
        shown[active, start + pool[active, column]] = True
    missing = shown.any(axis=0)
    taken: list[int] = []
    while len(taken) < min(n, len(pool)) and missing.any():
        best = int(shown[:, missing].sum(axis=1).argmax())
        taken.append(best)
        missing &= ~shown[best]
    rest = [index for index in range(len(pool)) if index not in set(taken)]
    taken += rest[: max(0, n - len(taken))]
    return pool[taken], int(missing.sum())


def layers_of(
    network: Network, space: SearchSpace | None = None, row: np.ndarray | None = None
) -> dict[str, PlacedLayer]:
    """The layers of a network by the path that their operators have in a file."""
    slots = _choices_of_slots(space, row, len(network.stages)) if space is not None and row is not None else []
    found: dict[str, PlacedLayer] = {}
    for index, stage in enumerate(network.stages):
        choices = slots[index] if slots else {}
        if isinstance(stage, Cell):
            for place, edge in enumerate(execution_order(stage)):
                key = f"s{index}_cell/edges/{edge.source}_to_{edge.target}_{place}"
                found[key] = PlacedLayer(layer=edge.layer, choices=choices)
        else:
            found[f"s{index}_{stage.op.rpartition('.')[2]}"] = PlacedLayer(layer=stage, choices=choices)
    return found


def _choices_of_slots(space: SearchSpace, row: np.ndarray, num_stages: int) -> list[dict[str, str]]:
    """For each stage the choices of its slot; [] where folding merged or dropped a stage."""
    standing = [slot for slot in space.slots if slot.resolve(row) is not None]
    if len(standing) != num_stages:
        return []
    return [
        {
            space.choices[column].name: space.choices[column].labels[row[column]]
            for column in slot.choices
            if row[column] >= 0
        }
        for slot in standing
    ]


def stored_models(path: Path) -> tuple[CheckedModel, ...]:
    """The float32 files of a run folder, of a model folder, or the one that is given.

    Raises:
        UserError: nothing of that kind is there.
    """
    if path.is_file():
        if any(node.op_type in _QUANTISED for node in read_source(path).graph.node):
            raise UserError(str(path), "must be a float32 file, it is quantised", "other precisions are made from it")
        return (CheckedModel(name=path.name, file=path),)
    folders = (
        [path]
        if (path / _ARCHITECTURE).is_file()
        else sorted(folder.parent for folder in (path / "models").glob(f"[!.]*/{NAME}"))
    )
    if not folders:
        problem = "must be a run folder with models, a model folder or an ONNX file, is none"
        raise UserError("run", f"{path} {problem}", "give runs/<name>, runs/<name>/models/<digest> or a .onnx file")
    return tuple(_stored(folder) for folder in folders)


def _stored(folder: Path) -> CheckedModel:
    manifest = read_manifest(folder)
    files = [entry["path"] for entry in manifest["files"] if entry["precision"] == "float32"]
    if not files or Path(files[0]).name != files[0]:
        raise UserError(str(folder / NAME), "must list a float32 file of its own folder, lists none")
    layers: Mapping[str, PlacedLayer] = {}
    if (folder / _ARCHITECTURE).is_file():
        layers = layers_of(read_architecture(folder / _ARCHITECTURE).network)
    return CheckedModel(name=folder.name, file=folder / files[0], layers=layers)


def options_of(space: SearchSpace) -> int:
    """How many options all choices of a space have."""
    return sum(choice.num_options for choice in space.choices)


def names(models: Sequence[CheckedModel]) -> str:
    """``1 model`` or ``24 models``."""
    return f"{len(models)} model{'' if len(models) == 1 else 's'}"
