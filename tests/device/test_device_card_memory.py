from __future__ import annotations

import numpy as np

from nas.device.card import Device, load_device
from nas.device.card_figures import Figure
from nas.device.card_memory import DeviceCosts, default_limits
from nas.locate import resource_folder
from nas.model.costs import network_costs
from nas.model.population_costs import PopulationCosts
from nas.problem.goals import budgets_from
from nas.space.load import load_space
from nas.space.moves import sample
from nas.strategy.screening import Screen

SPACE = load_space(resource_folder("search_spaces") / "resnet-tiny.yaml")
SHAPE = (1, 8, 8)
EXACT = PopulationCosts(SPACE, input_shape=SHAPE, num_classes=10)
ROWS = sample(SPACE, 15, np.random.default_rng(0))
FLOAT = Device(name="board", kind="microcontroller")
INT8 = Device(name="small", kind="microcontroller", precision="int8-signed")


def figure(value: float) -> Figure:
    return Figure(value=value, source="made up for this test")


def test_float_files_take_what_the_exact_figures_say() -> None:
    costs = DeviceCosts(exact=EXACT, devices=(FLOAT,)).costs(ROWS)
    np.testing.assert_allclose(costs["ram_bytes.board"], costs["peak_activation_bytes"])
    np.testing.assert_allclose(costs["flash_bytes.board"], costs["size_bytes"])


def test_int8_files_take_a_quarter_of_the_activations_and_what_their_file_takes() -> None:
    costs = DeviceCosts(exact=EXACT, devices=(INT8,)).costs(ROWS)
    assert (costs["ram_bytes.small"] >= costs["peak_activation_bytes"] / 4).all()
    for place, row in enumerate(ROWS[:5]):
        network = SPACE.network(row)
        sizes = network_costs(network, input_shape=SHAPE, num_classes=10).size_bytes
        assert abs(costs["flash_bytes.small"][place] / sizes["int8"] - 1) < 0.25
        assert costs["flash_bytes.small"][place] < sizes["float32"]


def test_everything_else_stays_as_it_was() -> None:
    plain, added = EXACT.costs(ROWS), DeviceCosts(exact=EXACT, devices=(FLOAT, INT8)).costs(ROWS)
    assert set(added) - set(plain) == {
        f"{kind}_bytes.{name}" for kind in ("ram", "flash") for name in ("board", "small")
    }
    for key, values in plain.items():
        np.testing.assert_array_equal(added[key], values)


def test_a_microcontrollers_card_implies_budgets_on_its_memories() -> None:
    memory = {"ram": figure(320e3), "ram_reserved": figure(64e3), "flash": figure(1e6), "cache": figure(1e3)}
    device = Device(name="board", kind="microcontroller", memory=memory)
    assert default_limits(device) == {"ram": "256000 B", "flash": "1000000 B"}
    ram, flash = budgets_from(default_limits(device), device="board", confidence=0.95)
    assert (ram.key, ram.limit, ram.confidence) == ("ram_bytes.board", 256e3, None)
    assert flash.key == "flash_bytes.board"


def test_other_devices_and_unknown_memories_imply_nothing() -> None:
    assert default_limits(Device(name="pc", memory={"ram": figure(8e9)})) == {}
    assert default_limits(Device(name="board", kind="microcontroller")) == {}


def test_a_screen_holds_budgets_on_ram_and_flash() -> None:
    costs = DeviceCosts(exact=EXACT, devices=(INT8,))
    ram = costs.costs(ROWS)["ram_bytes.small"]
    limit = float(np.median(ram))
    budgets = budgets_from({"ram": f"{limit} B"}, device="small", confidence=0.95)
    screening = Screen(costs=costs, budgets=budgets)(ROWS)
    np.testing.assert_array_equal(screening.feasible, ram <= limit)


def test_the_shipped_microcontroller_says_what_it_holds() -> None:
    device = load_device("esp32-s3", [resource_folder("latency_models")])
    assert default_limits(device) == {"ram": f"{512 * 1024} B", "flash": f"{8 * 2**20} B"}
