"""Run folders of closed-form figures, for the tests of many runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nas.problem.evaluation import Evaluation
from nas.problem.history import HistoryFile
from nas.problem.records import evaluation_from_record
from nas.run.folder import RunFolder
from nas.run.identity import space_record
from nas.space.space import SearchSpace

KEY = "latency_ms.d"
SPACE = SearchSpace.from_template(
    {
        "name": "small",
        "network": [
            {"name": "a", "op": "conv", "channels": {"choose": [4, 8, 12]}},
            {"name": "b", "op": "conv", "channels": {"choose": [4, 8, 12]}},
            {"op": "classifier"},
        ],
    }
)
ROWS = [(one, two) for one in range(3) for two in range(3)]


def evaluation(index: int, row: tuple[int, ...], **given: Any) -> Evaluation:
    """Accuracy grows with the indices, and so does latency; as the program would have written it."""
    architecture = SPACE.architecture(np.array(row, dtype=np.int16))
    status = given.get("status", "complete")
    record = {
        "index": index,
        "digest": architecture.digest,
        "status": status,
        "metrics": {"accuracy": given.get("accuracy", 0.5 + 0.05 * sum(row))} if status == "complete" else {},
        "predicted": {KEY: given.get("latency", 0.1 + 0.1 * sum(row)), "macs": 100.0 * (1 + sum(row))},
        "upper": {KEY: 0.2 + 0.1 * sum(row)},
        "choices": dict(architecture.choices),
        "row": list(row),
        "fidelity": {"epochs": given.get("epochs", 1), "resolution": 1.0, "data_share": 1.0},
        "seed": given.get("seed", 0),
        "seconds": 2.0,
        "error": "" if status == "complete" else "RuntimeError: no",
        "worker": "host:1",
        "finished": f"2026-11-24T00:{given.get('minute', 0):02d}:{index:02d}.000+00:00",
        "curve": given.get("curve", []),
        "stop_below": [],
    }
    return evaluation_from_record(record)


def make_run(path: Path, evaluations: list[Evaluation], **sections: object) -> Path:
    manifest = {
        "space": space_record(SPACE),
        "data": {"name": "digits", "digest": "d1", "num_train": 9, "classes": ["a"]},
        "objectives": ["accuracy", KEY],
        "budgets": [{"key": KEY, "limit": 0.8, "confidence": 0.95, "text": "latency <= 0.8 ms"}],
        "devices": [{"name": "d", "card": {}}],
        "forecast": {"ranges": {KEY: {"min": 0.1, "max": 1.3}}},
        "seed": 0,
        "overrides": ["run.candidates=9"],
        "config": {"run": {"candidates": 9}, "recipe": {"epochs": 1}},
        "screened": {"proposed": 10, "broken": {"latency <= 0.8 ms": 3}},
        "finished": "2026-11-24T01:02:03.000+00:00",
        **sections,
    }
    folder = RunFolder.create(path, manifest)
    file = HistoryFile(folder.history_file)
    for one in evaluations:
        file.append(one)
    return path
