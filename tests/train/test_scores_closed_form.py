"""Each score on what can be worked out by hand, or in a second way."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from nas.train.scores.az_nas import Expressivity, Progressivity, Trainability
from nas.train.scores.fisher import fisher_information
from nas.train.scores.gradients import GradientNorm, Snip
from nas.train.scores.jacobian import FLOOR, JacobianCovariance
from nas.train.scores.meco import Meco
from nas.train.scores.naswot import Naswot
from nas.train.scores.network import score_network
from nas.train.scores.observe import observe
from nas.train.scores.score import Observed, Stage
from nas.train.scores.swap import Swap
from nas.train.scores.synflow import Synflow
from nas.train.scores.vkdnw import FisherEntropy, Vkdnw
from nas.train.scores.zico import Zico


def bits(*rows: str) -> Tensor:
    return torch.tensor([[digit == "1" for digit in row] for row in rows])


def test_naswot_is_the_determinant_of_the_counts_of_units_that_switch_alike() -> None:
    # Images 0 and 1 agree in 1 of 3 units: the kernel is [[3, 1], [1, 3]].
    assert Naswot()(Observed(patterns=(bits("10", "00"), bits("1", "1"))[::-1])) == pytest.approx(math.log(4 - 0 + 1))


def test_swap_counts_different_responses_over_all_activations() -> None:
    one, other = bits("0110", "0101"), bits("11", "00")  # responses 00 10 11 01, then 10 10
    assert Swap()(Observed(patterns=(one, other))) == pytest.approx(math.log(4))


def test_swap_tells_apart_responses_to_the_thirty_second_image() -> None:
    pattern = torch.zeros(32, 2, dtype=torch.bool)
    pattern[31, 1] = True
    assert Swap()(Observed(patterns=(pattern,))) == pytest.approx(math.log(2))


def test_uncorrelated_jacobians_are_the_best_there_is() -> None:
    gradients = torch.tensor([[1.0, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]])
    best = -3 * (math.log(1 + FLOOR) + 1 / (1 + FLOOR))
    assert JacobianCovariance()(Observed(input_gradients=gradients)) == pytest.approx(best)
    worse = JacobianCovariance()(Observed(input_gradients=gradients + torch.tensor([0.5, 0, 0, 0])))
    assert worse < best


def test_zico_is_the_sum_over_layers_of_the_log_of_summed_mean_over_deviation() -> None:
    first = torch.tensor([[1.0, 3.0, 5.0], [3.0, -1.0, 5.0]])  # |mean| 2 and 2, deviation 1 and 2; the third is equal
    second = torch.tensor([[2.0], [2.0]])  # nothing differs: left out
    assert Zico()(Observed(gradients=(first, second))) == pytest.approx(math.log(2 / 1 + 2 / 2))


def test_gradient_norm_and_snip_are_of_the_gradient_of_the_whole_batch() -> None:
    gradients = (torch.tensor([[2.0, 8.0], [4.0, 0.0]]),)  # the mean is 3, 4
    seen = Observed(gradients=gradients, weights=(torch.tensor([-1.0, 0.5]),))
    assert GradientNorm()(seen) == pytest.approx(math.log(5))
    assert Snip()(seen) == pytest.approx(math.log(3 + 2))


def test_meco_adds_least_eigenvalues_and_nothing_where_there_are_too_few_places() -> None:
    a, b = torch.tensor([1.0, 1, -1, -1, 0, 0]), torch.tensor([1.0, -1, 1, -1, 0, 0])
    mixed = torch.stack([a, 0.6 * a + 0.8 * b])  # correlation 0.6: eigenvalues 1.6 and 0.4
    few = torch.randn(5, 4)
    assert Meco()(Observed(maps=(mixed, few))) == pytest.approx(0.4)


def stages(*spectra: list[float], norm: float = 1.0) -> Observed:
    transport = norm * torch.eye(3)
    return Observed(
        stages=tuple(
            Stage(spectrum=torch.tensor(spectrum, dtype=torch.float64), transport=transport if k else None)
            for k, spectrum in enumerate(spectra)
        )
    )


def test_expressivity_of_equal_eigenvalues_is_the_logarithm_of_their_number() -> None:
    seen = stages([2, 2], [5, 5, 5, 5], [1, 0])
    assert Expressivity()(seen) == pytest.approx(math.log(2) + math.log(4) + 0, abs=1e-6)
    assert Progressivity()(seen) == pytest.approx(0 - math.log(4), abs=1e-6)


def test_a_constant_map_has_no_expressivity() -> None:
    assert math.isnan(Expressivity()(stages([1, 1], [0, 0])))
    assert math.isnan(Progressivity()(stages([1, 1], [0, 0])))
    assert math.isnan(Progressivity()(stages([1, 1])))


def test_trainability_is_best_where_gradients_keep_their_size() -> None:
    kept, doubled, halved = (Trainability()(stages([1], [1], [1], norm=norm)) for norm in (1.0, 2.0, 0.5))
    assert kept == pytest.approx(0, abs=1e-5)
    assert doubled == pytest.approx(-0.5, abs=1e-5)
    assert halved == pytest.approx(-0.5, abs=1e-5)


def test_the_transport_of_a_convolution_is_its_weight_also_where_it_shrinks_the_map() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Conv2d(3, 5, 2, stride=2, bias=False), nn.Flatten(), nn.Linear(320, 4))
    observed = observe(net, torch.randn(400, 1, 16, 16), torch.zeros(400, dtype=torch.int64), ["stages"], seed=0)
    assert observed.stages is not None
    transport = observed.stages[1].transport
    weight = net[1].weight.detach().flatten(1).T  # (c_in * window, c_out)
    assert transport is not None
    torch.testing.assert_close(transport, weight, atol=0.02, rtol=0)


def test_a_stage_that_hands_its_input_on_is_none() -> None:
    torch.manual_seed(0)
    images, labels = torch.randn(8, 1, 6, 6), torch.zeros(8, dtype=torch.int64)
    parts = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3)]
    names = ["expressivity", "progressivity", "trainability"]
    plain = score_network(nn.Sequential(*parts), images, labels, names, seed=0)
    skipped = score_network(nn.Sequential(parts[0], nn.Identity(), *parts[1:]), images, labels, names, seed=0)
    assert plain == skipped


def test_the_spectrum_is_that_of_the_covariance_for_many_places_and_for_few() -> None:
    torch.manual_seed(0)
    images = torch.randn(8, 1, 6, 6)
    for channels in (3, 400):  # of 2 x 4 x 36 = 288 places
        net = nn.Sequential(nn.Conv2d(1, channels, 3, padding=1), nn.Flatten(), nn.Linear(36 * channels, 3))
        observed = observe(net, images, torch.zeros(8, dtype=torch.int64), ["stages"], seed=0)
        assert observed.stages is not None
        halves = [net[0](images[k : k + 4]).detach().permute(1, 0, 2, 3).flatten(1).double() for k in (0, 4)]
        covariance = sum(torch.cov(half, correction=0) for half in halves) / 2
        expected = torch.linalg.eigvalsh(covariance)
        found = observed.stages[0].spectrum
        torch.testing.assert_close(found[-3:], expected[-3:], atol=1e-5, rtol=1e-4)
        assert float(found.sum()) == pytest.approx(float(expected.sum()), rel=1e-4)


def test_synflow_of_a_linear_chain_is_its_depth_times_the_product_of_absolute_weights() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 4.0]]))
        net[2].weight.copy_(torch.tensor([[-1.0, 0.5]]))
    observed = observe(net, torch.randn(4, 1, 1, 2), torch.zeros(4, dtype=torch.int64), ["flow"], seed=0)
    assert Synflow()(observed) == pytest.approx(math.log(2 * (1 * 3 + 0.5 * 7)))


def test_synflow_passes_normalisation_by_and_survives_what_overflows_in_single_precision() -> None:
    layers: list[nn.Module] = [nn.Flatten()]
    for _ in range(60):
        layer = nn.Linear(1, 1, bias=False)
        nn.init.constant_(layer.weight, -10.0)
        layers += [layer, nn.BatchNorm1d(1)]
    observed = observe(
        nn.Sequential(*layers), torch.randn(4, 1, 1, 1), torch.zeros(4, dtype=torch.int64), ["flow"], seed=0
    )
    assert Synflow()(observed) == pytest.approx(math.log(60) + 60 * math.log(10))


def fisher_by_definition(net: nn.Module, images: Tensor) -> Tensor:
    """Mean over images of ``J^T (diag p - p p^T) J``, by one backward pass an image and class."""
    net.train()
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    net(images)
    net.eval()
    total = torch.zeros((), dtype=torch.float64)
    for image in images[:8]:
        logits = net(image[None])[0]
        share = logits.detach().softmax(0).double() * 0.95 + 0.05 / len(logits)
        rows = []
        for logit in logits:
            gradients = torch.autograd.grad(logit, list(net.parameters()), retain_graph=True)
            middle = [tuple(s // 2 for s in g.shape[2:]) for g in gradients]
            rows.append(torch.stack([g[(0,) * min(g.dim(), 2) + m] for g, m in zip(gradients, middle, strict=True)]))
        jacobian = torch.stack(rows).double()
        total = total + jacobian.T @ (torch.diag(share) - share[:, None] * share[None]) @ jacobian / 8
    return total


def fisher_net(classes: int) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, stride=2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 5, padding=2, groups=2, bias=False),
        nn.ReLU(),
        nn.Conv2d(6, 6, 2, dilation=2),
        nn.Flatten(),
        nn.Linear(24, classes),
    )


def test_the_fisher_information_is_what_the_definition_says() -> None:
    images = torch.randn(10, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    found = fisher_information(fisher_net(4), images, torch.Generator())
    expected = fisher_by_definition(fisher_net(4), images)
    assert float(expected.trace()) > 1e-3
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)


def test_the_fisher_information_of_many_classes_is_estimated_without_bias() -> None:
    images = torch.randn(10, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    net, generator = fisher_net(12), torch.Generator().manual_seed(0)
    draws = [fisher_information(net, images, generator).trace() for _ in range(60)]
    mean, error = torch.stack(draws).mean(), torch.stack(draws).std() / 60**0.5
    exact = fisher_by_definition(fisher_net(12), images).trace()
    assert float(error / exact) < 0.1
    assert abs(float(mean - exact)) < 4 * float(error)


def test_fisher_entropy_is_largest_for_equal_eigenvalues_and_does_not_see_scale() -> None:
    assert FisherEntropy()(Observed(fisher=3 * torch.eye(20, dtype=torch.float64))) == pytest.approx(math.log(9))
    uneven = torch.diag(torch.logspace(0, 6, 20, dtype=torch.float64))
    assert FisherEntropy()(Observed(fisher=uneven)) < 1
    assert FisherEntropy()(Observed(fisher=uneven)) == pytest.approx(FisherEntropy()(Observed(fisher=1e-6 * uneven)))
    assert math.isnan(FisherEntropy()(Observed(fisher=torch.zeros(4, 4, dtype=torch.float64))))


def test_vkdnw_orders_by_the_number_of_tensors_first() -> None:
    even, uneven = torch.eye(20, dtype=torch.float64), torch.diag(torch.logspace(0, 6, 20, dtype=torch.float64))
    small, large = Observed(fisher=even, tensors=10), Observed(fisher=uneven, tensors=13)
    assert Vkdnw()(small) < Vkdnw()(large)
    assert Vkdnw()(small) > Vkdnw()(Observed(fisher=uneven, tensors=10))
