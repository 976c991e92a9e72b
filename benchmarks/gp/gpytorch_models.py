"""Models of gpytorch: an exact process, and a variational one with inducing points."""

import importlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.gp.places import Places

#: Steps and step size of an exact fit.
EXACT_STEPS, EXACT_RATE = 30, 0.1
#: Inducing points, size of a batch, steps and step size of a variational fit.
INDUCING, BATCH, STEPS, RATE = 512, 1024, 250, 0.02


def _class(base: Any, gpytorch: Any) -> Any:
    class Model(base):
        def __init__(self, *given: Any, start: Mapping[str, float]) -> None:
            super().__init__(*given)
            self.mean_module = gpytorch.means.ZeroMean()
            kernel = gpytorch.kernels.MaternKernel(nu=1.5)
            self.covar_module = gpytorch.kernels.ScaleKernel(kernel)
            kernel.lengthscale = start["length"]
            self.covar_module.outputscale = start["amplitude"] ** 2

        def forward(self, x: Any) -> Any:
            mean, covariance = self.mean_module(x), self.covar_module(x)
            return gpytorch.distributions.MultivariateNormal(mean, covariance)

    return Model


def _parameters(model: Any, likelihood: Any) -> dict[str, float]:
    return {
        "length": float(model.covar_module.base_kernel.lengthscale),
        "amplitude": float(model.covar_module.outputscale) ** 0.5,
        "noise": float(likelihood.noise) ** 0.5,
    }


def _predicted(model: Any, likelihood: Any, X: Any) -> dict[str, Any]:
    torch: Any = importlib.import_module("torch")
    model.eval()
    likelihood.eval()
    started = time.perf_counter()
    with torch.no_grad():
        found = likelihood(model(X))
        mean, deviation = found.mean.numpy(), found.variance.sqrt().numpy()
    seconds = time.perf_counter() - started
    return {"mean": mean, "deviation": deviation, "predict_seconds": seconds}


def exact(places: Places, start: Mapping[str, float]) -> dict[str, Any]:
    """`ExactGP` in double precision with the library's settings: conjugate gradients above 800.

    The search is by Adam, as in the library's pages: its likelihoods are too noisy for L-BFGS.
    """
    torch: Any = importlib.import_module("torch")
    gpytorch: Any = importlib.import_module("gpytorch")
    torch.manual_seed(0)
    X, y, X_new = (torch.tensor(np.asarray(a)) for a in (places.X, places.y, places.X_new))
    likelihood = gpytorch.likelihoods.GaussianLikelihood().double()
    likelihood.noise = start["noise"] ** 2
    model = _class(gpytorch.models.ExactGP, gpytorch)(X, y, likelihood, start=start).double()
    marginal = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
    search = torch.optim.Adam(model.parameters(), lr=EXACT_RATE)
    model.train()
    started, value = time.perf_counter(), 0.0
    for _ in range(EXACT_STEPS):
        search.zero_grad()
        loss = -marginal(model(X), y)
        loss.backward()
        value = -float(loss.detach()) * len(y)
        search.step()
    seconds = time.perf_counter() - started
    return {
        **_parameters(model, likelihood), **_predicted(model, likelihood, X_new),
        "fit_seconds": seconds, "evaluations": EXACT_STEPS, "likelihood": value,
    }  # fmt: skip


def inducing(places: Places, start: Mapping[str, float]) -> dict[str, Any]:
    """`ApproximateGP` with inducing points that are learned, by Adam on batches.

    Its likelihood is the variational bound, estimated from the last steps of one epoch.
    """
    torch: Any = importlib.import_module("torch")
    gpytorch: Any = importlib.import_module("gpytorch")
    torch.manual_seed(0)
    X, y, X_new = (torch.tensor(a, dtype=torch.float32) for a in (*places[:2], places.X_new))
    at = torch.randperm(len(X))[:INDUCING]
    likelihood = gpytorch.likelihoods.GaussianLikelihood()
    likelihood.noise = start["noise"] ** 2

    class Base(gpytorch.models.ApproximateGP):
        def __init__(self, points: Any) -> None:
            distribution = gpytorch.variational.CholeskyVariationalDistribution(len(points))
            super().__init__(gpytorch.variational.VariationalStrategy(self, points, distribution))

    model = _class(Base, gpytorch)(X[at].clone(), start=start)
    bound = gpytorch.mlls.VariationalELBO(likelihood, model, num_data=len(y))
    search = torch.optim.Adam([*model.parameters(), *likelihood.parameters()], lr=RATE)
    model.train()
    started, values = time.perf_counter(), []
    for _ in range(STEPS):
        batch = torch.randint(len(X), (min(BATCH, len(X)),))
        search.zero_grad()
        loss = -bound(model(X[batch]), y[batch])
        loss.backward()
        search.step()
        values.append(-float(loss.detach()) * len(y))
    seconds = time.perf_counter() - started
    last = values[-max(1, -(-len(X) // BATCH)) :]
    return {
        **_parameters(model, likelihood), **_predicted(model, likelihood, X_new),
        "fit_seconds": seconds, "evaluations": STEPS, "likelihood": float(np.mean(last)),
    }  # fmt: skip
