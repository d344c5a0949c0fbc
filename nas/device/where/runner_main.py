"""Entry of the runner, `__main__.py` in its zip file: says what is missing on the machine, then runs the job.

Responsible for what must hold before the rest of the runner can be imported.
"""

import json
import sys
from pathlib import Path

OLDEST = (3, 9)


def fail(kind: str, problem: str, advice: str) -> None:
    """Ends with one line, in the form that whoever started the runner reads."""
    if sys.argv[1:2] == ["serve"]:
        record = {"event": "error", "kind": kind, "where": sys.executable, "problem": problem, "advice": advice}
        sys.stdout.write(json.dumps(record) + "\n")
        sys.stdout.flush()
    else:
        sys.stderr.write(f"{sys.executable}: {problem}; {advice}\n")
    sys.exit(2)


if sys.version_info < OLDEST:
    found = ".".join(map(str, sys.version_info[:2]))
    fail("python", f"must be Python 3.9 or newer, it is {found}", "use another interpreter")

if sys.version_info < (3, 10):  # noqa: UP036  it runs on machines with an older Python than this project's
    import dataclasses
    from functools import wraps

    _dataclass = dataclasses.dataclass

    @wraps(_dataclass)
    def dataclass(cls=None, *, kw_only=False, **options):
        """Without keyword-only fields, which Python 3.9 lacks; they are a check, and change nothing that runs."""
        return _dataclass(cls, **options)

    dataclasses.dataclass = dataclass

try:
    import numpy  # noqa: F401
    import onnxruntime  # noqa: F401
except ImportError as error:
    fail("runtime", f"must be able to import onnxruntime, {error}", "run there: python3 -m pip install onnxruntime")

if __name__ == "__main__":
    from nas.device.where.runner import main

    sys.exit(main(sys.argv[1:], Path(sys.argv[0])))
