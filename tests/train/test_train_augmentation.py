"""Random changes to batches of images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from nas.train.augmentation import training_images
from nas.train.recipe import Recipe

PLAIN = {"shift": 0.0, "flip": False, "cutout": 0.0, "mixup": 0.0}
CPU = torch.device("cpu")


def batch_of(task, indices, *, seed: int = 0, data_share: float = 1.0, **changes):
    recipe = Recipe(**{**PLAIN, **changes})
    images = training_images(task, recipe, size=(8, 8), data_share=data_share, device=CPU)
    return images.batch(np.asarray(indices), np.random.default_rng(seed))


def test_without_augmentation_a_batch_is_the_images_themselves(digits):
    batch = batch_of(digits, [5, 0, 9])
    assert torch.equal(batch.images, digits.images("train")[[5, 0, 9]])
    assert torch.equal(batch.labels, digits.labels("train")[[5, 0, 9]])
    assert batch.images.is_contiguous(memory_format=torch.channels_last)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), flip=st.booleans())
def test_every_image_is_a_shift_or_mirror_of_its_own(digits, seed, flip):
    own = digits.images("train")[:4]
    black = digits.normalise(torch.zeros(1, 1, 1, 1, dtype=torch.uint8)).item()
    padded = functional.pad(own, (1, 1, 1, 1), value=black)
    windows = [padded[:, :, y : y + 8, x : x + 8] for y in range(3) for x in range(3)]
    if flip:
        windows += [window.flip(3) for window in windows]
    got = batch_of(digits, range(4), seed=seed, shift=0.125, flip=flip).images
    for index in range(4):
        assert any(torch.equal(got[index], window[index]) for window in windows)


def test_all_shifts_and_about_half_of_the_mirrors_occur(digits):
    mirrored = batch_of(digits, [3] * 400, flip=True).images
    share = (mirrored == digits.images("train")[3]).all(dim=(1, 2, 3)).double().mean().item()
    assert share == pytest.approx(0.5, abs=0.1)
    shifted = batch_of(digits, [3] * 400, shift=0.125).images
    assert len(torch.unique(shifted.reshape(400, -1), dim=0)) == 9


def test_cutout_blanks_a_square_at_most_as_large_as_asked(digits):
    own = digits.images("train")[:100]
    got = batch_of(digits, range(100), cutout=0.5).images
    changed = got != own
    assert torch.all(got[changed] == 0)
    height, width = changed.any(dim=3).sum(dim=2), changed.any(dim=2).sum(dim=2)
    assert height.max() == width.max() == 4
    assert 0 < changed.double().mean() < 0.25


def test_mixup_mixes_images_and_losses_alike(digits):
    own = digits.images("train")[:32]
    batch = batch_of(digits, range(32), mixup=1.0)
    assert 0 < batch.weight < 1
    partner = (batch.images - batch.weight * own) / (1 - batch.weight)
    distance = (partner[:, None] - own[None]).abs().amax(dim=(2, 3, 4))
    assert distance.min(dim=1).values.max() < 1e-3
    assert torch.equal(batch.mixed_labels, batch.labels[distance.argmin(dim=1)])
    logits = torch.randn(32, 10, generator=torch.Generator().manual_seed(0))
    expected = batch.weight * functional.cross_entropy(logits, batch.labels)
    expected += (1 - batch.weight) * functional.cross_entropy(logits, batch.mixed_labels)
    assert batch.loss(logits, 0.0).item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_same_seed_gives_the_same_batch(digits):
    changes = {"shift": 0.25, "flip": True, "cutout": 0.25, "mixup": 0.2}
    first, again, other = (batch_of(digits, range(16), seed=seed, **changes) for seed in (1, 1, 2))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


def test_a_share_of_the_data_is_the_share_of_the_task(digits):
    kept = digits.share(0.1)
    batch = batch_of(digits, range(len(kept)), data_share=0.1)
    assert torch.equal(batch.labels, digits.labels("train")[kept])
    assert torch.equal(batch.images, digits.images("train")[kept])
