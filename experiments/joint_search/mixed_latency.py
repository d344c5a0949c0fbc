"""Files whose stages differ in precision: predicted latencies and bounds against measured ones.

    cd somewhere && python .../experiments/joint_search/mixed_latency.py mobilenet-tiny --files 16

The latency models of both precisions are left in the folder it is called from. What is printed is one line a file, and
a summary: the factors in `nas.commands.by_precision` rest on it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
import yaml

from nas.commands.display import Silent
from nas.commands.latency import latency_models, latency_of_rows
from nas.commands.settings import CalibrationOptions, SearchSettings
from nas.commands.setup import prepare
from nas.deploy.deployed_file import write_deployed
from nas.deploy.options import DeployOptions
from nas.device.protocol import FULL
from nas.device.where.measure import measure_on
from nas.locate import resource_folder
from nas.model.build import build
from nas.model.shapes import input_shape_of
from nas.space import SearchSpace
from nas.space.moves import sample
from nas.train.data.digits import Digits
from nas.train.data.parquet import Parquet

STAGES = ("stem", "stage1", "stage2", "stage3")


def mixed_space(name: str) -> SearchSpace:
    """A shipped space in which each stage chooses between float32 and INT8."""
    template = yaml.safe_load((resource_folder("search_spaces") / f"{name}.yaml").read_text(encoding="utf-8"))
    hole = {"choose": ["float32", "int8"]}
    template["name"] = f"{name}-mixed"
    template["deploy"] = {"precision": {"default": "float32", **dict.fromkeys(STAGES, hole)}}
    return SearchSpace.from_template(template)


def main() -> None:
    """Calibrates, exports untrained networks in mixed precision, times them, and compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("space")
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--files", type=int, default=16)
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    space = mixed_space(given.space)
    data = Digits() if given.data is None else Parquet(path=str(given.data), limit=1000)
    settings = SearchSettings(
        space=space, data=data, seed=given.seed, calibration=CalibrationOptions(samples=given.samples)
    )
    setup = prepare(settings, Silent())
    (on,) = latency_models(setup, Silent())
    predictor = latency_of_rows(setup, on)
    rows = sample(space, 20 * given.files, np.random.default_rng(given.seed))
    rows = rows[[space.network(row).deployment.is_mixed for row in rows]][: given.files]
    shape, classes = setup.task.input_shape, setup.task.num_classes
    files = []
    with tempfile.TemporaryDirectory() as folder:
        for number, row in enumerate(rows):
            network = space.network(row)
            torch.manual_seed(number)
            module = build(network, input_shape=shape, num_classes=classes).eval()
            images = np.random.default_rng(number).standard_normal((8, *input_shape_of(network, shape)))
            own = Path(folder) / str(number)
            own.mkdir()
            options = DeployOptions(revert=0)
            files.append(write_deployed(module, network, own, calibration=images.astype(np.float32), options=options))
        timed = measure_on(on.device, files, protocol=FULL, reference_ms=on.anchor_ms, progress=lambda *_: None)
    measured = np.array([one.latency_ms for one in timed])
    expected, upper = predictor.predict_ms(rows), predictor.upper_ms(rows, 0.95)
    for row, own, guess, bound in zip(rows, measured, expected, upper, strict=True):
        print(f"{space.network(row).deployment}: {own:.4f} ms, predicted {guess:.4f}, bound {bound:.4f}")
    errors = np.log(measured / expected)
    print(
        f"{space.name} {shape}: {len(rows)} files, measured over predicted: median {np.exp(np.median(errors)):.3f}, "
        f"from {np.exp(errors.min()):.3f} to {np.exp(errors.max()):.3f}; MAPE {np.abs(np.expm1(-errors)).mean():.1%}; "
        f"bound held {int((measured <= upper).sum())}"
    )


if __name__ == "__main__":
    main()
