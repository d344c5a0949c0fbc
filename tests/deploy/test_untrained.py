from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from nas.deploy.untrained import export_untrained
from nas.device.card import PRECISIONS
from nas.locate import resource_folder
from nas.space.load import load_space
from nas.space.moves import sample
from nas.space.network import Network

SHAPE, CLASSES = (1, 8, 8), 10


@pytest.fixture(scope="module")
def network() -> Network:
    space = load_space(resource_folder("search_spaces") / "mobilenet-tiny.yaml")
    return space.network(sample(space, 1, np.random.default_rng(0))[0])


def exported(network: Network, folder: Path) -> dict[str, Path]:
    folder.mkdir()
    files = export_untrained(
        network, folder, PRECISIONS, input_shape=SHAPE, num_classes=CLASSES, exporter="torchscript"
    )
    return {str(precision): file for precision, file in files.items()}


def test_every_precision_has_a_file_that_runs_and_means_the_same(network: Network, tmp_path: Path) -> None:
    files = exported(network, tmp_path / "a")
    assert set(files) == set(PRECISIONS)
    images = np.random.default_rng(1).standard_normal((2, *SHAPE), dtype=np.float32)
    outputs = {}
    for precision, file in files.items():
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        height = session.get_inputs()[0].shape[2]
        resized = np.resize(images, (2, SHAPE[0], height, height)).astype(np.float32)
        (outputs[precision],) = session.run(None, {session.get_inputs()[0].name: resized})
        assert outputs[precision].shape == (2, CLASSES)
        assert outputs[precision].dtype == np.float32
    scale = np.ptp(outputs["float32"])
    assert np.abs(outputs["float16"] - outputs["float32"]).max() < 0.01 * scale


def test_the_files_hold_numbers_of_their_precision(network: Network, tmp_path: Path) -> None:
    files = exported(network, tmp_path / "a")

    def weights(precision: str) -> set[int]:
        initializers = onnx.load(files[precision]).graph.initializer
        return {tensor.data_type for tensor in initializers if len(tensor.dims) == 4}

    assert weights("float32") == {onnx.TensorProto.FLOAT}
    assert weights("float16") == {onnx.TensorProto.FLOAT16}
    assert weights("int8") == weights("int8-signed") == {onnx.TensorProto.INT8}

    def zero_points(precision: str) -> set[int]:
        """Types of what activations are quantised to."""
        model = onnx.load(files[precision])
        kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
        return {kinds[node.input[2]] for node in model.graph.node if node.op_type == "QuantizeLinear"}

    assert zero_points("int8") == {onnx.TensorProto.UINT8}
    assert zero_points("int8-signed") == {onnx.TensorProto.INT8}


def test_the_same_network_gives_the_same_bytes(network: Network, tmp_path: Path) -> None:
    first, second = exported(network, tmp_path / "a"), exported(network, tmp_path / "b")
    for precision in first:
        assert first[precision].name == second[precision].name
        assert first[precision].read_bytes() == second[precision].read_bytes()


def test_no_float32_file_is_left_where_none_was_asked_for(network: Network, tmp_path: Path) -> None:
    export_untrained(network, tmp_path, ["int8"], input_shape=SHAPE, num_classes=CLASSES, exporter="torchscript")
    assert [file.name for file in tmp_path.iterdir()] == [f"{network.digest}.int8.onnx"]
