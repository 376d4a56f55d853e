"""The population log likelihood against torch.distributions, and far from the origin."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from neuropipe_kernels import glm_ll
from neuropipe_kernels.glm_ll import cases, reference
from torch.nn import functional as F

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
interpreted = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1" and DEVICE == "cpu",
    reason="needs CUDA or TRITON_INTERPRET=1",
)
FORMS = [
    ("poisson", "softplus"),
    ("poisson", "exp"),
    ("poisson", "sigmoid"),
    ("bernoulli", "sigmoid"),
    ("gaussian", "softplus"),
]


def inputs(family: str, link: str) -> dict[str, Any]:
    """Draw one small call in float64."""
    g = torch.Generator().manual_seed(0)
    kind = {"generator": g, "dtype": torch.float64}
    counts = torch.poisson(2 * torch.rand(11, 4, **kind), generator=g)
    return {
        "features": torch.randn(11, 3, **kind),
        "weight": torch.randn(2, 4, 3, **kind),
        "bias": torch.randn(2, 4, **kind),
        "counts": counts.clamp(max=1) if family == "bernoulli" else counts,
        "family": family,
        "link": link,
        "mask": torch.rand(11, 4, generator=g) > 0.2,
        "noise_std": torch.rand(4, **kind) + 0.5 if family == "gaussian" else None,
    }


@pytest.mark.parametrize(("family", "link"), FORMS)
def test_independent_library(family: str, link: str) -> None:
    x = inputs(family, link)
    eta = torch.einsum("tf,knf->tkn", x["features"], x["weight"]) + x["bias"]
    y = x["counts"][:, None].expand_as(eta)
    if family == "gaussian":
        law = torch.distributions.Normal(eta, x["noise_std"])
    elif family == "bernoulli":
        law = torch.distributions.Bernoulli(logits=eta)
    else:
        rate = {"softplus": F.softplus, "exp": torch.exp, "sigmoid": torch.sigmoid}[link]
        law = torch.distributions.Poisson(rate(eta))
    want = (law.log_prob(y) * x["mask"][:, None]).sum(-1)
    torch.testing.assert_close(glm_ll(**x), want)


@pytest.mark.parametrize(("family", "link"), FORMS)
def test_gradcheck(family: str, link: str) -> None:
    x = inputs(family, link)
    names = ("features", "weight", "bias")
    leaves = [x[n].requires_grad_() for n in names]
    assert torch.autograd.gradcheck(
        lambda *v: glm_ll(**{**x, **dict(zip(names, v, strict=True))}), leaves
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_very_negative_predictor_keeps_its_slope(dtype: torch.dtype) -> None:
    """log softplus(eta) tends to eta, with slope one, where softplus itself is zero."""
    bias = torch.tensor([[-19.0, -21.0, -300.0]], dtype=dtype, requires_grad=True)
    ll = glm_ll(torch.zeros(1, 1, dtype=dtype), torch.zeros(1, 3, 1, dtype=dtype), bias,
                torch.ones(1, 3, dtype=dtype))  # fmt: skip
    ll.sum().backward()
    torch.testing.assert_close(ll[0], bias.detach().sum(1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(bias.grad, torch.ones_like(bias), rtol=1e-6, atol=1e-6)


def test_blocks_of_time_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x = inputs("poisson", "softplus")
    whole = glm_ll(**x)
    monkeypatch.setattr(reference, "BLOCK", 2 * 4 * 3)
    torch.testing.assert_close(glm_ll(**x), whole)


@interpreted
@pytest.mark.parametrize("precision", ["highest", "high"])
@pytest.mark.parametrize(("kept", "turn"), [(0, 1), (2**30, 1), (2**30, 2**20)])
def test_wide_models_in_blocks(
    precision: str, kept: int, turn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slopes that are kept and slopes that are made again, over several blocks of time."""
    from neuropipe_kernels.glm_ll import wide

    monkeypatch.setattr(wide, "KEPT", kept)
    monkeypatch.setattr(wide, "TURN", turn)
    monkeypatch.setattr(wide, "BLOCK", 30 * 270)
    monkeypatch.setattr(wide, "BACK_BLOCK", 40 * 270)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    found = []
    for backend, dtype in (("fused", torch.float32), ("reference", torch.float64)):
        x = cases.make(cases.Case("wide", 70, 260, 3, 90, masked=True), DEVICE)
        x = {n: v.to(dtype) if n in ("features", "counts") else v for n, v in x.items()}
        leaves = [x[n].to(dtype).requires_grad_() for n in ("weight", "bias")]
        ll = glm_ll(**{**x, "weight": leaves[0], "bias": leaves[1]}, backend=backend)
        weight = torch.linspace(0, 1, 70 * 3, dtype=dtype, device=DEVICE).view(70, 3)
        found.append([ll.detach(), *torch.autograd.grad(ll, leaves, weight)])
    torch.set_float32_matmul_precision(before)
    bound = 1e-5 if precision == "highest" or DEVICE == "cpu" else 3e-3
    for got, want in zip(*found, strict=True):
        assert float((got - want).norm() / want.norm()) <= bound


def test_missing_counts_are_never_used() -> None:
    x = inputs("poisson", "exp")
    clean = glm_ll(**x)
    x["counts"] = torch.where(x["mask"], x["counts"], float("nan"))
    x["weight"].requires_grad_()
    ll = glm_ll(**x)
    ll.sum().backward()
    torch.testing.assert_close(ll.detach(), clean)
    assert bool(torch.isfinite(x["weight"].grad).all())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"family": "gamma"}, "is unknown; expected gaussian"),
        ({"family": "bernoulli", "link": "exp"}, "is unknown"),
        ({"weight": torch.zeros(2, 4, 5, dtype=torch.float64)}, "do not fit"),
        ({"bias": torch.zeros(4, dtype=torch.float64)}, r"bias has shape \(4,\)"),
        ({"bias": torch.zeros(2, 4)}, "expected torch.float64 as features"),
        ({"mask": torch.zeros(11, 4)}, "expected bool"),
        ({"noise_std": 1.0}, "gaussian needs it"),
        ({"family": "gaussian", "noise_std": 0.0}, "must be positive"),
        ({"family": "gaussian", "noise_std": torch.ones(3)}, "expected a number"),
    ],
)
def test_errors_name_the_mend(change: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        glm_ll(**{**inputs("poisson", "softplus"), **change})
