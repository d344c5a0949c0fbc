"""ExecuTorch programs from trainings with rounding."""

from __future__ import annotations

import pytest
import torch

from nas.deploy.qat_executorch import integer_module, write_qat_pte
from nas.errors import UserError
from nas.train.compression.fake_quantise import QuantisedLayer
from nas.train.compression.qat import prepare_qat
from nas.train.judge import logits


@pytest.fixture(scope="module")
def signed(task, trained):
    return prepare_qat(trained.module, task.images("train", (12, 12))[:128], profile="signed").eval()


def test_integers_say_what_the_rounded_network_says(task, signed):
    images = task.images("test", (12, 12))
    with torch.no_grad():
        said, expected = integer_module(signed)(images), signed(images)
    assert (said.argmax(1) == expected.argmax(1)).float().mean() >= 0.99
    # Sums in another order now and then fall on the other side of a half.
    assert float((said - expected).abs().max()) < 0.05 * float(expected.max() - expected.min())


def test_weights_are_stored_as_integers_and_only_the_last_layer_keeps_floats(signed):
    stored = list(integer_module(signed).state_dict().items())
    integers = [name for name, value in stored if value.dtype == torch.int8]
    layers = [part for part in signed.modules() if isinstance(part, QuantisedLayer)]
    assert len(integers) == len(layers) - 1
    floats = [tuple(value.shape) for _, value in stored if value.dtype == torch.float32 and value.ndim > 1]
    assert floats == [tuple(layers[-1].layer.weight.shape)]


def test_every_reader_restores_its_own_floats(signed):
    graph = integer_module(signed).graph
    restored = [node for node in graph.nodes if "dequantize_per_tensor" in str(node.target)]
    rounded = [node for node in graph.nodes if "quantize_per_tensor" in str(node.target)]
    assert all(len(node.users) == 1 for node in restored)
    assert len(rounded) - len(restored) < len(restored)  # squeeze-excite reads a value twice


def test_unsigned_activations_and_float_networks_are_refused(task, trained, tmp_path):
    unsigned = prepare_qat(trained.module, task.images("train", (12, 12))[:8])
    with pytest.raises(UserError, match="must have been trained with signed activations, got unsigned ones; prepare"):
        write_qat_pte(unsigned, (1, 12, 12), tmp_path / "model.pte")
    with pytest.raises(UserError, match="got no rounding at all"):
        integer_module(trained.module)


def test_the_program_runs_in_xnnpack_and_says_what_the_training_said(task, signed, tmp_path):
    runtime = pytest.importorskip("executorch.runtime")
    path = tmp_path / "model.pte"
    write_qat_pte(signed, (1, 12, 12), path)
    method = runtime.Runtime.get().load_program(str(path)).load_method("forward")
    images = task.images("test", (12, 12))[:100].contiguous()
    said = torch.cat([method.execute((image[None],))[0].clone() for image in images])
    expected = logits(signed, task, "test", input_size=(12, 12))[:100]
    assert (said.argmax(1) == expected.argmax(1)).float().mean() >= 0.97
    content = path.read_bytes()
    assert b"XnnpackBackend" in content
    assert b"quantized_decomposed" not in content  # nothing is left to operators outside XNNPACK
