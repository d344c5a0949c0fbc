"""How much noise the precision of each operator adds, all operators at once.

Responsible for one graph that holds the float network and, beside each operator, its twin in lower precision: the twin
reads the *float* network's values, rounded as its file rounds them, so that its error is its own and not what came down
to it. Sums of squares are taken inside the graph; nothing but two numbers an operator leaves it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, helper

from nas.deploy.graph import copied

_BATCH = 32
_ERRORS_ONLY = 3
_OUTPUT_SUFFIX = "_QuantizeLinear_Input"


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The error of an operator in lower precision, on float inputs.

    Attributes:
        operator: its name.
        op_type: its type.
        signal: sum of squares of its float output.
        noise: sum of squares of the error.
        sqnr_db: ten times the logarithm of their ratio; infinite without noise, minus infinite without signal.
    """

    operator: str
    op_type: str
    signal: float
    noise: float

    @property
    def sqnr_db(self) -> float:
        """Signal to quantisation noise in decibels: 20 is a tenth of the amplitude, 40 a hundredth."""
        if self.noise == 0:
            return float("inf")
        return 10 * float(np.log10(self.signal / self.noise)) if self.signal > 0 else float("-inf")

    @property
    def share(self) -> float:
        """Noise over signal; 0 without noise, infinite without signal."""
        return self.noise / self.signal if self.signal > 0 else float("inf") if self.noise else 0.0


def operator_noise(prepared: ModelProto, quantised: ModelProto, images: np.ndarray) -> tuple[Noise, ...]:
    """The noise of each operator that ``quantised`` computes in another way, in the order of the graph.

    Args:
        prepared: the float network.
        quantised: made of it by `nas.deploy.precision.mixed.mixed_model`, names not yet shortened, and
            nothing in float16, whose values would be mistaken for float32 ones.
        images: ``(n, c, h, w)`` float32.
    """
    graph = _Twins(prepared, quantised)
    if not graph.measured:
        return ()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    loaded = onnxruntime.InferenceSession(graph.model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = prepared.graph.input[0].name
    sums = np.zeros((len(graph.measured), 2))
    for start in range(0, len(images), _BATCH):
        figures = loaded.run(None, {name: np.ascontiguousarray(images[start : start + _BATCH], dtype=np.float32)})
        sums += np.array(figures, dtype=np.float64).reshape(-1, 2)
    return tuple(
        Noise(operator=node.name, op_type=node.op_type, signal=float(signal), noise=float(noise))
        for node, (signal, noise) in zip(graph.measured, sums, strict=True)
    )


class _Twins:
    """The float network with a twin of each changed operator.

    Attributes:
        model: outputs are, for each of ``measured``, the sums of squares of signal and noise.
        measured: operators of the float network.
    """

    def __init__(self, prepared: ModelProto, quantised: ModelProto) -> None:
        self.model = copied(prepared)
        graph = self.model.graph
        del graph.output[:]
        del graph.value_info[:]
        del self.model.opset_import[:]
        self.model.opset_import.extend(_imports(prepared, quantised))
        self.model.ir_version = max(prepared.ir_version, quantised.ir_version)
        self._float = {name for node in prepared.graph.node for name in node.output}
        self._float |= {value.name for value in prepared.graph.input}
        self._made = {name: node for node in quantised.graph.node for name in node.output}
        self._stored = {tensor.name: tensor for tensor in quantised.graph.initializer}
        self._copied: set[str] = set()
        self._rounded = _rounded_values(quantised)
        self._operators = {node.name: node for node in prepared.graph.node}
        self.measured: list[NodeProto] = []
        for node in prepared.graph.node:
            if self._is_changed(node):
                self._measure(node)

    def _is_changed(self, node: NodeProto) -> bool:
        """Whether the quantised network computes the operator, and not in float from float values."""
        output = node.output[0]
        maker = self._maker(output)
        if maker is None or output in self._stored:
            return False
        same = maker.op_type == node.op_type and list(maker.input) == list(node.input)
        return not same and output in self._float_outputs(node)

    @staticmethod
    def _float_outputs(node: NodeProto) -> set[str]:
        return set(node.output[:1]) if node.op_type not in ("Shape", "Cast", "Constant", "Gather") else set()

    def _maker(self, output: str) -> NodeProto | None:
        """What computes a float value in the quantised network; the output of the whole network has another name."""
        return self._made.get(output + _OUTPUT_SUFFIX) or self._made.get(output)

    def _measure(self, node: NodeProto) -> None:
        output, graph = node.output[0], self.model.graph
        maker = self._maker(output)
        assert maker is not None
        made = maker.output[0]
        twin = self._slice(self._rounded.get(made, made), frozenset({made, output}), len(self.measured))
        number = len(self.measured)
        signal, error, noise = (f"twin{number}/{part}" for part in ("signal", "error", "noise"))
        graph.node.extend(
            [
                helper.make_node("ReduceSumSquare", [output], [signal], keepdims=0),
                helper.make_node("Sub", [output, twin], [error]),
                helper.make_node("ReduceSumSquare", [error], [noise], keepdims=0),
            ]
        )
        graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in (signal, noise))
        # Rounding also does what a ReLU does, whose value is then made by the operator before it.
        self.measured.append(self._operators.get(maker.name, node))

    def _slice(self, value: str, own: frozenset[str], number: int) -> str:
        """Adds what computes ``value`` from float values; gives its name in the new graph."""
        if value in self._stored:
            return self._store(value)
        if value == "" or (value in self._float and value not in own):
            return value
        node = self._made.get(value)
        if node is None:
            return value
        name = f"twin{number}/{value}"
        if name in self._copied:
            return name
        self._copied.update(f"twin{number}/{output}" for output in node.output)
        twin = onnx.NodeProto.FromString(node.SerializeToString())
        twin.name = f"twin{number}/{node.name or value}"
        twin.input[:] = [self._slice(entry, own, number) for entry in node.input]
        twin.output[:] = [f"twin{number}/{entry}" for entry in node.output]
        self.model.graph.node.append(twin)
        return name

    def _store(self, name: str) -> str:
        stored = f"quantised/{name}"
        if stored not in self._copied:
            self._copied.add(stored)
            tensor = TensorProto.FromString(self._stored[name].SerializeToString())
            tensor.name = stored
            self.model.graph.initializer.append(tensor)
        return stored


def _rounded_values(quantised: ModelProto) -> Mapping[str, str]:
    """Value -> the same after it was quantised and dequantised, where it is."""
    pairs = {node.input[0]: node.output[0] for node in quantised.graph.node if node.op_type == "DequantizeLinear"}
    return {
        node.input[0]: pairs[node.output[0]]
        for node in quantised.graph.node
        if node.op_type == "QuantizeLinear" and node.output[0] in pairs
    }


def _imports(*models: ModelProto) -> list[onnx.OperatorSetIdProto]:
    versions: dict[str, int] = {}
    for model in models:
        for entry in model.opset_import:
            versions[entry.domain] = max(versions.get(entry.domain, 0), entry.version)
    return [helper.make_opsetid(domain, version) for domain, version in versions.items()]
