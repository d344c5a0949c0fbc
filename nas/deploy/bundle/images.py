"""The images of an export on disk, where all worker processes find them.

Responsible for the border between the data, which only the command loads, and the jobs, which need a part of it.
Images are opened as maps of their files: processes share the memory, and only what is used is read.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from nas.deploy.load import read_golden
from nas.deploy.manifest import Manifest
from nas.deploy.records import Samples

_ABOUT = "about.json"
_ARRAYS = ("calibration", "test", "test_labels")
_CHUNK = 256


def write_images(samples: Samples, folder: Path, *, num_test: int) -> None:
    """Writes calibration images, and at most ``num_test`` test images spread evenly over the split, into a folder."""
    folder.mkdir(parents=True)
    count = samples.test.shape[0]
    picked = np.unique(np.linspace(0, count - 1, min(num_test, count)).round().astype(np.int64))
    shape = (len(picked), *samples.test.shape[1:])
    test = np.lib.format.open_memmap(folder / "test.npy", mode="w+", dtype=np.float32, shape=shape)
    for start in range(0, len(picked), _CHUNK):
        part = picked[start : start + _CHUNK]
        test[start : start + len(part)] = samples.test[part]
    test.flush()
    np.save(folder / "calibration.npy", np.ascontiguousarray(samples.calibration, dtype=np.float32))
    np.save(folder / "test_labels.npy", np.asarray(samples.test_labels)[picked].astype(np.int64))
    about = {
        "classes": samples.classes,
        "data": samples.data,
        "data_digest": samples.data_digest,
        "data_shape": samples.data_shape,
        "mean": samples.mean,
        "std": samples.std,
        "resizing": samples.resizing,
    }
    (folder / _ABOUT).write_text(json.dumps(about), encoding="utf-8")


def read_images(folder: Path) -> Samples:
    """What `write_images` wrote."""
    about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    # Copied on write: torch wants memory that could be written.
    calibration, test, labels = (np.load(folder / f"{name}.npy", mmap_mode="c") for name in _ARRAYS)
    return Samples(
        calibration=np.asarray(calibration),
        test=test,
        test_labels=np.asarray(labels),
        classes=tuple(about["classes"]),
        data=about["data"],
        data_digest=about["data_digest"],
        data_shape=tuple(about["data_shape"]),
        mean=tuple(about["mean"]),
        std=tuple(about["std"]),
        resizing=about["resizing"],
    )


def golden_samples(model: Path, manifest: Manifest) -> Samples:
    """All that a model folder has by itself: its golden images to judge by, and none to calibrate with.

    Raises:
        UserError: its golden images are missing or broken.
    """
    golden = read_golden(model)
    inputs = golden["inputs"]
    about, trained = manifest["input"], manifest["training"]
    channels, height, width = inputs.shape[1:]
    return Samples(
        calibration=np.empty((0, channels, height, width), dtype=np.float32),
        test=inputs,
        test_labels=golden["labels"],
        classes=tuple(manifest["labels"]),
        data=trained["data"],
        data_digest=trained["data_digest"],
        data_shape=(channels, height, width),
        mean=tuple(about["mean"]),
        std=tuple(about["std"]),
        resizing=about["resize"],
    )
