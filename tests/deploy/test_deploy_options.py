from __future__ import annotations

import subprocess
import sys

import pytest
import yaml

from nas.deploy.options import DeployOptions
from nas.errors import UserError
from nas.locate import resource_folder


def test_the_shipped_group_is_the_default_options() -> None:
    group = yaml.safe_load((resource_folder("conf") / "deploy" / "onnxruntime.yaml").read_text())
    assert group.pop("_target_") == "nas.deploy.options.DeployOptions"
    group["precisions"] = tuple(group["precisions"])
    assert DeployOptions(**group) == DeployOptions()
    assert set(group) == set(DeployOptions.__dataclass_fields__)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"exporter": "torchscrip"}, r"deploy\.exporter: .*did you mean torchscript"),
        ({"method": "distribution"}, r"deploy\.method: .*Known: auto, entropy, minmax, percentile"),
        ({"activations": "both"}, r"deploy\.activations: "),
        ({"precisions": "int8"}, r"deploy\.precisions: must be a list"),
        ({"precisions": ("int8",)}, r"deploy\.precisions: must name float32"),
        ({"precisions": ("float32", "float32")}, r"deploy\.precisions: must name float32, and each precision once"),
        ({"precisions": ("float32", "int2")}, r"deploy\.precisions: no precisions named 'int2'.*int4"),
        ({"int4_block": 24}, r"deploy\.int4_block: must be a power of 2, got 24"),
        ({"int4_block": 8}, r"deploy\.int4_block: must be a whole number of at least 16, got 8"),
        ({"int4_rest": "int4"}, r"deploy\.int4_rest: .*Known: float32, int8"),
        ({"revert": -1}, r"deploy\.revert: must be a whole number of at least 0, got -1"),
        ({"calibration_images": 0}, r"deploy\.calibration_images: must be a whole number of at least 1, got 0"),
        ({"golden_images": True}, r"deploy\.golden_images: must be a whole number"),
        ({"min_agreement": 90}, r"deploy\.min_agreement: must be a share between 0 and 1, got 90"),
    ],
)
def test_a_value_against_its_rule_is_refused_with_its_field(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DeployOptions(**fields)  # type: ignore[arg-type]


def test_options_are_imported_without_any_runtime() -> None:
    code = "import nas.deploy.options, sys; print({'torch', 'onnx', 'onnxruntime'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"
