from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import UserError
from nas.units import CANONICAL, Dimension, format_quantity, format_seconds, format_size, parse_quantity


@pytest.mark.parametrize(
    ("text", "dimension", "expected"),
    [
        ("12 ms", "time", 12.0),
        ("12ms", "time", 12.0),
        (" 0.4  ms ", "time", 0.4),
        ("12 s", "time", 12_000.0),
        ("250 us", "time", 0.25),
        ("250 µs", "time", 0.25),
        ("5 ns", "time", 5e-6),
        ("1.5 min", "time", 90_000.0),
        ("1e-3 s", "time", 1.0),
        (".5 ms", "time", 0.5),
        ("2 MB", "bytes", 2e6),
        ("2 MiB", "bytes", 2.0 * 2**20),
        ("64 kB", "bytes", 64e3),
        ("64 KB", "bytes", 64e3),
        ("1 GiB", "bytes", 2.0**30),
        ("100 B", "bytes", 100.0),
        ("3 mJ", "energy", 3.0),
        ("3 J", "energy", 3000.0),
        ("250 uJ", "energy", 0.25),
        ("4.6 pJ", "energy", 4.6e-9),
        ("2 nJ", "energy", 2e-6),
        ("2.5 W", "power", 2.5),
        ("350 mW", "power", 0.35),
        ("1.2 kW", "power", 1200.0),
        ("40 M", "count", 40e6),
        ("40", "count", 40.0),
        (40, "count", 40.0),
        ("1.2 G", "count", 1.2e9),
        ("95 %", "share", 95.0),
    ],
)
def test_a_quantity_is_read_in_the_canonical_unit(text: object, dimension: Dimension, expected: float) -> None:
    assert parse_quantity(text, dimension, where="budget.x") == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "dimension", "part"),
    [
        ("12 MB", "time", "must be in a unit of time (ns, us, µs, ms, s, min), got '12 MB'"),
        ("12 ms", "bytes", "must be in a unit of bytes"),
        ("0.4", "time", "must carry a unit (ns, us, µs, ms, s, min), got the bare number 0.4"),
        (0.4, "time", "must carry a unit"),
        ("95", "share", "must carry a unit (%)"),
        ("12 MS", "time", "must be in a unit of time"),
        ("fast", "time", "must be a quantity of time, got 'fast'"),
        ("12 ms ms", "time", "must be a quantity of time"),
        ("1,5 ms", "time", "must be a quantity of time"),
        ("nan ms", "time", "must be a quantity of time"),
        ("inf ms", "time", "must be a quantity of time"),
        (True, "count", "must be a quantity of count, got True"),
        (None, "count", "must be a quantity of count, got None"),
        ("0 ms", "time", "must be positive and finite, got '0 ms'"),
        ("-3 ms", "time", "must be positive and finite, got '-3 ms'"),
        ("1e999 ms", "time", "must be positive and finite"),
        ("1e-400 ms", "time", "must be positive and finite"),
    ],
)
def test_what_is_no_quantity_is_refused_with_the_rule_the_value_and_an_example(
    text: object, dimension: Dimension, part: str
) -> None:
    with pytest.raises(UserError) as caught:
        parse_quantity(text, dimension, where="budget.x")
    assert caught.value.where == "budget.x"
    assert part in caught.value.problem
    assert caught.value.advice.startswith("give it like '")


@pytest.mark.parametrize(
    ("value", "dimension", "expected"),
    [
        (0.38, "time", "0.38 ms"),
        (12.345, "time", "12.3 ms"),
        (123.45, "time", "123 ms"),
        (1234.0, "time", "1234 ms"),
        (20_000.0, "time", "20 s"),
        (0.0005, "time", "0.5 us"),
        (212_000.0, "bytes", "212 kB"),
        (2_000_000.0, "bytes", "2 MB"),
        (17.0, "bytes", "17 B"),
        (4.1e6, "count", "4.1 M"),
        (1.2e9, "count", "1.2 G"),
        (12.0, "count", "12"),
        (0.0, "count", "0"),
        (1.25e20, "count", "1.2e+20"),
        (97.84, "share", "97.8 %"),
        (3.0, "energy", "3 mJ"),
        (0.25, "energy", "250 uJ"),
        (4.6e-9, "energy", "4.6 pJ"),
        (2300.0, "energy", "2.3 J"),
        (2.5, "power", "2.5 W"),
        (0.35, "power", "350 mW"),
        (None, "time", "-"),
        (math.nan, "bytes", "-"),
    ],
)
def test_a_quantity_is_written_with_three_digits(value: float | None, dimension: Dimension, expected: str) -> None:
    assert format_quantity(value, dimension) == expected


@given(
    value=st.floats(min_value=1e-3, max_value=1e14),
    dimension=st.sampled_from(["time", "bytes", "energy"]),
)
def test_what_is_written_reads_back_to_three_digits(value: float, dimension: Dimension) -> None:
    written = format_quantity(value, dimension)
    assert parse_quantity(written, dimension, where="x") == pytest.approx(value, rel=0.006)


@given(number=st.floats(min_value=1e-6, max_value=1e9))
def test_the_canonical_unit_has_factor_one(number: float) -> None:
    for dimension, unit in CANONICAL.items():
        assert parse_quantity(f"{number!r} {unit}", dimension, where="x") == number


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(31, "0:31"), (130.4, "2:10"), (3900, "1:05:00"), (0, "0:00"), (-5, "0:00"), (math.inf, "?"), (math.nan, "?")],
)
def test_a_duration_is_written_as_on_a_clock(seconds: float, expected: str) -> None:
    assert format_seconds(seconds) == expected


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (4, "4"),
        (15_625, "15,625"),
        (1_000_000, "1.0e6"),
        (6_590_000_000, "6.6e9"),
        (9_990_000, "1.0e7"),
        (10**400, "1.0e400"),
    ],
)
def test_numbers_of_architectures_are_short(count: int, text: str) -> None:
    assert format_size(count) == text
