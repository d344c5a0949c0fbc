from __future__ import annotations

import dataclasses

import pytest

from nas.problem.evaluation import Candidate, Evaluation, Fidelity
from nas.space.architecture import Architecture


def test_the_cost_of_a_fidelity_grows_with_each_of_its_parts() -> None:
    full = Fidelity(epochs=4)
    assert full.cost == 4.0
    assert Fidelity(epochs=4, resolution=0.5).cost == 1.0
    assert Fidelity(epochs=4, data_share=0.25).cost == 1.0
    assert Fidelity(epochs=1, resolution=0.5, data_share=0.5).cost == 0.125


def test_records_are_frozen() -> None:
    candidate = Candidate(
        index=0, architecture=Architecture(row=(0,), choices={}, digest="d"), fidelity=Fidelity(epochs=1), seed=0
    )
    evaluation = Evaluation(candidate=candidate, status="complete")
    for record in (candidate, evaluation, candidate.fidelity):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, dataclasses.fields(record)[0].name, 1)


def test_architectures_are_the_same_by_row_and_digest_whatever_their_labels_are() -> None:
    one = Architecture(row=(0, -1), choices={"a": "3"}, digest="d")
    assert one == Architecture(row=(0, -1), choices={"a": "three"}, digest="d")
    assert one != Architecture(row=(1, -1), choices={"a": "3"}, digest="e")
