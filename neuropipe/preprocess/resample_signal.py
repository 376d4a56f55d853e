"""Voltages at another rate, without what would fold back."""

from __future__ import annotations

from fractions import Fraction
from functools import partial

import numpy as np

from neuropipe.errors import DataError
from neuropipe.preprocess.voltages import (
    Place,
    by_channels,
    clock,
    clocked,
    overlapped,
    voltages,
)
from neuropipe.schema import Recording

LARGEST = 2000  # numerator and denominator of the ratio of two rates
HALF_TAPS = 10  # of the kernel, on the slower clock, as scipy has it
KAISER = 5.0


def resample_signal(recording: Recording, *, rate_hz: float, node: str = "ieeg") -> Recording:
    """Give voltages another rate, each run from its own first sample on.

    Parameters
    ----------
    recording : DataTree
        With the node, and node `runs` where there are several.
    rate_hz : float
        New rate; its ratio to the old one must be one of whole numbers up to 2000.
    node : str
        ``"ieeg"`` or ``"ephys/<name>"``.

    Raises
    ------
    DataError
        No such ratio, and, when computed, a NaN: it would spread.

    Notes
    -----
    Lazy, and the numbers do not depend on the blocks. Polyphase with a Kaiser-windowed low-pass
    below half of the slower rate; equals ``scipy.signal.resample_poly`` of each run with its ends
    mirrored, which is mne's ``resample(method="polyphase")`` where the run's length fits the
    ratio. The last sample lies within the run.
    """
    from scipy.signal import firwin

    found = voltages(recording, node, "resample_signal")
    if not 0 < rate_hz < np.inf:
        raise DataError(f"resample_signal: rate_hz is {rate_hz}, expected a number above 0")
    exact = rate_hz / found.rate_hz
    ratio = Fraction(exact).limit_denominator(LARGEST)
    up, down = ratio.numerator, ratio.denominator
    if up > LARGEST or up == 0 or abs(up / down - exact) > 1e-9 * exact:
        near = found.rate_hz * max(ratio, Fraction(1, LARGEST))
        raise DataError(
            f"resample_signal: {rate_hz:g} Hz is no simple ratio of the {found.rate_hz:g} Hz of "
            f"node {node}, expected whole numbers up to {LARGEST}; take {near:.6f} Hz"
        )
    slower = max(up, down)
    taps = firwin(2 * HALF_TAPS * slower + 1, 1 / slower, window=("kaiser", KAISER))
    reach = -(-HALF_TAPS * slower // up)
    halo = down * -(-reach // down)
    work = partial(_resampled, taps=taps, up=up, down=down, halo=halo)

    def rows(n: int) -> int:
        return -(-n * up // down)

    values = overlapped(found, halo, work, unit=down, rows_out=rows)
    counts = [rows(run.stop - run.start) for run in found.runs]
    before = found.dataset["voltage"]
    coords = {
        name: coord.variable
        for name, coord in found.dataset.coords.items()
        if "time" not in coord.dims
    }
    dataset = clocked(
        {"voltage": (before.dims, values, before.attrs)},
        coords,
        clock(found, rate_hz, counts),
        {**found.dataset.attrs, "sampling_rate_hz": float(rate_hz)},
    )
    out = recording.copy()
    out[node] = type(recording)(dataset)
    return out


def _resampled(
    part: np.ndarray, place: Place, taps: np.ndarray, up: int, down: int, halo: int
) -> np.ndarray:
    from scipy.signal import resample_poly

    ends = (halo * place.begins, halo * place.ends)
    first, n_rows = halo * up // down, -(-place.rows * up // down)
    out = np.empty((n_rows, part.shape[1]), part.dtype)
    for group in by_channels(part.shape[1]):
        values = np.ascontiguousarray(part[:, group].T, dtype=np.float64)
        # one sample has no mirror
        values = np.pad(values, ((0, 0), ends), "reflect" if part.shape[0] > 1 else "edge")
        resampled = resample_poly(values, up, down, axis=1, window=taps)
        out[:, group] = resampled[:, first : first + n_rows].T
    return out
