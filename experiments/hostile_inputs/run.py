"""What each of the hostile inputs of the tests gets from the command: its line, exit code, time, and what became of it.

Usage: python experiments/hostile_inputs/run.py [--out inputs.csv]
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent.parent / "tests" / "end_to_end")]

import hostile_files  # noqa: E402  the path is set above
import test_hostile_inputs as inputs  # noqa: E402
from nas_command import SPACE, TINY, copy_of  # noqa: E402

from nas.cli.main import main as nas  # noqa: E402

COLUMNS = ("kind", "input", "exit_code", "lines", "expected", "anything_run", "files_changed", "seconds", "line")


def run(arguments: Sequence[str]) -> tuple[int, str, float]:
    """Exit code, standard error and seconds of the command in this process."""
    out, err, started = io.StringIO(), io.StringIO(), time.perf_counter()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = nas(list(arguments))
        except Exception as error:  # what the command must not let through is a result here
            code = 1
            err.write(f"{type(error).__name__}: {error}\n")
    return code, err.getvalue(), time.perf_counter() - started


def prepared(place: Path) -> Path:
    """A finished search of a few networks, its bundle, a file that must stay as it is, and the trap as a module."""
    place.mkdir()
    (place / "small.yaml").write_text(SPACE)
    with contextlib.chdir(place):
        code, err, _ = run(["search", *TINY, "runner=serial", "run.candidates=4", "run.name=tiny"])
        assert code == 0, err
        code, err, _ = run([*inputs.EXPORT, "precisions=[float32]"])
        assert code == 0, err
    (place / "trap.py").write_text(hostile_files.MODULE)
    (place / "precious.txt").write_text("three years of work")
    return place


def tried(name: str, place: Path, folder: Path, canary: Path) -> dict[str, object]:
    """A row of the table."""
    kind, _, text = name.partition(": ")
    make, expected = inputs.EVERYTHING[name]
    copy_of(place, folder)
    with contextlib.chdir(folder):
        arguments = make()
        before = inputs.as_it_is()
        code, err, seconds = run(arguments)
        changed = inputs.as_it_is() != before
    values = (kind, text, code, err.count("\n"), expected in err, canary.exists(), changed, round(seconds, 2))
    return dict(zip(COLUMNS, (*values, err.strip().replace(str(folder), "...")[:300]), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "inputs.csv")
    out = parser.parse_args().out.resolve()
    with tempfile.TemporaryDirectory(prefix="hostile-") as scratch:
        os.environ["NAS_CANARY"] = str(Path(scratch) / "canary")
        place = prepared(Path(scratch) / "prepared")
        rows = [
            tried(name, place, Path(scratch) / str(number), Path(scratch) / "canary")
            for number, name in enumerate(inputs.EVERYTHING)
        ]
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for kind in dict.fromkeys(str(row["kind"]) for row in rows):
        own = [row for row in rows if row["kind"] == kind]
        refused = sum(row["exit_code"] == 2 and row["lines"] == 1 and row["expected"] is True for row in own)
        run_ = sum(bool(row["anything_run"]) for row in own)
        changed = sum(bool(row["files_changed"]) for row in own)
        longest = max(float(str(row["seconds"])) for row in own)
        print(f"| {kind} | {len(own)} | {refused} | {run_} | {changed} | {longest:.1f} |")


if __name__ == "__main__":
    main()
