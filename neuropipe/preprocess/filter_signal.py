"""Zero-phase filters: high-pass, low-pass, band-pass and notches, the same for any blocks."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from neuropipe.errors import DataError
from neuropipe.preprocess.voltages import (
    Place,
    Voltages,
    by_channels,
    convolved,
    mirrored,
    overlapped,
    voltages,
    with_voltage,
)
from neuropipe.schema import Recording

log = logging.getLogger(__name__)

LULL = 1e-20  # of the largest value: what keeps a filter's states from dying away in silence
GOLDEN = (5**0.5 - 1) / 2
FORGOTTEN = 1e-10  # what is left of a state once its block's neighbours have been run through
HALO_BYTES = 1 << 32
NOTCH_TRANSITION_HZ = 1.0  # as mne has it
NOTCH_PART = 200  # a notch is 1/200 of its frequency wide, as mne has it


def filter_signal(
    recording: Recording,
    *,
    low_hz: float | None = None,
    high_hz: float | None = None,
    notch_hz: list[float] | None = None,
    method: Literal["fir", "iir"] = "fir",
    order: int = 4,
    node: str = "ieeg",
) -> Recording:
    """Filter voltages forward and backward in time, so that nothing is delayed.

    Parameters
    ----------
    recording : DataTree
        With the node, and node `runs` where there are several.
    low_hz : float, optional
        Lower edge of what passes.
    high_hz : float, optional
        Upper edge of what passes.
    notch_hz : list of float, optional
        Frequencies to take out, such as the mains and its multiples.
    method : {"fir", "iir"}
        A windowed-sinc kernel with mne's default design, or a Butterworth filter run forward and
        backward.
    order : int
        Of the Butterworth filter, before it is run twice.
    node : str
        ``"ieeg"`` or ``"ephys/<name>"``.

    Raises
    ------
    DataError
        Edges outside of 0 to half the rate, nothing to do, a filter that reaches too far, and,
        when computed, a NaN: it would spread.

    Notes
    -----
    Lazy, and the numbers do not depend on the blocks: each block is read with as much around it
    as the filter reaches, within its run. FIR equals ``mne.filter.filter_data``, then
    ``notch_filter``, of each run; IIR equals ``scipy.signal.sosfiltfilt`` of each run with the
    states of a block forgotten to 1e-10. Computed in float64, kept in the dtype of the signal. A
    card, where there is one, runs the recursion of IIR, to the precision of float32. The filter
    uses later samples: where the result is to predict, cut windows with a gap.

    Source: Widmann, Schroeger & Maess 2015, J. Neurosci. Methods 250 (FIR design in mne).
    """
    found = voltages(recording, node, "filter_signal")
    bands = _bands(found, low_hz, high_hz, notch_hz or [])
    if method == "iir":
        values = _iir(found, low_hz, high_hz, notch_hz or [], order)
        return with_voltage(recording, found, values)
    for band in bands:
        taps = fir(found.rate_hz, **band)
        shortest = min(run.stop - run.start for run in found.runs)
        if shortest < len(taps):
            log.warning(
                "filter_signal: the kernel is %d samples long, the shortest run of node %s %d; its "
                "ends reach all of it", len(taps), node, shortest,
            )  # fmt: skip
        values = overlapped(found, len(taps) // 2, partial(_under, taps=taps))
        recording = with_voltage(recording, found, values)
        found = voltages(recording, node, "filter_signal")
    return recording


def fir(rate_hz: float, l_freq, h_freq, **transitions: float) -> np.ndarray:
    """Return the centred kernel that mne designs, odd, float64."""
    import mne

    return mne.filter.create_filter(
        None, rate_hz, l_freq, h_freq, fir_design="firwin", verbose="error", **transitions
    )


def _bands(
    found: Voltages, low_hz: float | None, high_hz: float | None, notch_hz: list[float]
) -> list[dict]:
    """Return what mne's design takes, for the pass band and for the notches."""
    edges = [hz for hz in (low_hz, high_hz, *notch_hz) if hz is not None]
    nyquist = found.rate_hz / 2
    wrong = [hz for hz in edges if not 0 < hz < nyquist]
    if not edges or wrong or (low_hz and high_hz and low_hz >= high_hz):
        raise DataError(
            f"filter_signal: found low_hz {low_hz}, high_hz {high_hz} and notch_hz {notch_hz}, "
            f"expected at least one, between 0 and {nyquist:g} Hz (half the rate of node "
            f"{found.node}), low below high"
        )
    bands: list[dict] = []
    if low_hz is not None or high_hz is not None:
        bands.append({"l_freq": low_hz, "h_freq": high_hz})
    if notch_hz:
        highs, lows = np.array([_notch(hz)[::-1] for hz in notch_hz]).T
        half = NOTCH_TRANSITION_HZ / 2
        more = {"l_trans_bandwidth": half, "h_trans_bandwidth": half}
        bands.append({"l_freq": highs, "h_freq": lows, **more})
    return bands


def _notch(hz: float) -> tuple[float, float]:
    half = hz / NOTCH_PART / 2 + NOTCH_TRANSITION_HZ / 2
    return hz - half, hz + half


def _under(part: np.ndarray, place: Place, taps: np.ndarray) -> np.ndarray:
    out = np.empty((place.rows, part.shape[1]), part.dtype)
    for group in by_channels(part.shape[1]):
        out[:, group] = convolved(part[:, group], taps, place).T
    return out


def _iir(
    found: Voltages, low_hz: float | None, high_hz: float | None, notch_hz: list[float], order: int
):
    from scipy import signal

    if order < 1:
        raise DataError(f"filter_signal: order is {order}, expected at least 1")
    design = partial(signal.butter, order, fs=found.rate_hz, output="sos")
    stages = [design(_notch(hz), btype="bandstop") for hz in notch_hz]
    if low_hz is not None and high_hz is not None:
        stages.insert(0, design((low_hz, high_hz), btype="bandpass"))
    elif low_hz is not None:
        stages.insert(0, design(low_hz, btype="highpass"))
    elif high_hz is not None:
        stages.insert(0, design(high_hz, btype="lowpass"))
    sos = np.concatenate(stages)
    slowest = max(np.abs(np.roots(row[3:])).max() for row in sos)
    padding = _padding(sos)
    # several poles of that size forget later than one alone
    halo = max(padding, int(np.ceil(np.log(FORGOTTEN) / np.log(slowest) * 1.25)))
    longest = max(run.stop - run.start for run in found.runs)
    shortest = min(run.stop - run.start for run in found.runs)
    held = found.values.dtype.itemsize * min(halo, longest) * found.values.shape[1]
    if shortest <= padding or not slowest < 1 or held > HALO_BYTES:
        raise DataError(
            f"filter_signal: the filter reaches over {halo} samples ({halo / found.rate_hz:g} s), "
            f"the shortest run of node {found.node} holds {shortest}; expected runs longer than "
            f"{padding} samples and a reach that fits into memory; raise low_hz, lower the order, "
            "or resample first"
        )
    return overlapped(found, halo, partial(_run_through, sos=sos, padding=padding))


def _padding(sos: np.ndarray) -> int:
    """Return by how many samples ``sosfiltfilt`` extends the ends of a signal."""
    zeros = min((sos[:, 2] == 0).sum(), (sos[:, 5] == 0).sum())
    return 3 * (2 * len(sos) + 1 - int(zeros))


def _run_through(part: np.ndarray, place: Place, sos: np.ndarray, padding: int) -> np.ndarray:
    """Run forward, then backward; a block's neighbours let the states settle."""
    from scipy import signal

    before, after = padding * place.begins, padding * place.ends
    settled = signal.sosfilt_zi(sos)
    rows = slice(before + place.lead, before + place.lead + place.rows)
    if _has_card():
        return _run_on_card(part, sos, settled, (before, after))[rows].astype(part.dtype)
    settled = settled[:, None]
    out = np.empty((place.rows, part.shape[1]), part.dtype)
    for group in by_channels(part.shape[1]):
        values = mirrored(part[:, group], before, after)
        values += _lull(values)
        values, _ = signal.sosfilt(sos, values, axis=1, zi=settled * values[:, :1])
        values = values[:, ::-1]
        values, _ = signal.sosfilt(sos, values, axis=1, zi=settled * values[:, :1])
        out[:, group] = values[:, ::-1][:, rows].T
    return out


def _lull(values: np.ndarray) -> np.ndarray:
    """Return a chirp, (time,), far below the rounding of `values`.

    In a silent stretch a filter's states sink into subnormal numbers, ten times as slow to add.
    """
    position = np.arange(values.shape[1], dtype=float)
    return LULL * np.abs(values).max(initial=0) * ((position**2 * GOLDEN) % 1 - 0.5)


def _run_on_card(
    part: np.ndarray, sos: np.ndarray, settled: np.ndarray, ends: tuple[int, int]
) -> np.ndarray:
    """Do the same on a CUDA device, (time, channel): one copy there, one back."""
    import torch
    from neuropipe_kernels.sos_scan import sos_scan

    before, after = ends
    x = torch.as_tensor(part, device="cuda")
    narrow, x = x.dtype, x.double()
    left = 2 * x[:1] - x[1 : before + 1].flip(0)
    right = 2 * x[-1:] - x[len(x) - 1 - after : -1].flip(0)
    x = torch.cat([left, x, right])
    sections = torch.as_tensor(sos, device="cuda")
    state = torch.as_tensor(settled, device="cuda")[:, :, None]
    x, _ = sos_scan(x, sections, state * x[:1])
    x, _ = sos_scan(x, sections, state * x[-1:], reverse=True)
    return x.to(narrow).cpu().numpy()


def _has_card() -> bool:
    """Say whether torch sees a CUDA device; torch is not imported where there can be none."""
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return False
    import torch

    return torch.cuda.is_available()
