"""The devices of a run, and which exported file serves which of them.

Responsible for what is compared where: a file counts by what was measured on it, and by its prediction only on devices
that nobody can measure. There the bound, not the prediction, is held against budgets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nas.problem.front import non_dominated
from nas.report.quantities import device_column, quantity
from nas.report.records import Record, mapping, number, sequence

_UNREACHED = ("Nowhere", "Offline")
_LATENCY = "latency_ms."


def devices_of(manifest: Record, front: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """The devices of a run, its first one leading: those of the manifest, then others that the front knows.

    Returns:
        Of each ``name``, ``key`` of its latency, ``precision`` that the search looked at (None if unknown), precisions
        whose latencies are ``estimated`` from a card, and ``measurable``: False where files are not timed.
    """
    cards = {
        str(entry["name"]): mapping(entry.get("card"))
        for entry in map(mapping, sequence(manifest.get("devices")))
        if entry.get("name")
    }
    known = [
        column for row in front[:1] for column in row if (found := device_column(column)) and found[0] == "measured"
    ]
    latencies = [column.removeprefix(_LATENCY) for column in known if column.startswith(_LATENCY)]
    models = mapping(manifest.get("latency_models"))
    return [
        {
            "name": name,
            "key": f"{_LATENCY}{name}",
            "precision": str(cards.get(name, {}).get("precision") or "") or None,
            "estimated": [
                p for p, model in mapping(models.get(name)).items() if mapping(model).get("source") == "estimated"
            ],
            "measurable": _measurable(name, cards.get(name, {}), front),
        }
        for name in dict.fromkeys([*cards, *latencies])
    ]


def _measurable(name: str, card: Mapping[str, Any], front: Sequence[Mapping[str, str]]) -> bool:
    if any(number(row.get(f"{_LATENCY}{name}")) is not None for row in front):
        return True
    place = str(mapping(card.get("where")).get("_target_") or "")
    return bool(place) and not place.endswith(_UNREACHED)


def compared(file: Mapping[str, Any], unreached: Sequence[str]) -> dict[str, dict[str, float]]:
    """By metric key, what a file is compared by (``figures``) and what is held against budgets (``deciding``).

    Args:
        file: ``accuracy``, ``costs``, ``predicted`` and ``upper`` of an entry of `nas.report.files.file_entries`.
        unreached: names of devices that files are not timed on.
    """
    figures, deciding = dict(file["costs"]), dict(file["costs"])
    if file["accuracy"] is not None:
        deciding["accuracy"] = file["accuracy"]
    for key in {*file["predicted"], *file["upper"]} - set(file["costs"]):
        if key.partition(".")[2] in unreached:
            figures |= {key: file["predicted"][key]} if key in file["predicted"] else {}
            deciding |= {key: file["upper"][key]} if key in file["upper"] else {}
    return {"figures": figures, "deciding": deciding}


def broken(file: Mapping[str, Any], budgets: Sequence[Mapping[str, Any]]) -> list[int]:
    """Places of the budgets that a file breaks; a figure that is not known breaks none here."""
    found = []
    for place, budget in enumerate(budgets):
        value, limit = file["deciding"].get(budget["key"]), budget["limit"]
        if value is not None and (value < limit if quantity(budget["key"]).maximize else value > limit):
            found.append(place)
    return found


def serving(
    devices: Sequence[Mapping[str, Any]], files: Sequence[Mapping[str, Any]], budgets: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """For each file, device by device, whether it serves there; in the order of ``files`` and ``devices``.

    Args:
        devices: of `devices_of`.
        files: entries with ``deciding``, ``figures``, ``broken`` and ``refused``.
        budgets: of the run.

    Returns:
        Of each file ``on``: device name -> ``keeps`` (all budgets there; None where a figure is missing) and ``front``
        (no other file that may be shipped there is at least as accurate and as fast, and better in one); and ``all``:
        whether it keeps the budgets of all devices.
    """
    of_device = [[p for p, b in enumerate(budgets) if quantity(b["key"]).device == d["name"]] for d in devices]
    shared = [place for place, budget in enumerate(budgets) if not quantity(budget["key"]).device]
    sound = [not file["refused"] and not set(shared) & set(file["broken"]) for file in files]
    rows: list[dict[str, Any]] = [{"on": {}, "all": None} for _ in files]
    for device, own in zip(devices, of_device, strict=True):
        best = _front(files, sound, str(device["key"]))
        for row, file, fine, first in zip(rows, files, sound, best, strict=True):
            keeps = _keeps(file, budgets, own, sound=fine)
            row["on"][device["name"]] = {"keeps": keeps, "front": first and keeps is not False}
    for row in rows:
        verdicts = [on["keeps"] for on in row["on"].values()]
        row["all"] = False if False in verdicts else None if None in verdicts else True
    return rows


def _keeps(
    file: Mapping[str, Any], budgets: Sequence[Mapping[str, Any]], own: Sequence[int], *, sound: bool
) -> bool | None:
    if not sound or set(own) & set(file["broken"]):
        return False
    return True if all(budgets[place]["key"] in file["deciding"] for place in own) else None


def _front(files: Sequence[Mapping[str, Any]], sound: Sequence[bool], key: str) -> list[bool]:
    costs = np.full((len(files), 2), np.nan)
    for place, file in enumerate(files):
        if sound[place] and file["accuracy"] is not None and key in file["figures"]:
            costs[place] = -file["accuracy"], file["figures"][key]
    return [bool(flag) for flag in non_dominated(costs)] if len(files) else []
