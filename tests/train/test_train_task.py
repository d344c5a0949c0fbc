"""The task: normalisation, sizes, shares."""

from __future__ import annotations

import json
import pickle

import cloudpickle
import numpy as np
import pytest
import torch

from nas.train.data.digits import Digits
from nas.train.data.npz import Npz
from nas.train.task import image_classification


def test_images_are_the_pixels_in_the_scale_of_one_normalised(digits):
    images = digits.images("test")
    pixels = digits.data.images[digits.data.splits["test"]].transpose(0, 3, 1, 2) / 255
    assert images.dtype == torch.float32
    assert images.shape == (180, 1, 8, 8)
    assert np.allclose(images.numpy(), (pixels - digits.mean[0]) / digits.std[0], atol=1e-6)


def test_the_training_split_has_mean_0_and_deviation_1(digits):
    images = digits.images("train").double()
    assert images.mean().item() == pytest.approx(0, abs=1e-6)
    assert images.std(unbiased=False).item() == pytest.approx(1, abs=1e-6)


def test_a_constant_channel_is_centred_and_not_divided_by_zero(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.full((8, 3, 3), 51, np.uint8), labels=np.arange(8) % 2)
    task = image_classification(Npz(path=str(tmp_path / "a.npz")).load())
    assert task.mean == (pytest.approx(0.2),)
    assert torch.allclose(task.images("train"), torch.zeros(1), atol=1e-6)


def test_labels_stand_in_the_order_of_the_images(digits):
    for split in ("train", "validation", "test"):
        assert np.array_equal(digits.labels(split).numpy(), digits.data.labels[digits.data.splits[split]])


@pytest.mark.parametrize("size", [(12, 12), (5, 7), (1, 1)])
def test_images_come_at_the_size_asked_for(digits, size):
    assert digits.images("validation", size).shape == (180, 1, *size)


def test_shrinking_to_half_keeps_a_ramp_a_ramp(tmp_path):
    ramp = np.broadcast_to(10 * np.arange(8), (8, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "a.npz", images=ramp, labels=np.arange(8) % 2)
    half = image_classification(Npz(path=str(tmp_path / "a.npz")).load()).pixels("train", (4, 4))
    assert half[0, :, 1, 0].tolist() == [25] * 4  # between the centres of pixels 2 and 3
    assert half[0, :, 2, 0].tolist() == [45] * 4


def test_a_size_is_resized_once_and_the_native_size_is_exact(digits):
    assert digits.pixels("test", (12, 12)) is digits.pixels("test", (12, 12))
    own = digits.data.images[digits.data.splits["test"]]
    assert np.array_equal(digits.pixels("test", (8, 8)).numpy(), own)


def test_read_only_arrays_are_taken_without_warning_or_change(digits):
    before = digits.data.images.copy()
    assert not digits.data.images.flags.writeable
    digits.images("train").mul_(0)
    assert np.array_equal(digits.data.images, before)


def test_shares_are_nested_in_proportion_and_the_same_for_everyone(digits):
    labels = digits.data.labels[digits.data.splits["train"]]
    previous: set[int] = set()
    for share in (0.001, 0.1, 0.25, 0.7, 1.0):
        kept = digits.share(share)
        assert np.array_equal(kept, digits.share(share))
        assert previous <= set(kept.tolist())
        assert set(labels[kept]) == set(range(10))
        previous = set(kept.tolist())
        if share > 0.01:
            assert len(kept) == round(share * 1437)
            assert np.allclose(np.bincount(labels[kept]) / len(kept), np.bincount(labels) / 1437, atol=0.01)
    assert len(previous) == 1437


def test_the_description_is_plain_json_and_names_what_deployment_needs(digits):
    described = json.loads(json.dumps(digits.describe()))
    assert described["input_shape"] == {"channels": 1, "height": 8, "width": 8}
    assert described["num_images"] == {"train": 1437, "validation": 180, "test": 180}
    assert described["digest"] == digits.data.digest
    assert described["normalisation"]["mean"] == list(digits.mean)
    assert described["classes"] == [str(digit) for digit in range(10)]


def test_arrays_cross_a_process_border_out_of_band(digits):
    buffers: list[pickle.PickleBuffer] = []
    content = cloudpickle.dumps(digits, protocol=5, buffer_callback=buffers.append)
    assert len(content) < 20_000
    again = pickle.loads(content, buffers=[buffer.raw().toreadonly() for buffer in buffers])
    assert not again.data.images.flags.writeable
    assert torch.equal(again.images("test"), digits.images("test"))


def test_tasks_of_other_splits_do_not_share_their_cache():
    first, second = (image_classification(Digits(limit=60, seed=seed).load()) for seed in (0, 1))
    assert not torch.equal(first.pixels("test", (4, 4)), second.pixels("test", (4, 4)))
