"""Folding: from what a template says to what is built, and the digest of that.

Responsible for the canonical form: identities vanish, dead parts of cells vanish, and cells that differ only in the
order of their nodes become equal. Two networks have one digest exactly where their canonical forms are equal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence

from nas.space.deployment import Deployment
from nas.space.network import Cell, Edge, Layer

Links = list[tuple[int, int, str]]  # source, target, what the edge does
Certificate = tuple[tuple[int, int, str], ...]
_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_of(value: object) -> str:
    """16 hexadecimal digits over the canonical JSON of plain data."""
    return hashlib.sha256(_JSON.encode(value).encode("ascii")).hexdigest()[:16]


def fold_stage(stage: Layer | Cell) -> Layer | Cell | None:
    """What is left of one stage, None where that is nothing but a copy of its input.

    A cell that comes down to one operator between input and output is that layer.
    """
    if isinstance(stage, Layer):
        return None if stage.op == "identity" else stage
    cell = _live_part(stage)
    if cell.num_nodes == 1:
        return None
    if cell.num_nodes == 2 and len(cell.edges) == 1:
        return cell.edges[0].layer
    return _relabelled(cell)


def network_digest(resolution: int | float | None, stages: Iterable[Layer | Cell]) -> str:
    """Digest of folded stages and the input resolution. A cell that is a chain of operators counts as the chain."""
    flat: list[object] = []
    known: dict[int, list[object]] = {}
    held = list(stages)  # so that no two of them have one id
    for stage in held:
        if id(stage) not in known:
            known[id(stage)] = _plain(stage)
        flat.extend(known[id(stage)])
    return digest_of([resolution, flat])


def shipped_digest(built: str, trained: str, deployment: Deployment, stage_names: Sequence[str]) -> str:
    """Digest of a network as it is shipped.

    That of its stages where the deployment is the default. Which share of channels was left says nothing: what was
    trained and what is built say it all.

    Args:
        built: digest of the stages that the file holds.
        trained: digest of what was trained first; empty where it is the same.
        deployment: canonical.
        stage_names: one a stage.
    """
    if deployment.is_default and not trained:
        return built
    precisions = [deployment.of_stage(name) for name in stage_names]
    alike = precisions[:1] if len(set(precisions)) == 1 else precisions
    return digest_of(["shipped", built, trained, alike or [deployment.precision], deployment.sparsity])


def _plain(stage: Layer | Cell) -> list[object]:
    if isinstance(stage, Layer):
        return [_layer_text(stage)]
    if _is_chain(stage):
        return [_layer_text(edge.layer) for edge in stage.edges]
    return [[[edge.source, edge.target, _layer_text(edge.layer)] for edge in stage.edges]]


def _is_chain(cell: Cell) -> bool:
    steps = [(edge.source, edge.target) for edge in cell.edges]
    return steps == [(node, node + 1) for node in range(cell.num_nodes - 1)]


def _layer_text(layer: Layer) -> str:
    return _JSON.encode([layer.op, layer.parameters])


def _live_part(cell: Cell) -> Cell:
    """The cell without absent edges, dead nodes and copies. One node is left where it only hands its input on.

    A cell whose output nothing reaches has no edges and two nodes.
    """
    arriving: dict[int, list[Edge]] = {}
    for edge in cell.edges:
        arriving.setdefault(edge.target, []).append(edge)
    stands_for = {0: 0}
    inputs: dict[int, list[tuple[int, Layer]]] = {0: []}
    for node in range(1, cell.num_nodes):
        live = [
            (stands_for[edge.source], edge.layer)
            for edge in arriving.get(node, [])
            if edge.source in stands_for and edge.layer.op != "none"
        ]
        if len(live) == 1 and live[0][1].op == "identity":
            stands_for[node] = live[0][0]
        elif live:
            stands_for[node] = node
            inputs[node] = live
    output = stands_for.get(cell.num_nodes - 1)
    if output is None:
        return Cell(num_nodes=2, edges=(), where=cell.where)
    needed = {output}
    for node in sorted(inputs, reverse=True):
        if node in needed:
            needed.update(source for source, _ in inputs[node])
    number = {node: k for k, node in enumerate(sorted(needed))}
    edges = tuple(
        Edge(source=number[source], target=number[node], layer=layer)
        for node in sorted(needed)
        for source, layer in inputs[node]
    )
    return Cell(num_nodes=len(needed), edges=edges, where=cell.where)


def _relabelled(cell: Cell) -> Cell:
    """The cell in canonical node order: equal for isomorphic cells, and still ``source < target``."""
    if not cell.edges:
        return cell
    links = [(edge.source, edge.target, _layer_text(edge.layer)) for edge in cell.edges]
    depth = [0] * cell.num_nodes
    for source, target, _ in links:  # ordered by target, so that a source's depth is final when it is read
        depth[target] = max(depth[target], depth[source] + 1)
    order = _canonical_order(cell.num_nodes, links, depth)
    edges = sorted(
        (Edge(source=order[e.source], target=order[e.target], layer=e.layer) for e in cell.edges),
        key=lambda edge: (edge.target, edge.source, _layer_text(edge.layer)),
    )
    return Cell(num_nodes=cell.num_nodes, edges=tuple(edges), where=cell.where)


def _canonical_order(num_nodes: int, links: Links, colours: list[int]) -> list[int]:
    """Node -> position, by refining colours and, where nodes stay alike, trying each as the first of them.

    Exact: the smallest certificate over all trials wins. Nodes with the same neighbours are interchangeable, so that
    one trial does for them.
    """
    best: tuple[Certificate, list[int]] | None = None
    trials = [colours]
    while trials:
        colours = _refined(num_nodes, links, trials.pop())
        tied = _first_tie(colours)
        if tied:
            later = [colour * 2 + 1 for colour in colours]
            trials.extend([*later[:node], later[node] - 1, *later[node + 1 :]] for node in _without_twins(tied, links))
            continue
        certificate = tuple(sorted((colours[s], colours[t], text) for s, t, text in links))
        if best is None or certificate < best[0]:
            best = certificate, colours
    assert best is not None
    return best[1]


def _refined(num_nodes: int, links: Links, colours: list[int]) -> list[int]:
    """Colours 0..k-1 split until nodes of one colour have like neighbours; the order of colours is kept."""
    num_colours = 0
    while True:
        seen: list[list[tuple[int, int, str]]] = [[] for _ in range(num_nodes)]
        for source, target, text in links:
            seen[source].append((1, colours[target], text))
            seen[target].append((0, colours[source], text))
        keys = [(colours[node], sorted(seen[node])) for node in range(num_nodes)]
        distinct: list[tuple[int, list[tuple[int, int, str]]]] = []
        for key in sorted(keys):
            if not distinct or distinct[-1] != key:
                distinct.append(key)
        colours = [distinct.index(key) for key in keys]
        if len(distinct) == num_colours:
            return colours
        num_colours = len(distinct)


def _first_tie(colours: list[int]) -> list[int]:
    for colour in range(len(colours)):
        nodes = [node for node, other in enumerate(colours) if other == colour]
        if len(nodes) > 1:
            return nodes
    return []


def _without_twins(nodes: list[int], links: Links) -> list[int]:
    around: dict[tuple[tuple[int, int, str], ...], int] = {}
    for node in nodes:
        near = [(0, s, text) for s, t, text in links if t == node] + [(1, t, text) for s, t, text in links if s == node]
        around.setdefault(tuple(sorted(near)), node)
    return list(around.values())
