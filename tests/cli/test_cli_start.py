"""The command answers at once: what is slow to import is imported when it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import atexit, sys, time

@atexit.register  # Hydra ends the process after its help
def tell():
    heavy = {{"torch", "ray", "hydra", "pandas", "onnxruntime", "sklearn", "rich"}} & set(sys.modules)
    print(*sorted(heavy), file=sys.stderr)
    print(time.process_time(), file=sys.stderr)

from nas.cli.main import main
sys.exit(main({arguments!r}))
"""


@pytest.mark.parametrize(
    ("arguments", "imported", "seconds"),
    [
        (["--help"], [], 0.3),
        (["--version"], [], 0.3),
        (["search", "--help"], ["hydra"], 1.5),
        (["verify", "-h"], [], 0.5),
    ],
)
def test_help_imports_nothing_heavy_and_takes_little_time(
    arguments: list[str], imported: list[str], seconds: float
) -> None:
    """Processor time, so that a busy machine does not matter; it includes the start of Python."""
    command = [sys.executable, "-c", CODE.format(arguments=arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    heavy, taken = done.stderr.splitlines()
    assert heavy.split() == imported
    assert float(taken) < seconds


def test_the_help_of_search_lists_groups_and_fields() -> None:
    done = subprocess.run([sys.executable, "-m", "nas.cli.main", "search", "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for text in ["strategy: cost-fronts, nsga2, nsga3, ", "data: digits, folder", "latency: null", "--dry-run"]:
        assert text in done.stdout
