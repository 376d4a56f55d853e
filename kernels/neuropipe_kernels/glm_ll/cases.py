"""Shapes, tolerances and inputs of glm_ll: one list for tests and benchmark."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

GRADIENTS = ("weight", "bias")


class Case(NamedTuple):
    """One set of inputs.

    Attributes
    ----------
    name : str
    n_bins, n_features, n_states, n_neurons : int
    link, family : str
    masked : bool
        Whether a fifth of the counts is missing.
    spread : float
        Standard deviation of the linear predictor.
    dtype : torch.dtype
    tolerance : float
        Relative error allowed to the fused form.
    """

    name: str
    n_bins: int
    n_features: int
    n_states: int
    n_neurons: int
    link: str = "softplus"
    family: str = "poisson"
    masked: bool = False
    spread: float = 1.0
    dtype: torch.dtype = torch.float32
    tolerance: float = 1e-5


CASES = (
    Case("odd sizes", 70, 6, 3, 5),
    Case("several tiles", 131, 37, 2, 70),
    Case("one bin", 1, 1, 1, 1),
    Case("masked", 67, 17, 3, 33, masked=True),
    Case("far predictors", 67, 17, 2, 20, spread=30.0),
    Case("exp", 67, 17, 2, 20, link="exp"),
    Case("sigmoid rate", 67, 17, 2, 20, link="sigmoid", spread=5.0),
    Case("bernoulli", 67, 17, 2, 20, link="sigmoid", family="bernoulli", masked=True),
    Case("gaussian", 67, 17, 2, 20, family="gaussian", masked=True),
    Case("wide", 70, 260, 2, 130),
    Case("wide, masked", 41, 257, 3, 90, masked=True, link="exp"),
    Case("wide, gaussian", 33, 256, 1, 300, family="gaussian", masked=True),
    Case("float64", 30, 5, 2, 4, dtype=torch.float64, tolerance=1e-12),
)
BENCH = (
    Case("large", 1 << 18, 128 * 5, 5, 128, tolerance=1e-3),
    Case("large", 1 << 17, 512 * 3, 4, 512, tolerance=1e-3),
    Case("paper", 54 * 750, 18, 4, 18, tolerance=1e-3),
)
SMOKE = (Case("smoke", 300, 20, 3, 18),)


def make(case: Case, device: str | torch.device = "cpu", seed: int = 0) -> dict[str, Any]:
    """Draw the keyword arguments of one call."""
    g = torch.Generator(device=device).manual_seed(seed)
    kind = {"generator": g, "device": device, "dtype": case.dtype}
    T, F, K, N = case.n_bins, case.n_features, case.n_states, case.n_neurons
    counts = torch.poisson(torch.rand(T, N, **kind) * 1.5, generator=g)
    if case.family == "bernoulli":
        counts = counts.clamp(max=1)
    elif case.family == "gaussian":
        counts = torch.randn(T, N, **kind)
    mask = torch.rand(T, N, generator=g, device=device) > 0.2 if case.masked else None
    if mask is not None:
        counts = torch.where(mask, counts, torch.full_like(counts, float("nan")))
    noise = torch.rand(N, **kind) + 0.5 if case.family == "gaussian" else None
    return {
        "features": torch.randn(T, F, **kind),
        "weight": torch.randn(K, N, F, **kind) * (case.spread / F**0.5),
        "bias": torch.randn(K, N, **kind) - 2,
        "counts": counts,
        "link": case.link,
        "family": case.family,
        "mask": mask,
        "noise_std": noise,
    }


def errors(got: torch.Tensor, want: torch.Tensor, inputs: dict[str, Any]) -> dict[str, float]:
    """Relative error of the output; ``want`` may be of higher precision."""
    got, want = got.detach().double(), want.detach().double()
    gap = (got - want).norm() / want.norm()
    return {"log_likelihood": float(gap)}


def work(case: Case) -> dict[str, float]:
    """Bytes that must move and operations of the forward product on the tensor cores."""
    T, F, K, N = case.n_bins, case.n_features, case.n_states, case.n_neurons
    return {"bytes": 4.0 * T * (F + N + K), "tf32": 2.0 * T * F * K * N}
