"""Names of operators that say where they are from.

Responsible for one form of names whichever exporter wrote the file: ``/<module path>/<operator>``. A profile maps the
time of an operator to its layer by it.
"""

from __future__ import annotations

from onnx import ModelProto

from nas.deploy.profiling.labels import scope_of


def name_after_modules(model: ModelProto) -> ModelProto:
    """Renames operators whose metadata names their module; changed in place.

    torch's newer exporter calls operators ``node_conv2d_3`` and keeps the module in metadata, which lean files lose.

    Ensures: names are unique; values keep their names; a model without such metadata stays as it is.
    """
    taken: set[str] = {node.name for node in model.graph.node if not scope_of(node)}
    for node in model.graph.node:
        scope = scope_of(node)
        if scope:
            name = stem = "/" + "/".join((*scope, node.op_type))
            count = 0
            while name in taken:
                count += 1
                name = f"{stem}_{count}"
            taken.add(name)
            node.name = name
    return model
