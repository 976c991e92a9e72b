"""
A Gaussian process
==================

A curve through noisy measurements, with honest error bars, and what happens where there are none.
You will see a process fitted to the values, its parameters found by likelihood, and 4,000 points
treated like 40.
"""

import matplotlib.pyplot as plt
import numpy as np

from structmat.gp import GaussianProcess

rng = np.random.default_rng(3)


def measured(count):
    x = np.concatenate([rng.uniform(0, 4, count // 2), rng.uniform(6, 10, count - count // 2)])
    return x[:, None], np.sin(1.5 * x) + 0.3 * rng.standard_normal(count)


# %%
# ``fit`` finds length, amplitude and noise. Between 4 and 6 nothing was measured.
at = np.linspace(0, 10, 300)
figure, axes = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained", sharey=True)
processes = {}
for place, count in zip(axes, (40, 4000), strict=True):
    X, y = measured(count)
    process = processes[count] = GaussianProcess("matern52").fit(X, y)
    mean, std = process.predict(at[:, None], return_std=True)
    place.plot(X[:, 0], y, ".", color="#777777", ms=3, alpha=0.5 if count < 100 else 0.15)
    place.fill_between(at, mean - 2 * std, mean + 2 * std, color="#a9c7e2", lw=0)
    place.plot(at, mean, color="#30628f")
    place.plot(at, np.sin(1.5 * at), color="#D55E00", ls=":", label="truth")
    place.set_title(f"{count:,} points")
axes[0].legend()
plt.show()

# %%
for count, process in processes.items():
    found = ", ".join(f"{name} {value:.2f}" for name, value in process.parameters.items())
    print(f"{count} points: {found}; solved by {process.method}")

# %%
mean, std = processes[4000].predict(at[:, None], return_std=True)
inside = np.abs(mean - np.sin(1.5 * at)) < 2 * std
print(
    f"Seen: the noise is 0.3, and {processes[4000].parameters['noise']:.3f} was found; two error\n"
    f"bars hold the truth at {100 * inside.mean():.0f} % of the places."
)
