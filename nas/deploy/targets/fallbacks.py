"""Which operators a target takes, told from a table: for targets whose compiler is not at hand.

Responsible for the form of such a table and for reading a graph by it. A table says where it is from, and an operator
that it does not name is taken for one that the target lacks: a false alarm costs a look, a silent fallback the speed of
the device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from onnx import ModelProto

from nas.deploy.profiling.graphs import read_source
from nas.deploy.targets.target import Effect, Fallback

# Exporters write them, and every runtime folds them away before it runs.
_FOLDED = frozenset({"Constant", "Identity", "Shape", "ConstantOfShape"})


@dataclass(frozen=True, kw_only=True)
class OperatorTable:
    """What a target does with each ONNX operator.

    Attributes:
        source: the document, or the version that was run; ends up in every finding.
        accelerated: operators that run as they should.
        others: operator -> what becomes of it, and why in one sentence.
        unknown: what becomes of an operator that is in neither.
    """

    source: str
    accelerated: frozenset[str]
    others: Mapping[str, tuple[Effect, str]] = field(default_factory=dict)
    unknown: Effect = "leaves"

    def findings(self, model: ModelProto) -> tuple[Fallback, ...]:
        """The operators of a model that do not run as they should, in the order of the graph."""
        found = []
        for node in model.graph.node:
            if node.op_type in self.accelerated | _FOLDED and node.domain in ("", "ai.onnx"):
                continue
            effect, reason = self.others.get(node.op_type, (self.unknown, "is not among the target's operators"))
            found.append(
                Fallback(operator=node.op_type, node=node.name, effect=effect, reason=reason, source=self.source)
            )
        return tuple(found)


def by_table(float32_file: Path, table: OperatorTable) -> Sequence[Fallback]:
    """The findings of a table on a file; raises `UserError` where it is no ONNX file."""
    return table.findings(read_source(float32_file))
