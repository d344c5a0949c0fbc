"""The surrogate's Gaussian process against scikit-learn's and BoTorch's, on the same points and features.

    python experiments/tabular_search/processes.py --table nasbench201.parquet

Learns the logarithm of the test error of random cells of NAS-Bench-201 and judges on 2,000 others: CPU seconds for fit
and prediction, Spearman correlation, mean log density (higher is better). BoTorch is left out where it is missing.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, spearmanr
from table import problem_of, read_table

from nas.locate import resource_folder
from nas.space.load import load_space
from nas.strategy.surrogate.features import Scaling
from nas.strategy.surrogate.pool import described
from nas.strategy.surrogate.process import FIT_AT_MOST, fit_process

Floats = NDArray[np.float64]
Predict = Callable[[Sequence[Floats], Floats, Sequence[Floats]], tuple[Floats, Floats]]
TEST = 2000


def own(groups: Sequence[Floats], values: Floats, others: Sequence[Floats]) -> tuple[Floats, Floats]:
    rows = np.sort(np.random.default_rng(0).permutation(len(values))[:FIT_AT_MOST])
    process = fit_process(groups, values, rows=rows)
    posterior = process.posterior(others)
    return posterior.mean, np.sqrt(posterior.deviation**2 + process.noise)


def scikit_learn(groups: Sequence[Floats], values: Floats, others: Sequence[Floats]) -> tuple[Floats, Floats]:
    """One length scale for all features: the library has none a group."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    kernel = ConstantKernel(1.0) * Matern(1.0, nu=2.5) + WhiteKernel(0.02, (1e-4, 3))
    model = GaussianProcessRegressor(kernel, normalize_y=True).fit(np.hstack(groups), values)
    mean, deviation = model.predict(np.hstack(others), return_std=True)
    return mean, deviation


def botorch(groups: Sequence[Floats], values: Floats, others: Sequence[Floats]) -> tuple[Floats, Floats]:
    """A product of kernels, one length scale a group."""
    import torch
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from gpytorch.kernels import MaternKernel, ProductKernel, ScaleKernel
    from gpytorch.mlls import ExactMarginalLogLikelihood

    torch.set_num_threads(1)
    ends = np.cumsum([group.shape[1] for group in groups])
    parts = [
        MaternKernel(nu=2.5, active_dims=tuple(range(end - group.shape[1], end)))
        for group, end in zip(groups, ends, strict=True)
    ]
    mean, scale = values.mean(), values.std()
    targets = torch.tensor((values - mean) / scale)[:, None]
    model = SingleTaskGP(torch.tensor(np.hstack(groups)), targets, covar_module=ScaleKernel(ProductKernel(*parts)))
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    posterior = model.posterior(torch.tensor(np.hstack(others)), observation_noise=True)
    deviation = posterior.variance.detach().numpy()[:, 0] ** 0.5
    return posterior.mean.detach().numpy()[:, 0] * scale + mean, deviation * scale


PROCESSES: dict[str, tuple[str, Predict]] = {
    "own": ("scipy", own),
    "scikit-learn": ("sklearn", scikit_learn),
    "BoTorch": ("botorch", botorch),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True, help="nasbench201.parquet of prepare.py")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    space = load_space(resource_folder("search_spaces") / "nasbench201.yaml")
    edges = ["e01", "e02", "e12", "e03", "e13", "e23"]
    table = read_table(given.table, choices=edges, expensive="test_error", cheap=["titanx_1", "macs"], structure=space)
    problem = problem_of(table, noise=0, rng=np.random.default_rng(0)).problem
    print("| evaluations | process | CPU s | Spearman | log density |\n|---|---|---|---|---|")
    for size in (40, 100, 400):
        for name, (library, predict) in PROCESSES.items():
            if importlib.util.find_spec(library) is None:
                continue
            found = []
            for seed in range(given.seeds):
                places = np.random.default_rng(seed).choice(len(table.rows), size + TEST, replace=False)
                features = described(problem, table.rows[places], feasible_only=False).features
                groups = Scaling.of(features)(features)
                values = np.log(table.expensive[places])
                start = time.process_time()
                train, test = [group[:size] for group in groups], [group[size:] for group in groups]
                mean, deviation = predict(train, values[:size], test)
                seconds = time.process_time() - start
                density = norm.logpdf(values[size:], mean, deviation).mean()
                found.append((seconds, spearmanr(mean, values[size:])[0], density))
            seconds, rank, density = np.median(found, axis=0)
            print(f"| {size} | {name} | {seconds:.3f} | {rank:.3f} | {density:.2f} |")


if __name__ == "__main__":
    main()
