"""What a run is about, as its manifest keeps it: a run goes on only with the same space and the same data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nas.space.space import SearchSpace

if TYPE_CHECKING:
    from nas.train.data.images import ImageData

_SHOWN = 5  # differences that are spelled out


def space_record(space: SearchSpace) -> dict[str, object]:
    """The ``space`` of a manifest: name, digest, size, source and all choices with their labels."""
    return {
        "name": space.name,
        "digest": space.digest,
        "size": space.size,
        "source": space.source,
        "choices": [
            {"name": choice.name, "labels": list(choice.labels), "ordered": choice.ordered} for choice in space.choices
        ],
    }


def data_record(data: ImageData) -> dict[str, object]:
    """The ``data`` of a manifest: name, digest, sizes of the splits, shape of an image and classes."""
    _, height, width, channels = data.images.shape
    return {
        "name": data.name,
        "digest": data.digest,
        "num_train": len(data.splits["train"]),
        "num_validation": len(data.splits["validation"]),
        "num_test": len(data.splits["test"]),
        "height": int(height),
        "width": int(width),
        "channels": int(channels),
        "classes": list(data.classes),
        "note": data.note,
    }


def differences(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """How two records differ, one readable phrase each: ``choice stem.width: [8, 16] became [8, 16, 24]``.

    Records with the same digest do not differ, whatever they are called.
    """
    if before.get("digest") == now.get("digest"):
        return []
    old, new = _flat(before), _flat(now)
    phrases = [f"{key}: {old[key]} became {new[key]}" for key in old if key in new and old[key] != new[key]]
    phrases += [f"{key} is gone" for key in old if key not in new]
    phrases += [f"{key} is new: {new[key]}" for key in new if key not in old]
    if not phrases:
        phrases = [f"same size, other contents (digest {before.get('digest')} became {now.get('digest')})"]
    if len(phrases) > _SHOWN:
        phrases = [*phrases[:_SHOWN], f"and {len(phrases) - _SHOWN} more"]
    return phrases


def _flat(record: Mapping[str, object]) -> dict[str, str]:
    """What a person compares, as text; where a file lies and what digests are is not it."""
    flat = {}
    for key, value in record.items():
        if key in ("digest", "source", "choices", "note"):
            continue
        flat[key] = _list(value) if isinstance(value, list | tuple) else str(value)
    choices = record.get("choices", ())
    assert isinstance(choices, list | tuple), "a record is one of this module"
    for choice in choices:
        flat[f"choice {choice['name']}"] = _list(choice["labels"])
    return flat


def _list(values: list[object] | tuple[object, ...]) -> str:
    if len(values) > 12:
        return f"{len(values)} ({', '.join(map(str, values[:3]))}, …)"
    return f"[{', '.join(map(str, values))}]"
