"""What one proposal costs behind histories of growing length, by strategy.

Usage: python experiments/simulated_cluster/proposals.py runs/long/history.jsonl [--lengths 1000 10000] [--times 5]

The history is one of a search in mobilenet-tiny on the digits, e.g. that of experiments/long_run.
"""

from __future__ import annotations

import argparse
import os
import time
from itertools import islice
from pathlib import Path

import numpy as np
from run import STRATEGIES, problem

from nas.problem.goals import objectives_from
from nas.problem.history import History, read_history
from nas.strategy.problem import SearchProblem, SearchStrategy


def milliseconds(strategy: SearchStrategy, search: SearchProblem, history: History, times: int) -> float:
    """CPU time of a proposal of one candidate with nothing in flight: the median, after one to warm up."""
    pending = np.zeros((0, len(search.space.choices)), dtype=np.int16)
    spent = []
    for seed in range(times + 1):
        start = time.process_time()
        rows = strategy.propose(search, history, pending, 1, np.random.default_rng(seed))
        spent.append(1e3 * (time.process_time() - start))
        assert len(rows) == 1
    return float(np.median(spent[1:]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("history", type=Path)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--times", type=int, default=5)
    given = parser.parse_args()
    whole, _ = read_history(given.history, repair=False)
    key = next(key for key in whole[0].candidate.predicted if key.startswith("latency_ms."))
    found = problem()
    objectives = objectives_from(["accuracy", "latency"], device=key.partition(".")[2])
    search = SearchProblem(space=found.space, objectives=objectives, screen=found.screen)
    lengths = [length for length in given.lengths if length <= len(whole)]
    histories = [History(islice(whole, length)) for length in lengths]
    print(
        f"| strategy | {' | '.join(f'{length:,}' for length in lengths)} | load |\n|---|{'---|' * (len(lengths) + 1)}"
    )
    for name, make in STRATEGIES.items():
        cells = [f"{milliseconds(make(), search, history, given.times):.1f}" for history in histories]
        print(f"| {name} | {' | '.join(cells)} | {os.getloadavg()[0]:.0f} |", flush=True)


if __name__ == "__main__":
    main()
