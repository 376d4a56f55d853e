"""sos_scan against scipy, in pieces, backwards, and where only long inputs reach."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import scipy.signal
import torch
from neuropipe_kernels import sos_scan
from neuropipe_kernels.plan import Plan
from neuropipe_kernels.sos_scan import cases

interpreted = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1" and not torch.cuda.is_available(),
    reason="needs CUDA or TRITON_INTERPRET=1",
)


def drawn(n_bins: int, n_channels: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    g = torch.Generator().manual_seed(4)
    x = torch.randn(n_bins, n_channels, generator=g, dtype=torch.float64)
    return (x + 100).to(dtype)


@pytest.mark.parametrize("n_bins", [1, 2, 63, 1000])
@pytest.mark.parametrize(
    "sos",
    [
        scipy.signal.butter(4, [4, 150], "bandpass", fs=1000, output="sos"),
        scipy.signal.cheby2(5, 40, 30, "lowpass", fs=1000, output="sos"),
        scipy.signal.tf2sos(*scipy.signal.iirnotch(50, 30, fs=1000)),
    ],
    ids=["butter", "cheby2", "notch"],
)
def test_reference_is_scipys_sosfilt(sos: np.ndarray, n_bins: int) -> None:
    x = drawn(n_bins, 3)
    zi = np.random.default_rng(1).standard_normal((len(sos), 2, 3))
    want, want_zf = scipy.signal.sosfilt(sos, x.numpy(), axis=0, zi=zi)
    y, zf = sos_scan(x, torch.from_numpy(sos), torch.from_numpy(zi), backend="reference")
    scale = np.abs(want).max()
    assert np.abs(y.numpy() - want).max() <= 1e-12 * scale
    assert np.abs(zf.numpy() - want_zf).max() <= 1e-12 * np.abs(want_zf).max()


def test_poles_near_one_hold_in_float32() -> None:
    sos = scipy.signal.butter(8, 0.5, "highpass", fs=2000, output="sos")
    x = drawn(20000, 2, torch.float32)
    want = scipy.signal.sosfilt(sos, x.double().numpy(), axis=0)
    y, _ = sos_scan(x, torch.from_numpy(sos), backend="reference")
    assert np.linalg.norm(y.numpy() - want) <= 1e-6 * np.linalg.norm(want)


@pytest.mark.parametrize("reverse", [False, True])
def test_pieces_one_after_another_are_the_whole(reverse: bool) -> None:
    x, sos = drawn(500, 2), cases.butterworth(2, 0.01)
    whole, last = sos_scan(x, sos, reverse=reverse)
    pieces = list(x.split([1, 130, 69, 300]))
    done, zi = [], None
    for piece in reversed(pieces) if reverse else pieces:
        y, zi = sos_scan(piece, sos, zi, reverse=reverse)
        done.append(y)
    y = torch.cat(done[::-1] if reverse else done)
    torch.testing.assert_close(y, whole, rtol=0, atol=1e-12 * float(whole.abs().max()))
    # Delays hold differences of numbers as large as the signal, so that is what they are off by.
    torch.testing.assert_close(zi, last, rtol=0, atol=1e-12 * float(x.abs().max()))


def test_reverse_is_the_flipped_run() -> None:
    x, sos = drawn(77, 2), cases.butterworth(3, 0.02)
    y, zf = sos_scan(x, sos, reverse=True)
    want, want_zf = sos_scan(x.flip(0), sos)
    assert torch.equal(y, want.flip(0))
    assert torch.equal(zf, want_zf)


@interpreted
@pytest.mark.parametrize("radices", [(5,), (3, 2), (2, 2, 3)])
@pytest.mark.parametrize("n_bins", [12, 53, 60])
def test_deep_scans_and_empty_chunks(
    n_bins: int, radices: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several levels of the scan; 53 bins in 12 chunks of 5 leave one chunk empty."""
    fused = import_module("neuropipe_kernels.sos_scan.fused")
    monkeypatch.setattr(fused, "plan", lambda *_: Plan(int(np.prod(radices)), radices))
    case = cases.Case("deep", n_bins, 2, 3, reverse=n_bins == 53, resumed=True, dtype=torch.float64)
    inputs = cases.make(case, "cuda" if torch.cuda.is_available() else "cpu")
    got = sos_scan(**inputs, backend="fused")
    want = sos_scan(**inputs, backend="reference")
    for label, error in cases.errors(got, want, inputs).items():
        assert error <= 1e-11, f"{label} is off by {error:.1e}"


def test_design_of_the_cases_is_butterworths() -> None:
    for n_sections, cutoff in ((1, 0.1), (4, 0.5 / 2000)):
        mine = cases.butterworth(n_sections, cutoff).numpy()
        want = scipy.signal.butter(2 * n_sections, 2 * cutoff, "highpass", output="sos")
        w = np.linspace(0.001, 3, 20)
        gain = [scipy.signal.sosfreqz(s, worN=w)[1] for s in (mine, want)]
        np.testing.assert_allclose(*gain, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"x": torch.zeros(5)}, "expected float32 or float64"),
        ({"x": torch.zeros(0, 2)}, "at least one sample"),
        ({"x": torch.zeros(5, 2, dtype=torch.int32)}, "torch.int32"),
        ({"sos": torch.ones(1, 5)}, r"\(section, 6\)"),
        ({"sos": torch.full((1, 6), 2.0)}, "expected ones"),
        ({"zi": torch.zeros(2, 2, 2)}, r"expected float64 of shape \(1, 2, 2\)"),
        ({"x": torch.zeros(5, 2, requires_grad=True)}, "x requires a gradient"),
    ],
)
def test_refusals(change: dict[str, Any], said: str) -> None:
    good = {"x": torch.zeros(5, 2), "sos": torch.tensor([[1.0, 0, 0, 1, 0, 0]])}
    with pytest.raises(ValueError, match=said):
        sos_scan(**{**good, **change})
