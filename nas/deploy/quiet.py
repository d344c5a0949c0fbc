"""Third parties that talk, silenced for as long as they work.

Responsible for what onnxruntime's Python tools print and log. It acts on the whole process while it is entered.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout


@contextmanager
def quiet_tools() -> Iterator[None]:
    """No prints, no warnings and no records on the root logger within; all as before afterwards.

    The tools call ``logging.warning``, which gives a root logger without handlers one for good: hence the placeholder.
    """
    root = logging.getLogger()
    level, placeholder = root.level, logging.NullHandler()
    root.addHandler(placeholder)
    root.setLevel(logging.CRITICAL + 1)
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
        root.removeHandler(placeholder)
