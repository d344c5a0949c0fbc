"""Writes `nas/device/anchor.onnx`, the model that the timing protocol times between all others.

It must be short (it runs between any two blocks), never change (its latency is compared between sessions), and slow
down with the machine as much as the models of a search do. Twenty small convolutions keep the front end of a core as
busy as they do; two larger ones did not: where a neighbour on the same core slowed small networks by half, these lost
11 % only. Its weights are constants that the runtime folds when it loads the file, so the file is 2 kB.

    python experiments/timing_stability/make_anchor.py
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

CHANNELS, SIZE, BLOCKS, OPSET, IR_VERSION = 16, 8, 6, 17, 8


def anchor() -> onnx.ModelProto:
    """Six inverted residuals on 16 channels of 8x8, each 1x1, depthwise 3x3 and 1x1 with ReLU, then the mean."""
    nodes: list[onnx.NodeProto] = []
    shapes: list[onnx.TensorProto] = []

    def weights(name: str, shape: list[int]) -> str:
        shapes.append(helper.make_tensor(f"{name}_shape", TensorProto.INT64, [len(shape)], shape))
        value = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.01])
        nodes.append(helper.make_node("ConstantOfShape", [f"{name}_shape"], [name], value=value))
        return name

    def node(op: str, inputs: list[str], output: str, **attributes: object) -> str:
        nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    x, wide = "input", 2 * CHANNELS
    for i in range(BLOCKS):
        y = node("Conv", [x, weights(f"expand{i}", [wide, CHANNELS, 1, 1])], f"expanded{i}")
        y = node("Relu", [y], f"active{i}")
        y = node("Conv", [y, weights(f"depthwise{i}", [wide, 1, 3, 3])], f"filtered{i}", pads=[1] * 4, group=wide)
        y = node("Relu", [y], f"filtered_active{i}")
        y = node("Conv", [y, weights(f"project{i}", [CHANNELS, wide, 1, 1])], f"projected{i}")
        x = node("Add", [x, y], f"sum{i}")
    node("GlobalAveragePool", [x], "output")
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "anchor",
        [tensor("input", TensorProto.FLOAT, ["batch", CHANNELS, SIZE, SIZE])],
        [tensor("output", TensorProto.FLOAT, ["batch", CHANNELS, 1, 1])],
        shapes,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


if __name__ == "__main__":
    model = anchor()
    onnx.checker.check_model(model)
    path = Path(__file__).resolve().parents[2] / "nas" / "device" / "anchor.onnx"
    onnx.save(model, path)
    print(f"{path}: {path.stat().st_size} bytes")
