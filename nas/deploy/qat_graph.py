"""ONNX graphs with QuantizeLinear and DequantizeLinear pairs made into what 8-bit kernels are found for.

Responsible for integers in the place of constants that are rounded, and for operators that rounding makes needless.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto, numpy_helper
from onnx.reference import ReferenceEvaluator

_QUANTISE, _RESTORE = "QuantizeLinear", "DequantizeLinear"
_INT32 = 2**31 - 1


class QdqGraph:
    """A model whose graph is changed in place, step by step.

    Args:
        model: one graph; every rounded value is a QuantizeLinear with a DequantizeLinear behind it.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self._fold_constants()

    def store_weights_as_integers(self) -> None:
        """Constants that are rounded become int8 constants; a transposition of one becomes another constant."""
        makers = self._makers()
        for restore in self._nodes(_RESTORE):
            quantise = makers.get(restore.input[0])
            if quantise is None or quantise.input[0] not in self._constants:
                continue
            weight, scale = self._constants[quantise.input[0]], self._constants[restore.input[1]]
            shape = (-1, *[1] * (weight.ndim - 1)) if scale.ndim else ()
            # As QuantizeLinear does: to even, in float32.
            integers = np.clip(np.rint(weight / scale.reshape(shape)), -128, 127).astype(np.int8)
            restore.input[0] = self._store(f"{quantise.input[0]}_int8", integers)
            self._transpose(restore, integers)
        self._drop_unread()

    def drop_cuts_that_rounding_does(self) -> None:
        """A Relu or Clip before a QuantizeLinear that cuts off no less falls away."""
        makers = self._makers()
        readers = self._readers()
        for quantise in self._nodes(_QUANTISE):
            cut = makers.get(quantise.input[0])
            if cut is None or cut.op_type not in ("Relu", "Clip") or len(readers[cut.output[0]]) != 1:
                continue
            scale, zero = (self._constants[name] for name in quantise.input[1:3])
            info = np.iinfo(zero.dtype)
            least, most = ((float(bound) - float(zero)) * float(scale) for bound in (info.min, info.max))
            low, high = self._bounds(cut)
            maker = makers.get(cut.input[0])
            alone = maker is not None and len(readers[cut.input[0]]) == 1
            if alone and least >= low and most <= high + float(scale) / 2:
                quantise.input[0] = cut.input[0]
        self._drop_unread()

    def store_biases_as_integers(self) -> None:
        """Biases of layers of integers become int32, in units of the product of both scales; too large ones stay."""
        makers = self._makers()
        for node in [*self._nodes("Conv"), *self._nodes("Gemm")]:
            sources = [makers.get(name) for name in node.input[:2]]
            if len(node.input) < 3 or node.input[2] not in self._constants:
                continue
            if any(source is None or source.op_type != _RESTORE for source in sources):
                continue
            bias = self._constants[node.input[2]].astype(np.float64)
            unit = np.ones_like(bias)
            for source in sources:
                assert source is not None
                unit = unit * self._constants[source.input[1]].astype(np.float64)
            integers = np.rint(bias / unit)
            if np.abs(integers).max(initial=0) > _INT32:
                continue
            name = node.input[2]
            parts = [
                self._store(f"{name}_{node.output[0]}_int32", integers.astype(np.int32)),
                self._store(f"{name}_{node.output[0]}_scale", unit.astype(np.float32)),
            ]
            restored = f"{name}_{node.output[0]}_restored"
            self._insert_before(node, onnx.helper.make_node(_RESTORE, parts, [restored], axis=0))
            node.input[2] = restored
        self._drop_unread()

    def _transpose(self, restore: NodeProto, integers: np.ndarray) -> None:
        readers = self._readers()[restore.output[0]]
        if len(readers) == 1 and readers[0].op_type == "Transpose" and integers.ndim == 2:
            restore.input[0] = self._store(f"{restore.input[0]}_t", np.ascontiguousarray(integers.T))
            for attribute in restore.attribute:
                if attribute.name == "axis":
                    attribute.i = 1
            self._redirect(readers[0].output[0], restore.output[0])

    def _fold_constants(self) -> None:
        """Values that follow from constants alone (casts of zero points) become constants."""
        for node in self.model.graph.node:
            known = all(name in self._constants for name in node.input if name)
            if known and node.op_type in ("Constant", "Cast", "Identity", "Reshape", "Unsqueeze"):
                feeds = {name: self._constants[name] for name in node.input if name}
                graph = onnx.helper.make_graph(
                    [node],
                    "constant",
                    [
                        onnx.helper.make_tensor_value_info(
                            name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
                        )
                        for name, value in feeds.items()
                    ],
                    [onnx.ValueInfoProto(name=node.output[0])],
                )
                opsets = self.model.opset_import
                one = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=self.model.ir_version)
                self._store(node.output[0], ReferenceEvaluator(one).run(None, feeds)[0])
        kept = [node for node in self.model.graph.node if node.output[0] not in self._constants]
        self._set_nodes(kept)

    def _bounds(self, cut: NodeProto) -> tuple[float, float]:
        """What a Relu or Clip cuts off below and above."""
        if cut.op_type == "Relu":
            return 0.0, float("inf")
        bounds = [float("-inf"), float("inf")]
        for place, name in enumerate(cut.input[1:3]):
            if name:
                # A bound that is computed is none that can be told: it keeps the Clip.
                never = float("inf") if place == 0 else float("-inf")
                bounds[place] = float(self._constants[name]) if name in self._constants else never
        return bounds[0], bounds[1]

    def _store(self, name: str, value: np.ndarray) -> str:
        if name not in self._constants:
            self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        self._constants[name] = np.asarray(value)
        return name

    def _nodes(self, kind: str) -> list[NodeProto]:
        return [node for node in self.model.graph.node if node.op_type == kind]

    def _makers(self) -> dict[str, NodeProto]:
        return {name: node for node in self.model.graph.node for name in node.output}

    def _readers(self) -> dict[str, list[NodeProto]]:
        found: dict[str, list[NodeProto]] = {name: [] for node in self.model.graph.node for name in node.output}
        for node in self.model.graph.node:
            for name in node.input:
                if name in found:
                    found[name].append(node)
        return found

    def _redirect(self, old: str, new: str) -> None:
        for node in self.model.graph.node:
            node.input[:] = [new if name == old else name for name in node.input]

    def _insert_before(self, node: NodeProto, new: NodeProto) -> None:
        place = next(k for k, other in enumerate(self.model.graph.node) if other.output[0] == node.output[0])
        self.model.graph.node.insert(place, new)

    def _drop_unread(self) -> None:
        """Nodes whose values nobody reads any more fall away."""
        outputs = {value.name for value in self.model.graph.output}
        while True:
            read = outputs | {name for node in self.model.graph.node for name in node.input}
            kept = [node for node in self.model.graph.node if read & set(node.output)]
            if len(kept) == len(self.model.graph.node):
                return
            self._set_nodes(kept)

    def _set_nodes(self, nodes: list[NodeProto]) -> None:
        copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del self.model.graph.node[:]
        self.model.graph.node.extend(copies)
