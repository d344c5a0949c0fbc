from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from nas.deploy.export import export_onnx
from nas.deploy.options import EXPORTERS
from nas.errors import UserError

SHAPE = (1, 8, 8)
FLOAT = 4


def small_network(*, fresh: bool = False) -> nn.Sequential:
    """A depthwise-separable network; its batch norms have statistics and weights as after training unless ``fresh``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        module = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.Hardswish(),
            nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, 10),
        )
        for norm in (module[1], module[4]) if not fresh else ():
            assert isinstance(norm, nn.BatchNorm2d)
            norm.load_state_dict({name: torch.rand_like(value.float()) for name, value in norm.state_dict().items()})
    return module


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exports")
    for exporter in EXPORTERS:
        export_onnx(small_network(), SHAPE, folder / exporter, exporter=exporter)
    return {exporter: folder / exporter for exporter in EXPORTERS}


def logits(path: Path, inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"input": inputs})[0])


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_the_file_gives_torchs_logits_for_any_batch_under_the_agreed_names(
    exports: dict[str, Path], exporter: str
) -> None:
    module = small_network().eval()
    for batch in (1, 2, 5):
        inputs = np.random.default_rng(batch).normal(size=(batch, *SHAPE)).astype(np.float32)
        expected = module(torch.from_numpy(inputs)).detach().numpy()
        np.testing.assert_allclose(logits(exports[exporter], inputs), expected, atol=1e-5)


def test_both_exporters_give_the_same_operators_but_for_how_flattening_is_called(exports: dict[str, Path]) -> None:
    same = {"Reshape": "Flatten"}
    first, second = (
        [same.get(node.op_type, node.op_type) for node in onnx.load(path).graph.node] for path in exports.values()
    )
    assert first == second


def test_two_exports_of_one_module_are_equal_byte_for_byte_in_any_memory_format_and_mode(tmp_path: Path) -> None:
    module = small_network()
    export_onnx(module.train(), SHAPE, tmp_path / "a.onnx")
    export_onnx(module.eval().to(memory_format=torch.channels_last), SHAPE, tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_the_mode_of_every_submodule_and_all_state_are_as_before(tmp_path: Path) -> None:
    module = small_network().train()
    module[1].eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    modes = [part.training for part in module.modules()]
    export_onnx(module, SHAPE, tmp_path / "model.onnx")
    assert [part.training for part in module.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_the_file_is_little_more_than_its_weights(exports: dict[str, Path], exporter: str) -> None:
    model = onnx.load(exports[exporter])
    weights = FLOAT * ((9 + 1) * 16 + (9 + 1) * 16 + 16 * 10 + 10)  # batch norms are folded
    assert weights < exports[exporter].stat().st_size < weights + 180 * len(model.graph.node)
    assert not model.metadata_props
    assert [entry.domain for entry in model.opset_import] == [""]


def test_constants_that_are_equal_are_read_without_copies(tmp_path: Path) -> None:
    export_onnx(small_network(fresh=True), SHAPE, tmp_path / "model.onnx")  # fresh batch norms fold to equal biases
    assert "Identity" not in {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_nothing_is_printed_warned_or_logged_and_logging_is_as_before(
    tmp_path: Path, exporter: str, capfd: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("torch.onnx")
    level, filters = logger.level, list(warnings.filters)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        export_onnx(small_network(), SHAPE, tmp_path / "model.onnx", exporter=exporter)
    assert [str(warning.message) for warning in caught] == []
    assert capfd.readouterr() == ("", "")
    assert logger.level == level
    assert warnings.filters == filters


class Bessel(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_an_operator_without_onnx_form_is_named_with_its_place(tmp_path: Path, exporter: str) -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Sequential(nn.ReLU(), Bessel()), nn.Flatten())
    with pytest.raises(UserError) as caught:
        export_onnx(module, SHAPE, tmp_path / "model.onnx", exporter=exporter)
    assert caught.value.where == "2.1"
    assert "bessel_j0" in caught.value.problem
    assert "Bessel" in caught.value.problem
    assert not list(tmp_path.iterdir())


def test_an_unknown_exporter_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="torchscript"):
        export_onnx(small_network(), SHAPE, tmp_path / "model.onnx", exporter="script")  # type: ignore[arg-type]


def test_a_failed_export_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export_onnx(small_network(), SHAPE, path)
    before = path.read_bytes()
    with pytest.raises(UserError):
        export_onnx(nn.Sequential(nn.Flatten(), Bessel()), SHAPE, path)
    assert path.read_bytes() == before
