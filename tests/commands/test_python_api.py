"""The search from Python: the example of the quick start as it stands, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import nas
from nas.commands.search import SearchResult
from nas.commands.settings import RunOptions, SearchSettings
from nas.errors import UserError

PAGE = Path(nas.__file__).resolve().parents[1] / "docs" / "quick-start.md"


def test_the_example_of_the_quick_start_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(example, str(PAGE), "exec"), names)
    result = names["result"]
    assert isinstance(result, SearchResult)
    assert result.folder is not None
    assert not result.failed
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [(row[0], row[1]) for row in shown] == [(file.path, file.precision) for file in result.files]
    assert len(shown) == 4
    for path, _, accuracy, latency_ms in shown:
        assert (result.folder / path).is_file()
        assert 0 <= float(accuracy) <= 1
        assert float(latency_ms) > 0
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "latency_models"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"spaces": "resnet-tiny"}, "search: takes no field spaces"),
        ({"settings": SearchSettings(), "seed": 1}, "search: takes either settings or their fields"),
        ({"budget": {"latency": 3}}, "budget.latency: must carry a unit"),
        ({"run": RunOptions(resume="nowhere")}, "run.resume: must be a run folder"),
    ],
)
def test_what_a_search_cannot_be_told_is_refused(given: dict[str, object], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        nas.search(**given)  # type: ignore[arg-type]
    assert expected in str(caught.value)
