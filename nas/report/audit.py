"""Whether the search can be believed, and what stands behind its front: the audit.

Responsible for which evidence of the run folder each question is put to. Nothing here is measured anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.report.agreement import agreements, finals_of
from nas.report.attribution import attribution
from nas.report.chance import against_chance
from nas.report.evaluations import Evaluations
from nas.report.judged import fidelity_text, judged, spread_places
from nas.report.neighbours import neighbours
from nas.report.records import Record, RunRecords, mapping, number, sequence
from nas.report.relaxing import relaxing

_BUDGETS = 6  # whose worth is shown at most
_EVALUATIONS = 12_000  # that are looked at; of a longer history some, evenly spread, and its front


def audit_part(
    records: RunRecords,
    *,
    search: Evaluations,
    baseline: Evaluations,
    box: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
    files: Sequence[Mapping[str, Any]],
    latencies: Sequence[str],
    budgets: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The audit as plain JSON.

    Args:
        records: of the run.
        search: its history.
        baseline: random draws; empty if none were made.
        box: that hypervolumes are measured in.
        files: entries of `nas.report.files.file_entries`.
        latencies: metric keys, that of the first device first.
        budgets: ``key``, ``limit``, ``confidence`` and ``text``.

    Returns:
        ``fidelity`` in words, ``num`` networks judged at it out of ``evaluations`` looked at, and a part a question:
        ``agreement``, ``chance``, ``attribution``, ``neighbours``, ``relaxing``.
    """
    data = mapping(records.manifest.get("data"))
    num_images = number(data.get("num_validation"))
    choices = [mapping(choice) for choice in sequence(mapping(records.manifest.get("space")).get("choices"))]
    goals = [key for key in search.objectives if key != "accuracy"]
    costs = list(dict.fromkeys([*latencies, *goals])) or ["macs"]
    leading = [*goals, *costs]
    looked_at = _looked_at(search)
    alike = judged(looked_at)
    causes = attribution(alike, choices, costs)
    return {
        "fidelity": fidelity_text(alike.fidelity),
        "num": len(alike),
        "evaluations": len(looked_at),
        "agreement": agreements(looked_at, alike, finals_of(records.models, files), left_out=causes.left_out),
        "chance": against_chance(search, baseline, box),
        "attribution": causes.part,
        "neighbours": neighbours(
            alike,
            choices,
            leading,
            shipped={file["digest"] for file in files},
            num_images=num_images,
        ),
        "relaxing": relaxing(alike, budgets[:_BUDGETS], cost=leading[0], num_images=num_images),
    }


def _looked_at(search: Evaluations) -> list[Record]:
    places = np.union1d(spread_places(len(search), _EVALUATIONS), np.flatnonzero(search.on_front)[:_EVALUATIONS])
    return [search.records[place] for place in places.tolist()]
