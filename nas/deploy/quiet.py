"""Third parties that talk, silenced for as long as they work.

Responsible for what tools of onnxruntime, ExecuTorch and the like print and log. It acts on the whole process while it
is entered.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout


@contextmanager
def quiet_tools() -> Iterator[None]:
    """No prints, no warnings and no log records within; all as before afterwards.

    The tools call ``logging.warning``, which gives a root logger without handlers one for good: hence the placeholder.
    Others have loggers with levels and handlers of their own: hence all are disabled.
    """
    root = logging.getLogger()
    before, placeholder = root.manager.disable, logging.NullHandler()
    root.addHandler(placeholder)
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        root.removeHandler(placeholder)
