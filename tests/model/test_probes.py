"""Probes: chains of layers that can be built, and whose features are those of what is exported."""

from __future__ import annotations

import numpy as np
import torch

from nas.model.build import build
from nas.model.costs import figures_of
from nas.model.features import FEATURE_NAMES, FIGURES
from nas.model.probes import MAX_MACS, NUM_CLASSES, draw_probes
from nas.model.trace import trace


def test_probes_can_be_built_and_have_the_features_of_what_is_built() -> None:
    for probe in draw_probes(25, np.random.default_rng(1)):
        with torch.device("meta"):
            module = build(probe.network, input_shape=probe.in_shape, num_classes=NUM_CLASSES)
        whole = figures_of(trace(module, probe.in_shape), 0)
        assert whole.out_shape == (NUM_CLASSES,)
        assert whole.costs.macs <= MAX_MACS + 10_000  # the classifier comes on top
        np.testing.assert_allclose(probe.features, whole.features, err_msg=str(probe.network))


def test_equal_generators_give_equal_probes_and_other_ones_do_not() -> None:
    one, same, other = (draw_probes(5, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert [probe.network.digest for probe in one] == [probe.network.digest for probe in same]
    assert not {probe.network.digest for probe in one} & {probe.network.digest for probe in other}


def test_a_few_hundred_probes_touch_every_kind_of_kernel_that_networks_have() -> None:
    total = np.sum([probe.features for probe in draw_probes(400, np.random.default_rng(0))], axis=0)
    seen = {name.rpartition(".")[0] for name, value in zip(FEATURE_NAMES, total, strict=True) if value}
    assert set(FIGURES) - seen <= {"other"}
