"""What each target does with each operator of the spaces in INT8: prints the table of docs/targets.md.

python experiments/targets/operators.py [targets ...]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from networks import SHAPE, Transformer

from nas.deploy.export import export_onnx
from nas.deploy.options import DeployOptions
from nas.deploy.targets.registry import open_target
from nas.deploy.untrained import export_untrained
from nas.errors import UserError
from nas.space import SearchSpace

_STEM = {"op": "conv", "channels": 16, "kernel": 3, "activation": "relu"}
_ACTIVATIONS = ("relu", "relu6", "hardswish", "silu", "gelu")
_RESIDUAL = {"op": "inverted_residual", "channels": 16, "expansion": 2, "kernel": 3}
_LAYERS = {
    **{f"conv, {name}": {"op": "conv", "channels": 16, "kernel": 3, "activation": name} for name in _ACTIVATIONS},
    "depthwise": {"op": "depthwise", "kernel": 3},
    "inverted_residual": {**_RESIDUAL, "activation": "relu"},
    "inverted_residual, squeeze_excite": {**_RESIDUAL, "activation": "relu", "squeeze_excite": True},
    "basic_block": {"op": "basic_block", "channels": 16, "kernel": 3, "activation": "relu"},
    "bottleneck": {"op": "bottleneck", "channels": 16, "expansion": 2, "kernel": 3, "activation": "relu"},
    "max_pool": {"op": "max_pool", "kernel": 3, "stride": 2},
    "avg_pool": {"op": "avg_pool", "kernel": 3, "stride": 2},
    "relu_conv_norm": {"op": "relu_conv_norm", "kernel": 3},
    "reduction_block": {"op": "reduction_block", "channels": 32, "stride": 2},
    "norm_activation": {"op": "norm_activation", "activation": "relu"},
}


def files(folder: Path) -> dict[str, Path]:
    """Layer -> float32 file of stem, layer, classifier; and a transformer."""
    found = {}
    for name, layer in _LAYERS.items():
        space = SearchSpace.from_template({"name": "one", "network": [_STEM, layer, {"op": "classifier"}]})
        network = space.network(space.row({}))
        made = export_untrained(network, folder, ["float32"], input_shape=SHAPE, num_classes=10, exporter="torchscript")
        found[name] = made["float32"]
    torch.manual_seed(0)
    found["transformer block"] = folder / "transformer.onnx"
    export_onnx(Transformer(depth=1), SHAPE, found["transformer block"])
    return found


def cell(name: str, file: Path) -> str:
    target = open_target(name, DeployOptions(activations="unsigned"))
    if "int8" not in target.precisions:
        return "-"
    try:
        findings = target.fallbacks(file, "int8")
    except UserError as error:
        return f"refused: {error.problem}"
    kinds = dict.fromkeys((one.effect, one.operator) for one in findings)
    return ", ".join(f"{operator} {effect}" for effect, operator in kinds) or "ok"


def main() -> None:
    torch.set_num_threads(1)
    targets = sys.argv[1:] or ["onnxruntime", "openvino", "qnn", "tensorrt"]
    print(f"| layer | {' | '.join(targets)} |\n|{'---|' * (len(targets) + 1)}")
    with tempfile.TemporaryDirectory() as folder:
        for layer, file in files(Path(folder)).items():
            print(f"| {layer} | {' | '.join(cell(name, file) for name in targets)} |", flush=True)


if __name__ == "__main__":
    main()
