from __future__ import annotations

from collections.abc import Iterator

import pytest

from nas.run.ray_runner import RayRunner
from nas.run.runner import Workers


@pytest.fixture(scope="session")
def local_ray() -> Iterator[Workers]:
    """One Ray for all tests of this process; runners that are started later find and use it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        with RayRunner(workers=2, object_store="200 MB").start() as workers:
            yield workers
