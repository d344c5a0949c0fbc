"""Arguments reach the config, and wrong ones come back as one line that names the field."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.cli.hydra_run import run_under_hydra
from nas.errors import UserError


def composed(*arguments: str) -> list[tuple[dict[str, object], list[str]]]:
    seen: list[tuple[dict[str, object], list[str]]] = []
    run_under_hydra("search", list(arguments), lambda config, overrides: seen.append((config, list(overrides))))
    return seen


def test_every_field_can_be_overridden() -> None:
    arguments = ["budget.latency=0.4 ms", "strategy=nsga2", "run.workers=2", "seed=1", "space=a/b.yaml"]
    [(config, overrides)] = composed(*arguments)
    assert config["budget"]["latency"] == "0.4 ms"  # type: ignore[index]
    assert config["strategy"]["_target_"].endswith("NSGA2")  # type: ignore[index]
    assert config["run"]["workers"] == 2  # type: ignore[index]
    assert (config["seed"], config["space"]) == (1, "a/b.yaml")
    assert overrides == arguments


def test_a_users_own_groups_are_found(tmp_path: Path) -> None:
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "mine.yaml").write_text("_target_: nas.train.recipe.Recipe\nbatch_size: 17\n")
    [(config, _)] = composed("--config-dir", str(tmp_path), "recipe=mine")
    assert config["recipe"]["batch_size"] == 17  # type: ignore[index]


def test_multirun_composes_each_value(tmp_path: Path) -> None:
    jobs = composed("--multirun", "seed=3,5", f"run.folder={tmp_path}")
    assert [config["seed"] for config, _ in jobs] == [3, 5]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("budjet.latency=1", "budjet: no field named 'budjet'; did you mean budget? Known: allow, budget"),
        ("budget.latancy=1", "budget.latancy: no field in budget named 'latancy'; did you mean latency?"),
        ("strategy=nsgaII", "strategy: no strategy named 'nsgaII'; did you mean nsga"),
        ("recipe=nothing-like-it", "recipe: no recipe named 'nothing-like-it'; Known: "),
        ("data.colour=x", "data.colour: no field in data named 'colour'"),
        ("callbacks=[mlflow,wandb] callbacks.wandb.projct=x", "named 'projct'; did you mean project?"),
        ("run.candidates", "argument 'run.candidates': is not of the form field=value"),
        ("seed=1,2", "seed: has several values"),
    ],
)
def test_a_wrong_argument_is_one_line_that_names_the_field(argument: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        composed(*argument.split())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
