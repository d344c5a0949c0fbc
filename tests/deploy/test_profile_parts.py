"""The parts of a profile by themselves: events, names, work."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import NodeProto, TensorProto, helper

from nas.deploy.node_names import name_after_modules
from nas.deploy.profiling.labels import label_operators, stage_depth
from nas.deploy.profiling.recording import read_events
from nas.deploy.profiling.work import family_of, node_macs, shapes_of

SCOPES = "pkg.torch.onnx.name_scopes"


def event(name: str, dur: int) -> dict[str, object]:
    args = {
        "input_type_shape": [{"float": [1, 2, 4]}, {"float": [2]}],
        "output_type_shape": [{"uint8": [1, 8]}],
        "activation_size": "32",
        "output_size": "8",
    }
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": dur, "args": args}


def run(total: int, **times: int) -> list[dict[str, object]]:
    whole = {"cat": "Session", "name": "model_run", "dur": total}
    return [*(event(name, dur) for name, dur in times.items()), whole]


def test_the_faster_half_counts_and_the_first_tenth_does_not() -> None:
    slow = [run(100, kernel0=50, nas_gauge0=9) for _ in range(8)]
    fast = [run(10, kernel0=4, nas_gauge0=2), run(12, kernel0=6, nas_gauge0=2)] * 5
    cold = [run(1, kernel0=1, nas_gauge0=1), run(1, kernel0=1, nas_gauge0=1)]
    recording = read_events([entry for each in (*cold, *slow, *fast) for entry in each])
    assert recording.runs == 9
    assert recording.gauge_us == 2
    assert recording.kernels["kernel0"].time_us == pytest.approx((5 * 4 + 4 * 6) / 9)
    assert recording.run_ms == pytest.approx((5 * 10 + 4 * 12) / 9 / 1e3)


def test_shapes_types_and_bytes_are_read() -> None:
    kernel = read_events(run(10, kernel0=3)).kernels["kernel0"]
    assert (kernel.in_shape, kernel.out_shape, kernel.dtype) == ((1, 2, 4), (1, 8), "uint8")
    assert (kernel.activation_bytes, kernel.output_bytes) == (32, 8)


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=40))
def test_means_lie_between_the_extremes_and_gauges_are_no_kernels(times: list[tuple[int, int]]) -> None:
    runs = [run(a + b, kernel0=a, kernel1=b, nas_gauge0=1, nas_gauge1=3) for a, b in times]
    recording = read_events([entry for each in runs for entry in each])
    assert list(recording.kernels) == ["kernel0", "kernel1"]
    assert min(a for a, _ in times) <= recording.kernels["kernel0"].time_us <= max(a for a, _ in times)
    assert recording.run_ms * 1e3 == pytest.approx(sum(kernel.time_us for kernel in recording.kernels.values()))
    assert recording.gauge_us == 2


def named(kind: str, name: str, inputs: list[str], outputs: list[str]) -> NodeProto:
    return helper.make_node(kind, inputs, outputs, name=name)


def test_layers_are_read_from_names_tensors_and_neighbours() -> None:
    graph = helper.make_graph(
        [
            named("DequantizeLinear", "", ["w8", "s"], ["w"]),
            named("Conv", "/a/conv/Conv", ["x", "w"], ["c"]),
            named("QuantizeLinear", "", ["c", "s"], ["c8"]),
            named("HardSigmoid", "", ["c8"], ["h"]),
            named("Mul", "", ["c8", "h"], ["/a/activation/HardSwish_output_0"]),
            named("Relu", "Relu_7", ["/a/activation/HardSwish_output_0"], ["y"]),
        ],
        "g",
        [],
        [],
        [helper.make_tensor("w8", TensorProto.INT8, [1], [1])],
    )
    conv, activation = ("a", "conv"), ("a", "activation")
    assert label_operators(graph) == [conv, conv, conv, activation, activation, ()]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("/blocks/blocks.2/blocks.2.0/conv_pw/Conv", ("blocks", "2", "0", "conv_pw")),
        ("model/head/dense/MatMul", ("model", "head", "dense")),
        ("Conv_12", ()),
        ("", ()),
    ],
)
def test_a_path_is_told_without_repetitions(name: str, path: tuple[str, ...]) -> None:
    graph = helper.make_graph([named("Conv", name, ["x"], ["y"])], "g", [], [])
    assert label_operators(graph) == [path]


def test_stages_are_as_few_as_tell_the_parts_apart() -> None:
    ours = [("s0_conv", "conv"), *[("s1_cell", "edges", str(k)) for k in range(9)]]
    assert stage_depth(ours) == 1
    deep = [("net", "features", str(k), "conv") for k in range(4)] + [("net", "classifier")]
    assert stage_depth(deep) == 3
    assert stage_depth([("a", "x"), ("b", "x"), ("c", "x")]) == 1
    assert stage_depth([(), ()]) == 1


def test_names_are_made_from_scopes_and_stay_unique() -> None:
    nodes = [named("Conv", f"node_conv2d_{k}", ["x"], [f"y{k}"]) for k in range(3)]
    for node in nodes[:2]:
        node.metadata_props.add(key=SCOPES, value="['', 's0_conv', 's0_conv.conv', 'conv2d']")
    nodes[2].metadata_props.add(key=SCOPES, value="not a list")
    model = helper.make_model(helper.make_graph(nodes, "g", [], []))
    renamed = [node.name for node in name_after_modules(model).graph.node]
    assert renamed == ["/s0_conv/conv/Conv", "/s0_conv/conv/Conv_1", "node_conv2d_2"]


@pytest.mark.parametrize(
    ("kind", "shapes", "attributes", "macs", "family"),
    [
        ("Conv", {"a": (1, 8, 6, 6), "b": (16, 8, 3, 3), "y": (1, 16, 6, 6)}, {}, 16 * 36 * 72, "conv"),
        ("Conv", {"a": (2, 8, 6, 6), "b": (16, 8, 1, 1), "y": (2, 16, 6, 6)}, {}, 2 * 16 * 36 * 8, "pointwise"),
        ("Conv", {"a": (1, 8, 6, 6), "b": (8, 1, 3, 3), "y": (1, 8, 3, 3)}, {"group": 8}, 8 * 9 * 9, "depthwise"),
        ("Conv", {"a": (1, 8, 6, 6), "b": (8, 2, 3, 3), "y": (1, 8, 6, 6)}, {"group": 4}, 8 * 36 * 18, "grouped"),
        ("ConvTranspose", {"a": (1, 8, 6, 6), "b": (8, 4, 2, 2), "y": (1, 4, 12, 12)}, {}, 8 * 36 * 16, "conv"),
        ("Gemm", {"a": (3, 32), "b": (32, 10), "y": (3, 10)}, {}, 960, "linear"),
        ("Gemm", {"a": (32, 3), "b": (32, 10), "y": (3, 10)}, {"transA": 1}, 960, "linear"),
        ("MatMul", {"a": (2, 4, 5, 7), "b": (2, 4, 7, 3), "y": (2, 4, 5, 3)}, {}, 8 * 15 * 7, "linear"),
        ("Relu", {}, {}, 0, "elementwise"),
        ("Attention", {}, {}, None, "other"),
        ("Conv", {"b": (16, 8, 3, 3)}, {}, None, "conv"),
    ],
)
def test_multiply_accumulates_are_those_of_the_definition(
    kind: str, shapes: dict[str, tuple[int, ...]], attributes: dict[str, int], macs: int | None, family: str
) -> None:
    node = helper.make_node(kind, ["a", "b"], ["y"], **attributes)
    assert node_macs(node, shapes) == macs
    assert family_of(node, shapes) == family


def test_a_quantised_weight_has_the_shape_of_its_constant() -> None:
    graph = helper.make_graph(
        [named("DequantizeLinear", "", ["w8", "s"], ["w"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "n"])],
        [],
        [helper.make_tensor("w8", TensorProto.INT8, [2, 1], [1, 1])],
    )
    shapes = shapes_of(graph)
    assert shapes["w"] == (2, 1)
    assert "x" not in shapes
