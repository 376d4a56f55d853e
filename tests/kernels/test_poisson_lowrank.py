"""The expected Poisson term against draws, torch.distributions and its own derivatives."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from neuropipe_kernels import poisson_lowrank_nll
from neuropipe_kernels.poisson_lowrank_nll import cases

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
interpreted = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1" and DEVICE == "cpu",
    reason="needs CUDA or TRITON_INTERPRET=1",
)
SMALL = cases.Case("small", 11, 4, 2, dtype=torch.float64)


def inputs(**changes: Any) -> dict[str, Any]:
    """One small call in float64."""
    return {**cases.make(SMALL), **changes}


def gradients(values: dict[str, Any], weight: torch.Tensor, **how: Any) -> list[torch.Tensor]:
    """Gradients of the weighted sum of bins, by every differentiable input."""
    leaves = [values[n].detach().clone().requires_grad_() for n in cases.GRADIENTS]
    values = {**values, **dict(zip(cases.GRADIENTS, leaves, strict=True))}
    nll = poisson_lowrank_nll(**values, **how)
    return list(torch.autograd.grad((nll * weight).sum(), leaves))


def test_known_latents_are_a_poisson_likelihood() -> None:
    x = inputs(variance=None, reduction="none")
    law = torch.distributions.Poisson((x["z"] @ x["weight"].T + x["offset"]).exp())
    y = x["counts"].double()
    want = -(law.log_prob(y) + torch.lgamma(y + 1)).sum(1)
    torch.testing.assert_close(poisson_lowrank_nll(**x), want)


def test_uncertain_latents_are_the_mean_over_draws() -> None:
    x = inputs()
    g = torch.Generator().manual_seed(1)
    total = torch.zeros(())
    for _ in range(10):
        noise = torch.randn(10_000, *x["z"].shape, generator=g, dtype=torch.float64)
        eta = (x["z"] + x["variance"].sqrt() * noise) @ x["weight"].T + x["offset"]
        total = total + (eta.exp() - x["counts"] * eta).sum((1, 2)).mean() / 10
    assert float(poisson_lowrank_nll(**x)) == pytest.approx(float(total), rel=3e-3)


@pytest.mark.parametrize("reduction", ["sum", "none"])
@pytest.mark.parametrize("masked", [False, True])
def test_gradcheck(reduction: str, masked: bool) -> None:
    mask = torch.arange(11) % 3 > 0 if masked else None
    x = inputs(reduction=reduction, mask=mask)
    leaves = [x[n].requires_grad_() for n in cases.GRADIENTS]
    assert torch.autograd.gradcheck(
        lambda *v: poisson_lowrank_nll(**{**x, **dict(zip(cases.GRADIENTS, v, strict=True))}),
        leaves,
    )


@interpreted
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float32])
def test_counts_of_any_type_and_every_reduction_agree(dtype: torch.dtype) -> None:
    x = cases.make(cases.Case("c", 70, 21, 3), DEVICE)
    want = gradients({**x, "counts": x["counts"].long()}, torch.ones(()), backend="reference")
    x["counts"] = x["counts"].to(dtype)
    for reduction in ("sum", "none"):
        got = gradients({**x, "reduction": reduction}, torch.ones(()), backend="fused")
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@interpreted
def test_large_counts_keep_their_digits() -> None:
    x = cases.make(cases.Case("c", 40, 5, 2, counts=torch.int32), DEVICE)
    x["counts"] = x["counts"] * 1001
    got, want = (poisson_lowrank_nll(**x, backend=b) for b in ("fused", "reference"))
    torch.testing.assert_close(got, want, rtol=1e-5, atol=0)


@interpreted
def test_known_latents_and_bins_of_their_own_weight() -> None:
    x = cases.make(cases.Case("c", 70, 21, 3, masked=True, reduction="none"), DEVICE)
    weight = torch.linspace(-1, 2, 70, device=DEVICE)
    leaves = [x[n].clone().requires_grad_() for n in ("z", "weight", "offset")]
    made = []
    for backend in ("fused", "reference"):
        nll = poisson_lowrank_nll(*leaves, None, x["counts"], mask=x["mask"], backend=backend)
        made.append(torch.autograd.grad((nll * weight).sum(), leaves))
    for a, b in zip(*made, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@interpreted
def test_the_same_bits_again() -> None:
    x = cases.make(cases.Case("c", 200, 30, 5), DEVICE)
    first, second = (gradients(x, torch.ones(()), backend="fused") for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_missing_bins_are_never_used() -> None:
    mask = torch.arange(11) != 4
    clean = inputs(mask=mask, reduction="none")
    want, slope = poisson_lowrank_nll(**clean), gradients(clean, torch.ones(11))
    spoiled = {**clean, "counts": clean["counts"].double()}
    for name in ("z", "variance", "counts"):
        spoiled[name] = spoiled[name].masked_fill(~mask[:, None], float("nan"))
    torch.testing.assert_close(poisson_lowrank_nll(**spoiled), want)
    assert float(want[4]) == 0.0
    for a, b in zip(gradients(spoiled, torch.ones(11)), slope, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"reduction": "mean"}, "expected none or sum"),
        ({"weight": torch.zeros(4, 3, dtype=torch.float64)}, "do not fit"),
        ({"z": torch.zeros(11, 2).int()}, "expected float32 or float64"),
        ({"offset": torch.zeros(5, dtype=torch.float64)}, r"offset has shape \(5,\)"),
        ({"variance": torch.zeros(11, 1, dtype=torch.float64)}, r"expected \(11, 2\)"),
        ({"offset": torch.zeros(4)}, "convert it with"),
        ({"mask": torch.zeros(11)}, "expected bool"),
        ({"counts": torch.zeros(11, 4, dtype=torch.bool)}, "expected integers or floats"),
    ],
)
def test_errors_name_the_mend(change: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        poisson_lowrank_nll(**inputs(**change))
