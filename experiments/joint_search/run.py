"""One search over architecture, precision and width, against the usual sequence: search in float, then quantise.

    cd somewhere && python .../experiments/joint_search/run.py --data CIFAR10

CIFAR10 holds the images as Parquet files in the layout of Hugging Face. Both arms search the same template under the
same latency budget, with as many candidates, epochs, finalists and final epochs:

- ``joint``: precision and width are choices; candidates are judged by their files, in their precision's latency;
- ``sequence``: the same template without ``deploy``, at full width; candidates are judged in float32, and every
  finalist is exported in float32 and, by calibration, in INT8.

Narrow candidates of ``joint`` that are trained wide first cost more than their own size says: `table.py` prints the
training cost of both, and ``--sequence-candidates`` levels it. Run folders (``runs/<arm>-<seed>``) and latency models
are left in the folder it is called from; what is finished there is not run again, and what was interrupted goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from nas.commands.search import search
from nas.commands.settings import RunOptions
from nas.locate import resource_folder
from nas.run.serial import SerialRunner
from nas.space import SearchSpace
from nas.train.data.digits import Digits
from nas.train.data.parquet import Parquet
from nas.train.recipe import Recipe

SPACE = "mobilenet-tiny-joint"
ARMS = ("joint", "sequence")


def space_of(arm: str) -> SearchSpace:
    """The space of an arm: the shipped one, or the same without its ``deploy`` section."""
    template: dict[str, Any] = yaml.safe_load(
        (resource_folder("search_spaces") / f"{SPACE}.yaml").read_text(encoding="utf-8")
    )
    if arm == "sequence":
        del template["deploy"]
        template["name"] = f"{SPACE}-float"
    return SearchSpace.from_template(template, source=f"{SPACE}, {arm}")


def run(given: argparse.Namespace, arm: str, seed: int) -> None:
    """One search; nothing where its front is there already."""
    folder = Path("runs") / f"{arm}-{seed}"
    if (folder / "front.csv").is_file():
        return
    photos = {"flip": True, "shift": 0.125, "cutout": 0.25, "ema_decay": 0.995}
    search(
        space=space_of(arm),
        data=Digits() if given.data is None else Parquet(path=str(given.data), limit=given.images),
        recipe=Recipe() if given.data is None else Recipe(**photos),
        runner=SerialRunner(),
        budget={"latency": given.budget},
        seed=seed,
        run=RunOptions(
            name=None if folder.is_dir() else folder.name,
            resume=str(folder) if folder.is_dir() else None,
            candidates=given.sequence_candidates or given.candidates if arm == "sequence" else given.candidates,
            epochs=given.epochs,
            final_epochs=given.final_epochs,
            front=given.front,
            wide_share=given.wide_share,
        ),
    )


def main() -> None:
    """All arms of one seed, then of the next: what is there at any time is balanced."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=None, help="folder of CIFAR-10; left out: the digits")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--candidates", type=int, default=40)
    parser.add_argument("--sequence-candidates", type=int, default=None)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--front", type=int, default=5)
    parser.add_argument("--final-epochs", type=int, default=6)
    parser.add_argument("--budget", default="0.3 ms")
    parser.add_argument("--wide-share", type=float, default=RunOptions.wide_share)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--arms", default=",".join(ARMS))
    given = parser.parse_args()
    for seed in map(int, given.seeds.split(",")):
        for arm in given.arms.split(","):
            run(given, arm, seed)


if __name__ == "__main__":
    main()
