from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from nas.deploy.export import export_onnx
from nas.deploy.judge import run_file
from nas.deploy.options import DeployOptions
from nas.deploy.precision.assignment import Wish, assign, counts
from nas.deploy.precision.budget import Budget, fit_budget
from nas.deploy.precision.calibration import check_normalisation
from nas.deploy.precision.gate import best_method, hold_agreement
from nas.deploy.precision.int4 import quantise_blocks
from nas.deploy.precision.makers import calibrated_network
from nas.deploy.precision.sensitivity import Network, sensitivities
from nas.deploy.records import Samples, TrainedNetwork
from nas.errors import UserError

OPTIONS = DeployOptions(activations="unsigned")


@given(
    inner=st.integers(1, 70), outer=st.integers(1, 5), block=st.sampled_from([16, 32, 64]), seed=st.integers(0, 1000)
)
def test_four_bits_are_nearer_than_those_of_the_plain_range_in_every_block(
    inner: int, outer: int, block: int, seed: int
) -> None:
    weight = np.random.default_rng(seed).standard_normal((inner, outer)).astype(np.float32)
    integers, scale = quantise_blocks(weight, block)
    assert integers.min() >= -8
    assert integers.max() <= 7
    assert scale.shape == (-(-inner // block), outer)
    restored = integers * np.repeat(scale, block, axis=0)[:inner]
    for start in range(0, inner, block):
        part = weight[start : start + block]
        plain = np.abs(part).max(axis=0) / 7
        rounded = np.clip(np.rint(part / plain), -8, 7) * plain
        own = np.square(restored[start : start + block] - part).sum(axis=0)
        assert (own <= np.square(rounded - part).sum(axis=0) * 1.02 + 1e-9).all()


def test_weights_that_four_bits_can_hold_come_back_exactly() -> None:
    integers = np.random.default_rng(0).integers(-7, 8, (64, 3))
    integers[[0, 32]] = 7  # so that the range of each block is known
    weight = (0.25 * integers).astype(np.float32)
    found, scale = quantise_blocks(weight, 32)
    np.testing.assert_allclose(found * np.repeat(scale, 32, axis=0), weight, rtol=1e-6)


def test_a_block_of_zeros_stays_zero() -> None:
    integers, scale = quantise_blocks(np.zeros((40, 2), np.float32), 32)
    assert not integers.any()
    assert (scale > 0).all()


MEAN, STD = (0.4, 0.5), (0.2, 0.25)


def normalised(pixels: np.ndarray) -> np.ndarray:
    return ((pixels - np.reshape(MEAN, (1, 2, 1, 1))) / np.reshape(STD, (1, 2, 1, 1))).astype(np.float32)


def pixels(seed: int, count: int = 32) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.clip(rng.normal(np.reshape(MEAN, (1, 2, 1, 1)), np.reshape(STD, (1, 2, 1, 1)), (count, 2, 6, 6)), 0, 1)


def test_images_of_the_models_normalisation_are_accepted() -> None:
    check_normalisation(normalised(pixels(0)), mean=MEAN, std=STD, inputs=normalised(pixels(1)))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (255 * pixels(0), r"got values from 0 to 255 in channel 0, where -2 to 3 are possible; give \(pixel / 255"),
        (pixels(0), r"got a mean of 0\.\d+ and a deviation of 0\.\d+ in channel 0, the test images have"),
        (normalised(pixels(0)) + 1.5, "must be normalised"),
        (normalised(normalised(pixels(0))), "where -2 to 3 are possible"),
    ],
    ids=["raw pixels", "only divided", "shifted", "normalised twice"],
)
def test_images_of_another_normalisation_are_refused_in_one_line(images: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        check_normalisation(images.astype(np.float32), mean=MEAN, std=STD, inputs=normalised(pixels(1)))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("calibration: must be normalised as the model's inputs")


@pytest.fixture(scope="module")
def float_file(tmp_path_factory: pytest.TempPathFactory, trained: TrainedNetwork) -> Path:
    path = tmp_path_factory.mktemp("float") / "model.onnx"
    export_onnx(trained.module, (1, 12, 12), path)
    return path


@pytest.fixture(scope="module")
def network(float_file: Path, samples: Samples) -> Network:
    return calibrated_network(float_file, samples.calibration, OPTIONS)


def test_every_operator_of_an_int8_file_is_in_8_bits_and_counts_add_up(network: Network) -> None:
    assignment = assign(network.prepared, Wish(precision="int8"))
    assert {assignment[node.name] for node in network.prepared.graph.node if node.op_type == "Conv"} == {"int8"}
    total = len(network.prepared.graph.node)
    assert sum(counts(assignment, total).values()) == total
    assert counts({}, total) == {"float32": total}


def test_the_longest_stage_holds_and_a_stage_is_not_a_part_of_a_name(network: Network) -> None:
    wish = Wish(
        precision="int8", stages={"s1_inverted_residual": "float32", "s1_inverted_residual/path/project": "int8"}
    )
    names = [
        node.name for node in network.prepared.graph.node if node.name.startswith("/s1_inverted_residual/path/project/")
    ]
    assert names
    assignment = assign(network.prepared, wish)
    assert all(name in assignment for name in names)
    convolutions = {node.name for node in network.prepared.graph.node if node.op_type == "Conv"}
    others = {name for name in convolutions if name.startswith("/s1_inverted_residual/")} - set(names)
    assert others
    assert not others & set(assignment)
    with pytest.raises(UserError, match="no stage named 's1_inv'"):
        assign(network.prepared, Wish(precision="int8", stages={"s1_inv": "float32"}))


def linear_network(path: Path, weights: list[np.ndarray]) -> Path:
    """Products one after another: the noise of each is known in closed form."""
    nodes = [
        helper.make_node("MatMul", ["input" if k == 0 else f"v{k}", f"w{k}"], [f"v{k + 1}"], name=f"/m{k}/MatMul")
        for k in range(len(weights))
    ]
    nodes[-1].output[0] = "logits"
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", len(weights[0])])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", weights[-1].shape[1]])],
        [numpy_helper.from_array(weight.astype(np.float32), f"w{k}") for k, weight in enumerate(weights)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


def test_the_noise_of_an_operator_is_its_own_and_not_what_came_down_to_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    coarse, exact = rng.standard_normal((32, 32)), 0.25 * rng.integers(-7, 8, (32, 32))
    exact[0] = 1.75  # the largest of each block, so that 4 bits hold the weights exactly
    path = linear_network(tmp_path / "linear.onnx", [coarse, exact])
    prepared = onnx.load(path)
    images = rng.standard_normal((40, 32)).astype(np.float32)
    network = Network(path=path, prepared=prepared, calibrated=None)
    first, second = network.noise({"/m0/MatMul": "int4", "/m1/MatMul": "int4"}, images)
    integers, scale = quantise_blocks(coarse.astype(np.float32), 32)
    wanted = np.square(images @ (integers * scale) - images @ coarse).sum()
    # The kernel of 4-bit products rounds what it multiplies, too.
    assert first.noise == pytest.approx(wanted, rel=0.02)
    assert first.signal == pytest.approx(np.square(images @ coarse).sum(), rel=1e-3)
    assert first.sqnr_db == pytest.approx(10 * np.log10(first.signal / first.noise))
    assert second.operator == "/m1/MatMul"
    assert second.sqnr_db > first.sqnr_db + 15


def test_a_spoilt_layer_is_found_by_its_noise_and_confirmed_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    weights = [np.linalg.qr(rng.standard_normal((32, 32)))[0] for _ in range(4)]
    # One weight of a block is a hundred times the others, which 4 bits then cannot tell from 0.
    weights[0][0] *= 100
    path = linear_network(tmp_path / "linear.onnx", weights)
    network = Network(path=path, prepared=onnx.load(path), calibrated=None)
    assignment = dict.fromkeys([f"/m{k}/MatMul" for k in range(4)], "int4")
    images = rng.standard_normal((64, 32)).astype(np.float32)
    images[:, 0] = 0  # what the large weights are multiplied with does not hide the others
    found = sensitivities(network, assignment, images, labels=np.zeros(64, int), worst=2)  # type: ignore[arg-type]
    assert len(found) == 4
    assert found[0].operator == "/m0/MatMul"
    assert found[0].sqnr_db < found[1].sqnr_db - 6
    assert [entry.alone is None for entry in found] == [False, False, True, True]
    assert found[0].alone is not None
    assert found[0].alone.accuracy_drop is not None
    assert found[0].num_weights == 32 * 32


def test_the_worst_layers_go_back_until_the_file_agrees(network: Network, samples: Samples) -> None:
    assignment = assign(network.prepared, Wish(precision="int8"))
    images = samples.calibration
    held = hold_agreement(network, assignment, images, min_agreement=0.9, most=4)
    assert held.reverted == ()
    assert held.agreement >= 0.9
    # Ranges of a tenth of what was seen cut most of each activation off.
    narrow = calibrated_network(network.path, 0.1 * images, OPTIONS)
    spoilt = hold_agreement(narrow, assignment, images, min_agreement=0.9, most=0)
    better = hold_agreement(narrow, assignment, images, min_agreement=1.0, most=3)
    assert 1 <= len(better.reverted) <= 3
    assert better.agreement >= spoilt.agreement
    assert not set(better.reverted) & set(better.assignment)


def test_the_method_is_the_one_that_agrees_best(network: Network, samples: Samples) -> None:
    images = samples.calibration[:48]
    assignment = assign(network.prepared, Wish(precision="int8"))
    chosen = best_method(network, assignment, images, "unsigned")
    reference = run_file(network.path, images).argmax(axis=1)

    def agreement(method: str) -> float:
        own = calibrated_network(
            network.path,
            images,
            DeployOptions(activations="unsigned", method=method),  # type: ignore[arg-type]
        )
        return float((own.logits(assignment, images).argmax(axis=1) == reference).mean())

    found = {method: agreement(method) for method in ("minmax", "entropy", "percentile")}
    assert found[chosen.method] == max(found.values())


def test_a_budget_on_size_is_kept_with_the_sensitive_layers_in_more_bits(
    float_file: Path, samples: Samples, tmp_path: Path
) -> None:
    floats = float_file.stat().st_size
    sizes = [floats + 20_000, int(0.75 * floats)]
    loose, tight = (
        fit_budget(float_file, tmp_path / f"{size}.onnx", samples.calibration, OPTIONS, budget=Budget(size_bytes=size))
        for size in sizes
    )
    assert loose.size_bytes <= sizes[0]
    assert tight.size_bytes <= sizes[1]
    assert tight.size_bytes == (tmp_path / f"{sizes[1]}.onnx").stat().st_size
    assert loose.loss <= tight.loss
    assert "int8" in tight.assignment.values()
    with pytest.raises(UserError, match=r"budget\.size: cannot be met"):
        fit_budget(float_file, tmp_path / "never.onnx", samples.calibration, OPTIONS, budget=Budget(size_bytes=2000))
    assert not (tmp_path / "never.onnx").exists()


def test_a_budget_on_latency_needs_latencies_and_is_kept(float_file: Path, samples: Samples, tmp_path: Path) -> None:
    budget = Budget(latency_ms=5.0)
    with pytest.raises(UserError, match=r"budget\.latency: needs the latency of operators"):
        fit_budget(float_file, tmp_path / "a.onnx", samples.calibration, OPTIONS, budget=budget)
    names = [node.name for node in onnx.load(float_file).graph.node if node.op_type == "Conv"]
    latencies = {name: {"float32": 1.0, "int8": 0.5} for name in names}
    fitted = fit_budget(
        float_file,
        tmp_path / "b.onnx",
        samples.calibration,
        OPTIONS,
        budget=Budget(latency_ms=0.75 * len(names)),
        latencies=latencies,  # type: ignore[arg-type]
    )
    assert fitted.latency_ms <= 0.75 * len(names)
    assert 0 < sum(fitted.assignment.get(name) == "int8" for name in names) < len(names)
