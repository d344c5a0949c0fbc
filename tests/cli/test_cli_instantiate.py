"""Config nodes become objects only where they may, and say what is wrong where they do not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import nas
from nas.cli.instantiate import instantiate
from nas.errors import UserError
from nas.strategy.regularised_evolution import RegularisedEvolution

EVOLUTION = "nas.strategy.regularised_evolution.RegularisedEvolution"


def test_a_target_becomes_the_object_with_its_fields() -> None:
    made = instantiate({"_target_": EVOLUTION, "population_size": 7, "tournament_size": 3}, where="strategy")
    assert made == RegularisedEvolution(population_size=7, tournament_size=3)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"population_size": 7}, "strategy: must be a group with a _target_"),
        ({"_target_": "os.system"}, "strategy._target_: must start with one of nas., got 'os.system'"),
        ({"_target_": "nasty.Thing"}, "must start with one of nas., got 'nasty.Thing'"),
        ({"_target_": "nas.strategy.nothing.Here"}, "strategy._target_: cannot be imported"),
        ({"_target_": "nas.errors.unknown_name"}, "strategy._target_: must name a class"),
        ({"_target_": EVOLUTION, "popsize": 3}, "strategy.popsize: no field of strategy named 'popsize'"),
        ({"_target_": EVOLUTION, "population_size": "many"}, "strategy.population_size: must be int, got 'many'"),
        ({"_target_": EVOLUTION, "population_size": True}, "strategy.population_size: must be int, got True"),
    ],
)
def test_what_may_not_or_cannot_be_made_is_refused_with_its_field(node: object, message: str) -> None:
    with pytest.raises(UserError) as caught:
        instantiate(node, where="strategy")
    assert message in str(caught.value)


def test_a_prefix_that_the_user_trusts_is_admitted(tmp_path: Path) -> None:
    (tmp_path / "trusted_parts.py").write_text("class Part:\n    def __init__(self, size): self.size = size\n")
    code = (
        "from nas.cli.instantiate import instantiate\n"
        "made = instantiate({'_target_': 'trusted_parts.Part', 'size': 3}, where='data', allow=['trusted_parts'])\n"
        "assert made.size == 3\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(nas.__file__).parent.parent)])
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, check=True)
