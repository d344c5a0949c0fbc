"""Whole searches on CIFAR-10 under several strategies and a ladder: trained, exported, measured on this machine.

    cd somewhere && python .../experiments/cifar10_strategies/run.py --data CIFAR10

CIFAR10 holds the images as Parquet files in the layout of Hugging Face. Run folders (``runs/<arm>-<seed>``) and the
latency model are left in the folder it is called from; what is finished there is not run again, and what was
interrupted goes on. `table.py` reads them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nas.commands.search import search
from nas.commands.settings import RunOptions
from nas.run.serial import SerialRunner
from nas.strategy.nsga2 import NSGA2
from nas.strategy.problem import SearchStrategy
from nas.strategy.random_search import RandomSearch
from nas.strategy.surrogate.strategy import Surrogate
from nas.train.data.parquet import Parquet
from nas.train.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A way to search.

    Attributes:
        strategy: that proposes.
        ladder: share of the training data on the lower rung; None: every candidate gets all of it.
    """

    strategy: SearchStrategy
    ladder: float | None = None


ARMS: Mapping[str, Arm] = {
    "surrogate": Arm(strategy=Surrogate()),
    "nsga2": Arm(strategy=NSGA2()),
    "random": Arm(strategy=RandomSearch()),
    "ladder": Arm(strategy=Surrogate(), ladder=0.25),
}


def run(given: argparse.Namespace, name: str, seed: int) -> None:
    """One search; nothing where its front is there already."""
    folder, arm = Path("runs") / f"{name}-{seed}", ARMS[name]
    if (folder / "front.csv").is_file():
        return
    ladder = {} if arm.ladder is None else {"data_share": (arm.ladder, 1.0), "eta": given.eta}
    search(
        space="mobilenet-tiny",
        data=Parquet(path=str(given.data), limit=given.images),
        recipe=Recipe(flip=True, shift=0.125, cutout=0.25, ema_decay=0.995, weight_decay=5e-4, label_smoothing=0.1),
        strategy=arm.strategy,
        runner=SerialRunner(),
        budget={"latency": given.budget},
        seed=seed,
        run=RunOptions(
            name=None if folder.is_dir() else folder.name,
            resume=str(folder) if folder.is_dir() else None,
            candidates=given.candidates,
            epochs=given.epochs if arm.ladder is None else (given.epochs, given.epochs),
            final_epochs=given.final_epochs,
            front=given.front,
            **ladder,
        ),
    )


def main() -> None:
    """All arms of one seed, then of the next: what is there at any time is balanced."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--candidates", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--front", type=int, default=5)
    parser.add_argument("--final-epochs", type=int, default=6)
    parser.add_argument("--budget", default="0.1 ms")
    parser.add_argument("--eta", type=int, default=5)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--arms", default=",".join(ARMS))
    given = parser.parse_args()
    for seed in map(int, given.seeds.split(",")):
        for name in given.arms.split(","):
            run(given, name, seed)


if __name__ == "__main__":
    main()
