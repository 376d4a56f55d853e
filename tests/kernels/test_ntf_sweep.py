"""ntf_sweep against the affinities written out, and ntf_update against closed forms."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from neuropipe_kernels import ntf_padded, ntf_sweep, ntf_update
from neuropipe_kernels.ntf_sweep import reference
from scipy.optimize import nnls

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
interpreted = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1" and DEVICE == "cpu",
    reason="needs CUDA or TRITON_INTERPRET=1",
)
FORMS = ("prod", "geo", "min", "minpos")


def written_out(d: np.ndarray, form: str) -> np.ndarray:
    """Affinities (row, pair) by the definition of each form."""
    i, j = np.triu_indices(d.shape[1], 1)
    a, b = d[:, i], d[:, j]
    return {
        "prod": np.maximum(a * b, 0),
        "geo": np.sqrt(np.maximum(a * b, 0)),
        "min": np.minimum(abs(a), abs(b)) * (a * b > 0),
        "minpos": np.maximum(np.minimum(a, b), 0),
    }[form]


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("form", FORMS)
def test_made_affinities_are_the_definition(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "BLOCK", 40)
    d = drawn(23, 9)
    d[3, 4] = 0
    x = written_out(d.numpy(), form)
    for over, size, turned in (("pair", 36, x), ("row", 23, x.T)):
        factor = drawn(size, 4, seed=1).abs()
        got = ntf_sweep(d, factor, over=over, form=form, scale=2.0)
        np.testing.assert_allclose(got, 2 * turned @ factor.numpy(), rtol=1e-12)
        stored = ntf_sweep(torch.as_tensor(x), factor, over=over, scale=2.0)
        torch.testing.assert_close(got, stored, rtol=1e-12, atol=0)


def test_codes_and_bfloat16_cost_what_their_rounding_costs() -> None:
    x = torch.as_tensor(written_out(drawn(400, 20).numpy(), "geo")).float()
    scale = float(x.max()) / 255
    for over, size in (("pair", x.shape[1]), ("row", x.shape[0])):
        factor = drawn(size, 4).abs().float()
        want = ntf_sweep(x, factor, over=over)
        codes = ((x / scale).round() - 128).to(torch.int8)
        coded = ntf_sweep(codes, factor, over=over, scale=scale)
        assert float((coded - want).norm() / want.norm()) < 1e-3
        short = ntf_sweep(x.bfloat16(), factor, over=over)
        assert float((short - want).norm() / want.norm()) < 5e-4


def coded(*shape: int) -> torch.Tensor:
    """Draw codes of all sizes."""
    g = torch.Generator().manual_seed(0)
    return torch.randint(-128, 128, shape, generator=g, dtype=torch.int8).to(DEVICE)


def both_forms(data: torch.Tensor, factor: torch.Tensor, over: str) -> list[torch.Tensor]:
    """Contract codes by the fused form, and by the reference in float64."""
    return [
        ntf_sweep(data, f, over=over, scale=0.1, backend=b)
        for f, b in ((factor, "fused"), (factor.double(), "reference"))
    ]


@interpreted
def test_columns_of_zeros_and_of_either_sign_meet_codes() -> None:
    factor = drawn(300, 4).float().to(DEVICE)
    factor[:, 1] = 0
    factor[:, 2] *= 1e-30
    got, want = both_forms(coded(40, 300), factor, "pair")
    assert torch.equal(got[:, 1], torch.zeros_like(got[:, 1]))
    gap = (got.double() - want)[:, ::2].norm(dim=0)
    assert bool((gap <= 2e-4 * want[:, ::2].norm(dim=0)).all())


@interpreted
@pytest.mark.parametrize("part", [slice(0, 90), slice(3, 100), slice(90, 128)])
def test_codes_beside_those_of_a_slice_stay_out(part: slice) -> None:
    data = coded(20, 128)[2:, part]
    factor = drawn(data.shape[1], 3).abs().float().to(DEVICE)
    for view, over in ((data, "pair"), (data.T, "row")):
        got, want = both_forms(view, factor, over)
        assert float((got - want).norm() / want.norm()) < 2e-5


@interpreted
def test_codes_out_of_line_take_the_reference() -> None:
    data, factor = coded(30, 50), drawn(30, 3).abs().float().to(DEVICE)
    got, want = (ntf_sweep(data, factor, over="row", backend=b) for b in ("fused", "reference"))
    assert torch.equal(got, want)
    turned = ntf_sweep(ntf_padded(data.T).T, factor, over="row", backend="fused")
    torch.testing.assert_close(turned, want, rtol=2e-5, atol=0)


@interpreted
@pytest.mark.parametrize("code", [-128, 127])
def test_the_longest_sum_of_codes_is_exact(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fused = import_module("neuropipe_kernels.ntf_sweep.fused")
    monkeypatch.setattr(fused, "CODES_TARGET", 1)
    n = 2**17 + 5
    factor = torch.full((n, 2), 128.0, device=DEVICE)  # its low digit is -128
    factor[:, 1] = -32512
    factor[0] = 32512
    data = torch.full((1, n), code, dtype=torch.int8, device=DEVICE)
    got, want = both_forms(data, factor, "pair")
    torch.testing.assert_close(got.double(), want, rtol=3e-7, atol=0)


@pytest.mark.parametrize("grouped", [False, True])
def test_many_rounds_of_hals_reach_the_non_negative_least_squares(grouped: bool) -> None:
    design = drawn(3, 12, 4).abs()
    target = drawn(7, 12)
    group = torch.tensor([0, 1, 2, 0, 1, 2, 2]) if grouped else None
    gram = (design.mT @ design)[None, : 3 if grouped else 1]
    own = [int(group[k]) if grouped else 0 for k in range(7)]
    product = torch.stack([design[g].T @ target[k] for k, g in enumerate(own)])[None]
    got = ntf_update(product, torch.ones_like(product), gram, group, rounds=3000)
    want = np.stack([nnls(design[g].numpy(), target[k].numpy())[0] for k, g in enumerate(own)])
    np.testing.assert_allclose(got[0], want, atol=1e-6)


def test_multiplicative_update_is_the_formula() -> None:
    f, product = drawn(1, 6, 3).abs(), drawn(1, 6, 3, seed=1).abs()
    gram = drawn(3, 3, seed=2).abs()
    gram = (gram @ gram.T)[None, None]
    got = ntf_update(product, f, gram, rule="mu", rounds=1)
    torch.testing.assert_close(got[0], f[0] * product[0] / (f[0] @ gram[0, 0]))


@interpreted
@pytest.mark.parametrize("rule", ["hals", "mu"])
@pytest.mark.parametrize("grouped", [False, True])
def test_fused_update_equals_the_reference(rule: str, grouped: bool) -> None:
    design = drawn(2, 3 if grouped else 1, 8, 5).abs()
    gram = (design.mT @ design).float().to(DEVICE)
    gram[:, -1] *= 0 if grouped else 1
    group = (torch.arange(70, device=DEVICE) % 3) if grouped else None
    product, f = (drawn(2, 70, 5, seed=s).abs().float().to(DEVICE) for s in (1, 2))
    got = ntf_update(product, f, gram, group, rule=rule, backend="fused")
    want = ntf_update(product, f, gram, group, rule=rule, backend="reference")
    torch.testing.assert_close(got, want, rtol=2e-4, atol=1e-4)
    if grouped:
        assert torch.equal(got[:, 2::3], f[:, 2::3])


@interpreted
@pytest.mark.parametrize("form", ["geo", "stored"])
def test_fused_sum_is_the_same_bits_again(form: str) -> None:
    x = drawn(150, 21).float().to(DEVICE)
    factor = drawn(210 if form == "geo" else 21, 3).abs().float().to(DEVICE)
    a, b = (ntf_sweep(x, factor, over="pair", form=form, backend="fused") for _ in range(2))
    assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"over": "time"}, "expected over pair or row"),
        ({"form": "corr"}, "form one of stored, prod"),
        ({"data": torch.zeros(4)}, r"of shape \(row, unit\)"),
        ({"data": torch.zeros(4, 3, dtype=torch.int8)}, "expected float32 or float64"),
        ({"data": torch.zeros(4, 3, dtype=torch.uint8), "form": "stored"}, "or bfloat16 or int8"),
        ({"factor": torch.zeros(4, 2)}, r"expected float32 or float64 of shape \(3, column\)"),
        ({"data": torch.zeros(4, 3).double()}, "convert one"),
        ({"factor": torch.zeros(3, 2, requires_grad=True)}, "factor requires a gradient"),
    ],
)
def test_refusals(change: dict[str, Any], said: str) -> None:
    good = {"data": torch.zeros(4, 3), "factor": torch.zeros(3, 2), "over": "pair", "form": "geo"}
    with pytest.raises(ValueError, match=said):
        ntf_sweep(**{**good, **change})


def test_refusals_of_the_update() -> None:
    f, gram = torch.ones(1, 4, 2), torch.ones(1, 1, 2, 2)
    with pytest.raises(ValueError, match="do not fit"):
        ntf_update(f[:, :3], f, gram)
    with pytest.raises(ValueError, match="expected hals or mu"):
        ntf_update(f, f, gram, rule="als")
    with pytest.raises(ValueError, match="need group of shape"):
        ntf_update(f, f, gram.expand(1, 2, 2, 2))
