"""ExecuTorch: files for XNNPACK, and quantisation-aware training that ends in one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nas.deploy.targets.executorch import EXECUTORCH, TABLE, delegation
from nas.deploy.targets.executorch_program import write_images, write_program
from nas.deploy.targets.fallbacks import by_table
from nas.deploy.targets.target import Source, Target
from nas.errors import UserError

needs_executorch = pytest.mark.skipif(bool(EXECUTORCH.missing()), reason=EXECUTORCH.missing())
Ship = Callable[[str, str, str], Any]


@pytest.fixture(scope="module")
def target(opened: Callable[[str], Target]) -> Target:
    return opened("executorch")


class Branching(nn.Module):
    """Cannot be traced: its path depends on the values of its input."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) if images.sum() > 0 else -images.flatten(1)


def test_a_program_in_a_file_gives_what_its_module_gives(source: Source, tmp_path: Path) -> None:
    write_program(source.module, source.input_shape, tmp_path / "program.pt2")
    loaded = torch.export.load(tmp_path / "program.pt2").module()
    images = torch.from_numpy(np.asarray(source.samples.test[:3]))
    rows = torch.cat([loaded(image[None]) for image in images])
    np.testing.assert_allclose(rows.detach().numpy(), source.reference[:3], atol=1e-5)


def test_a_programs_weights_lie_in_the_order_of_their_axes_however_training_left_them(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()).to(memory_format=torch.channels_last).eval()
    write_program(module, (3, 5, 5), tmp_path / "program.pt2")
    loaded = torch.export.load(tmp_path / "program.pt2")
    assert all(tensor.is_contiguous() for tensor in loaded.state_dict.values())
    assert not module[0].weight.is_contiguous()


def test_a_module_that_cannot_be_traced_is_named_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^Branching: cannot be traced by torch\.export, ") as caught:
        write_program(Branching().eval(), (1, 4, 4), tmp_path / "program.pt2")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("limit", "count"), [(None, 600), (300, 300), (1000, 600)])
def test_images_are_written_whole_and_in_order(limit: int | None, count: int, tmp_path: Path) -> None:
    images = np.random.default_rng(0).normal(size=(600, 1, 2, 3)).astype(np.float32)
    write_images(images, tmp_path / "images.npy", limit=limit)
    np.testing.assert_array_equal(np.load(tmp_path / "images.npy"), images[:count])


def test_what_stays_outside_the_delegate_is_said() -> None:
    assert delegation({"delegates": 1, "left": {}}) == "all operators run in XNNPACK, in 1 part"
    told = delegation({"delegates": 2, "left": {"mean": 3, "any": 1}})
    assert told == "XNNPACK takes 2 parts; portable kernels run any (1), mean (3)"


@needs_executorch
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_file_passes_its_gate_in_the_runtime(precision: str, shipped: Ship) -> None:
    made = shipped("executorch", precision, "depthwise")
    artifact, found = made.artifact, made.found
    assert found.accepted, found.reason
    assert found.level == "executed"
    assert found.judgement is not None
    assert found.judgement.accuracy > 0.85
    assert found.figures["threads"] == 1
    assert any("XNNPACK" in note for note in artifact.notes)


@needs_executorch
def test_a_truncated_file_is_one_clear_line(source: Source, target: Target, shipped: Ship, tmp_path: Path) -> None:
    artifact = shipped("executorch", "float32", "depthwise").copied(tmp_path / "copy")
    artifact.path.write_bytes(artifact.path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"target executorch: |cannot be loaded by ExecuTorch") as caught:
        target.verify(artifact, source)
    assert "\n" not in str(caught.value)
    artifact.path.unlink()
    with pytest.raises(UserError, match=r"must be a \.pte file, there is none"):
        target.verify(artifact, source)


def test_the_trained_networks_operators_are_all_taken_but_means_of_one_axis(source: Source) -> None:
    assert by_table(source.files["float32"], TABLE) == ()


def test_a_missing_extra_is_told_with_its_command(source: Source, target: Target, tmp_path: Path) -> None:
    if not target.available():
        pytest.skip("executorch is installed")
    with pytest.raises(UserError, match=r"target executorch: .*pip install 'nas\[executorch\]'"):
        target.export(source, tmp_path, "float32")
