"""What one score costs alone, and all together, in CPU ms: `OMP_NUM_THREADS=1 python experiments/zero_cost/cost.py`."""

from __future__ import annotations

import time

import numpy as np
import torch
from spaces import ROOT

from nas.model.build import build
from nas.space.load import load_space
from nas.space.moves import sample
from nas.train.scores.aggregate import AGGREGATES
from nas.train.scores.network import SCORES, score_network

CASES = {
    "nasbench201, 3x32x32": ("nasbench201", (3, 32, 32)),
    "nasbench-macro, 3x32x32": ("nasbench-macro", (3, 32, 32)),
    "mobilenet-tiny, 3x32x32": ("mobilenet-tiny", (3, 32, 32)),
    "mobilenet-tiny, 1x8x8": ("mobilenet-tiny", (1, 8, 8)),
}
NETWORKS = 6
BATCH = 32


def cpu_ms(module: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, which: list[str]) -> float:
    """The smaller of two runs."""
    taken = []
    for _ in range(2):
        start = time.process_time()
        score_network(module, images, labels, which, seed=0)
        taken.append(1000 * (time.process_time() - start))
    return min(taken)


def step_ms(module: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """One step of training without the update, the smaller of two runs."""
    taken = []
    for _ in range(2):
        start = time.process_time()
        loss = torch.nn.functional.cross_entropy(module(images), labels)
        torch.autograd.grad(loss, list(module.parameters()), allow_unused=True)
        taken.append(1000 * (time.process_time() - start))
    return min(taken)


def main() -> None:
    torch.set_num_threads(1)
    for title, (name, shape) in CASES.items():
        space = load_space(ROOT / "search_spaces" / f"{name}.yaml")
        times: dict[str, list[float]] = {}
        rng = np.random.default_rng(0)
        for row in sample(space, 3 * NETWORKS, rng):
            network = space.network(row)
            torch.manual_seed(0)
            try:
                module = build(network, input_shape=shape, num_classes=10)
            except ValueError:
                continue
            size = network.input_size(shape[1], shape[2])
            images, labels = torch.randn(BATCH, shape[0], *size), torch.randint(10, (BATCH,))
            if len(times.get("together", [])) == NETWORKS:
                break
            for score in SCORES:
                times.setdefault(score, []).append(cpu_ms(module, images, labels, [score]))
            for title_of_set, names in AGGREGATES.items():
                times.setdefault(title_of_set, []).append(cpu_ms(module, images, labels, list(names)))
            times.setdefault("together", []).append(cpu_ms(module, images, labels, list(SCORES)))
            module.train()
            times.setdefault("one step of training", []).append(step_ms(module, images, labels))
        print(title, {key: round(float(np.mean(values))) for key, values in times.items()}, flush=True)


if __name__ == "__main__":
    main()
