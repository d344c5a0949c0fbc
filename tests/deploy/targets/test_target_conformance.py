"""What every target must keep to; the ones whose runtime is installed run, the others are skipped with the reason."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas.deploy.targets.registry import TARGETS, open_target
from nas.deploy.targets.target import FLOAT32_ERROR, LEVELS, Artifact, Source, Target
from nas.errors import UserError

NETWORKS = ("depthwise", "plain")
CASES = [(name, precision) for name in TARGETS for precision in open_target(name).precisions]
RUNS = ("executed", "simulated")
# Only the runtime itself can tell; the others have a table for where they are not installed.
NO_TABLE = {"openvino": {"int8"}}
EFFECTS = ("refused", "leaves", "float")
SPOILT: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "none": (lambda images: images[:0], "got none"),
    "not a number": (lambda images: images * np.nan, "be finite"),
    "pixels": (lambda images: 255 * (images - images.min()), "be normalised as the model's inputs, got values from"),
    "shifted": (lambda images: np.full_like(images, images.max()), "be normalised as the model's inputs, got a mean"),
}
Find = Callable[[str], Target]
Ship = Callable[[str, str, str], Any]


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_is_called_as_in_the_registry_and_names_a_level_and_its_precisions(name: str, opened: Find) -> None:
    target = opened(name)
    assert target.name == name
    assert target.level in LEVELS
    assert target.precisions
    assert len(set(target.precisions)) == len(target.precisions)
    with pytest.raises(AttributeError):
        target.name = "other"  # type: ignore[misc]  # frozen, which is what is tested


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_that_is_not_there_says_in_one_line_how_to_get_it(
    name: str, opened: Find, sources: Mapping[str, Source], tmp_path: Path
) -> None:
    target = opened(name)
    missing = target.available()
    if not missing:
        pytest.skip(f"target {name} is available")
    assert "\n" not in missing
    assert "pip install" in missing
    with pytest.raises(UserError, match="pip install"):
        target.export(sources["plain"], tmp_path, target.precisions[0])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("name", "precision"), CASES)
def test_a_file_is_written_read_back_and_judged(
    name: str, precision: str, network: str, available: Find, shipped: Ship, sources: Mapping[str, Source]
) -> None:
    target, source = available(name), sources[network]
    before = {key: value.clone() for key, value in source.module.state_dict().items()}
    made = shipped(name, precision, network)
    artifact, found, folder = made.artifact, made.found, made.folder
    assert artifact.precision == precision
    for path in (artifact.path, *artifact.extras):
        assert path.exists()
        assert path.is_relative_to(folder)
    assert artifact.size_bytes > 1000
    assert not [path for path in folder.rglob(".*") if path.is_file()], "half-written files are left"
    assert LEVELS.index(found.level) >= LEVELS.index(target.level)
    assert (found.judgement is not None) or found.level not in RUNS
    assert found.figures["runtime"]
    if found.level in RUNS:
        assert found.figures["runtime_version"]
    if network == "plain" or precision == "float32":
        assert found.accepted, found.reason
    assert not source.module.training
    for key, value in source.module.state_dict().items():
        assert torch.equal(value, before[key]), f"{key} was changed"


@pytest.mark.parametrize("name", TARGETS)
def test_float32_is_float32(name: str, available: Find, shipped: Ship) -> None:
    target = available(name)
    if "float32" not in target.precisions:
        pytest.skip(f"target {name} has no float32")
    judgement = shipped(name, "float32", "depthwise").found.judgement
    if judgement is None:
        pytest.skip(f"target {name}: {target.level}")
    assert judgement.agreement >= 0.99
    assert judgement.relative_error <= FLOAT32_ERROR


@pytest.mark.parametrize("name", TARGETS)
def test_a_precision_that_a_target_lacks_is_refused_with_those_it_has(
    name: str, available: Find, sources: Mapping[str, Source], tmp_path: Path
) -> None:
    target = available(name)
    with pytest.raises(UserError, match=f"no precision of target {name} named 'int3'.*{target.precisions[0]}"):
        target.export(sources["plain"], tmp_path, "int3")
    with pytest.raises(UserError, match="int3"):
        target.fallbacks(sources["plain"].files["float32"], "int3")


@pytest.mark.parametrize("name", [name for name in TARGETS if (name, "int8") in CASES])
@pytest.mark.parametrize("what", SPOILT)
def test_calibration_images_that_make_every_range_wrong_are_told_in_one_line(
    name: str, what: str, available: Find, source: Source, tmp_path: Path
) -> None:
    target = available(name)
    spoil, line = SPOILT[what]
    samples = dataclasses.replace(source.samples, calibration=spoil(source.samples.calibration))
    with pytest.raises(UserError, match=f"^calibration: must .*{line}") as found:
        target.export(dataclasses.replace(source, samples=samples), tmp_path, "int8")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("name", TARGETS)
def test_a_file_that_is_not_there_is_told(
    name: str, available: Find, sources: Mapping[str, Source], tmp_path: Path
) -> None:
    target = available(name)
    nothing = Artifact(path=tmp_path / "nothing", precision=target.precisions[0])
    with pytest.raises(UserError, match="nothing"):
        target.verify(nothing, sources["plain"])


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_operators_that_do_not_run_as_they_should_are_told_before_anything_is_exported(
    name: str, precision: str, opened: Find, sources: Mapping[str, Source]
) -> None:
    target = opened(name)
    if target.available() and name in NO_TABLE and precision in NO_TABLE[name]:
        with pytest.raises(UserError, match="pip install"):
            target.fallbacks(sources["depthwise"].files["float32"], precision)
        return
    findings = target.fallbacks(sources["depthwise"].files["float32"], precision)
    for finding in findings:
        assert finding.effect in EFFECTS
        assert finding.operator
        assert finding.reason
        assert finding.source
    plain = target.fallbacks(sources["plain"].files["float32"], precision)
    assert not [finding for finding in plain if finding.effect != "float"], "plain convolutions run everywhere"


def test_names_of_targets_cost_no_runtime() -> None:
    code = (
        "import sys, nas.deploy.targets.registry as r; assert 'onnxruntime' in r.TARGETS;"
        "heavy = {'torch', 'onnxruntime', 'openvino', 'litert_torch', 'executorch', 'coremltools'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_target_is_told_with_the_nearest() -> None:
    with pytest.raises(UserError, match="no target named 'openvin'; did you mean openvino"):
        open_target("openvin")
