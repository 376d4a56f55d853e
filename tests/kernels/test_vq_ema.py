"""vq_ema against a float64 search, loops written out and scikit-learn's neighbours."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch
from neuropipe_kernels import vq_ema, vq_update
from neuropipe_kernels.vq_ema import cases, reference
from neuropipe_kernels.vq_ema.reference import unit
from sklearn.neighbors import NearestNeighbors

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
interpreted = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1" and DEVICE == "cpu",
    reason="needs CUDA or TRITON_INTERPRET=1",
)


def drawn(n: int, n_codes: int, dim: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, dim, generator=g)
    return x.to(DEVICE), unit(torch.randn(n_codes, dim, generator=g)).to(DEVICE)


def test_index_is_the_nearest_neighbour_of_another_library(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reference, "BLOCK", 500)
    x, code = drawn(300, 40, 8)
    got = vq_ema(x, code)
    search = NearestNeighbors(n_neighbors=1, metric="cosine").fit(code.double().cpu().numpy())
    want = search.kneighbors(x.double().cpu().numpy(), return_distance=False)[:, 0]
    assert np.array_equal(got.index.cpu().numpy(), want)


def test_sums_and_moving_average_are_a_plain_loop() -> None:
    x, code = (t.double() for t in drawn(50, 6, 4))
    size = torch.arange(6.0, dtype=torch.float64, device=DEVICE)
    got = vq_ema(x, code)
    moved, grown = vq_update(code, size, got.count, got.total, decay=0.9)
    for k in range(6):
        mine = [row / np.linalg.norm(row) for row in x[got.index == k].cpu().numpy()]
        assert float(got.count[k]) == len(mine)
        want = code[k].cpu().numpy()
        if mine:
            mean = np.mean(mine, 0)
            want = 0.9 * want + 0.1 * mean / np.linalg.norm(mean)
            want /= np.linalg.norm(want)
        np.testing.assert_allclose(moved[k].cpu(), want, rtol=1e-12)
        assert float(grown[k]) == pytest.approx(0.9 * k + 0.1 * len(mine))


def test_a_code_without_a_token_stays_bit_for_bit() -> None:
    x, code = drawn(1, 5, 3)
    got = vq_ema(x, code)
    moved, _ = vq_update(code, got.count, got.count, got.total, decay=0.5)
    others = torch.arange(5, device=DEVICE) != got.index
    assert torch.equal(moved[others], code[others])
    assert not torch.equal(moved[~others], code[~others])


def test_equal_codes_give_the_lowest_and_zero_tokens_code_0() -> None:
    x, code = drawn(20, 4, 6)
    x[3] = 0
    got = vq_ema(x, code.repeat(3, 1))
    assert torch.equal(got.index, vq_ema(x, code).index)
    assert int(got.index[3]) == 0


@interpreted
@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_screening_in_bfloat16_loses_no_token(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many tokens take another way than few; here a few are sent along it."""
    from neuropipe_kernels.vq_ema import fused

    monkeypatch.setattr(fused, "FEW", 0)
    monkeypatch.setattr(fused, "TARGET", 3)
    for seed in (1, 2):
        inputs = cases.make(case, DEVICE, seed)
        got = vq_ema(**inputs, backend="fused")
        want = vq_ema(**inputs, backend="reference")
        gaps = cases.errors(got, want, inputs)
        assert max(gaps.values()) <= case.tolerance, gaps


@interpreted
def test_codes_that_bfloat16_cannot_tell_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four codes within the rounding of bfloat16 around every token: all are scored again."""
    from neuropipe_kernels.vq_ema import fused

    monkeypatch.setattr(fused, "FEW", 0)
    x, base = drawn(60, 8, 16)
    near = unit(base.repeat_interleave(4, 0) + 1e-4 * drawn(32, 32, 16, seed=4)[0])
    got = vq_ema(x, near, backend="fused")
    assert torch.equal(got.index, vq_ema(x, near, backend="reference").index)


@interpreted
def test_fused_update_equals_the_reference() -> None:
    x, code = drawn(90, 37, 20)
    size = torch.rand(37, device=DEVICE)
    sums = vq_ema(x, code)[1:]
    got = vq_update(code, size, *sums, decay=0.8, backend="fused")
    want = vq_update(code, size, *sums, decay=0.8, backend="reference")
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@interpreted
@pytest.mark.parametrize("few", [0, 1000])
def test_fused_sums_are_the_same_bits_again(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from neuropipe_kernels.vq_ema import fused

    monkeypatch.setattr(fused, "FEW", few)
    x, code = drawn(150, 5, 9)
    a, b = (vq_ema(x, code, backend="fused") for _ in range(2))
    assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"x": torch.zeros(4)}, r"x is torch.float32 of shape \(4,\).*\(token, dim\)"),
        ({"code": torch.zeros(0, 3)}, r"of shape \(code, dim\)"),
        ({"x": torch.zeros(4, 2)}, "expected the same of both"),
        ({"x": torch.zeros(4, 3).double()}, "expected the same of both"),
        ({"code": 2 * torch.eye(3)}, "divide each row by its length"),
        ({"x": torch.zeros(4, 3, requires_grad=True)}, "x requires a gradient"),
    ],
)
def test_refusals(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        vq_ema(**{"x": torch.ones(4, 3), "code": torch.eye(3), **change})


def test_refusals_of_the_update() -> None:
    code, ones = torch.eye(3), torch.ones(3)
    with pytest.raises(ValueError, match="do not fit"):
        vq_update(code, ones, ones[:2], code, decay=0.9)
    with pytest.raises(ValueError, match="below 1"):
        vq_update(code, ones, ones, code, decay=1.0)
