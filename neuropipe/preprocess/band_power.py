"""Power of voltages in bands of frequency."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Literal

import numpy as np

from neuropipe.errors import DataError
from neuropipe.preprocess.filter_signal import fir
from neuropipe.preprocess.voltages import (
    Place,
    by_channels,
    clock,
    clocked,
    convolved,
    overlapped,
    voltages,
)
from neuropipe.schema import Recording

FLOOR = 1e-30  # V^2, -300 dB: what a dead channel's logarithm is


def band_power(
    recording: Recording,
    *,
    bands: dict[str, tuple[float, float]],
    rate_hz: float,
    sub_band_hz: float | None = None,
    kind: Literal["power", "envelope"] = "power",
    log: bool = False,
    node: str = "ieeg",
) -> Recording:
    """Write node `band_power`: how strong each band is in consecutive bins of time.

    Parameters
    ----------
    recording : DataTree
        With the node of voltages, and node `runs` where there are several.
    bands : dict of name to (low, high), Hz
        Such as ``{"high_gamma": [70, 150]}``.
    rate_hz : float
        Rate of the bins; the rate of the voltages is a whole multiple of it.
    sub_band_hz : float, optional
        Cut each band into parts about this wide and average their power (with `log`, their
        decibels), so that the lowest frequencies do not drown the others.
    kind : {"power", "envelope"}
        Squared magnitude of the analytic signal, V^2, or the magnitude, V; its mean over a bin.
    log : bool
        Decibels re 1 V^2 (1 V), of the mean of a bin.
    node : str
        ``"ieeg"`` or ``"ephys/<name>"``.

    Raises
    ------
    DataError
        A band outside of 0 to half the rate, a rate that does not fit, a run shorter than a bin,
        and, when computed, a NaN: it would spread.

    Notes
    -----
    Lazy, and the numbers do not depend on the blocks: band-pass and analytic signal are one
    complex FIR kernel (mne's default band-pass, and its Hilbert transform over a window three
    times as long), mirrored at the ends of a run. Of a whole run it agrees with
    ``scipy.signal.hilbert`` of the band-passed signal to 1 part in 1000 of the largest power,
    mirrored ends and all. The last bin of a run is left out unless it is whole.

    Source: averages over sub-bands of 70 to 150 Hz as in Bouchard et al. 2013, Nature 495:327 and
    Edwards et al. 2009, J. Neurophysiol. 102:377; there each is normalised over the session, which
    is a fit and therefore left to the models; the mean of decibels serves the same end.
    """
    found = voltages(recording, node, "band_power")
    width = found.rate_hz / rate_hz if rate_hz > 0 else 0.0
    unit = round(width)
    if unit < 1 or abs(width - unit) > 1e-6 * width:
        raise DataError(
            f"band_power: {rate_hz:g} Hz does not divide the {found.rate_hz:g} Hz of node {node}; "
            f"take {found.rate_hz / max(unit, 1):g} Hz, or resample_signal first"
        )
    kernels = [_kernels(name, edges, found.rate_hz, sub_band_hz) for name, edges in bands.items()]
    counts = [(run.stop - run.start) // unit for run in found.runs]
    if not kernels or min(counts) < 1:
        raise DataError(
            f"band_power: found {len(kernels)} bands and a shortest run of {min(counts)} bins, "
            "expected at least one of each"
        )
    reach = max(len(taps) // 2 for band in kernels for taps in band)
    halo = unit * -(-reach // unit)
    work = partial(_power, kernels=kernels, unit=unit, halo=halo, kind=kind, log=log)
    tail = (found.values.shape[1], len(kernels))
    values = overlapped(
        found, halo, work, tail=tail, unit=unit, rows_out=lambda n: n // unit, dtype=np.dtype("f4")
    )
    units = "dB" if log else {"power": "V^2", "envelope": "V"}[kind]
    coords = {
        name: coord.variable
        for name, coord in found.dataset.coords.items()
        if "time" not in coord.dims
    }
    coords["channel"] = ("channel", np.array(found.names, dtype=object), {"units": ""})
    coords["band"] = ("band", np.array(list(bands), dtype=object), {"units": ""})
    for place, side in enumerate(("low_hz", "high_hz")):
        edges = np.array([edges[place] for edges in bands.values()], dtype=float)
        coords[side] = ("band", edges, {"units": "Hz"})
    dataset = clocked(
        {"power": (("time", "channel", "band"), values, {"units": units, "kind": kind})},
        coords,
        clock(found, rate_hz, counts, shift_s=(unit - 1) / 2 / found.rate_hz),
        {"sampling_rate_hz": float(rate_hz), "node": node},
    )
    out = recording.copy()
    out["band_power"] = type(recording)(dataset)
    return out


def _kernels(
    name: str, edges: tuple[float, float], rate_hz: float, sub_band_hz: float | None
) -> list[np.ndarray]:
    """Return a complex kernel for each part of a band."""
    low, high = edges
    if not 0 < low < high < rate_hz / 2 or (sub_band_hz is not None and not sub_band_hz > 0):
        raise DataError(
            f"band_power: band {name!r} is {low:g} to {high:g} Hz in parts of {sub_band_hz} Hz, "
            f"expected low below high, between 0 and {rate_hz / 2:g} Hz (half the rate)"
        )
    parts = max(1, round((high - low) / sub_band_hz)) if sub_band_hz else 1
    cuts = np.linspace(low, high, parts + 1)
    return [_analytic(fir(rate_hz, a, b)) for a, b in pairwise(cuts)]


def _analytic(taps: np.ndarray) -> np.ndarray:
    """Return the kernel whose output's real part is the band and whose magnitude its envelope."""
    from scipy.signal import hilbert

    size = len(taps)
    # the transform of the band-pass dies out beyond it; far padding keeps it from wrapping round
    padded = np.pad(taps, 8 * size)
    return hilbert(padded)[7 * size : 10 * size]


def _power(
    part: np.ndarray,
    place: Place,
    kernels: list[list[np.ndarray]],
    unit: int,
    halo: int,
    kind: str,
    log: bool,
) -> np.ndarray:
    n_bins = place.rows // unit
    out = np.empty((n_bins, part.shape[1], len(kernels)), np.float32)
    for group in by_channels(part.shape[1]):
        for number, band in enumerate(kernels):
            total = np.zeros((out[:, group].shape[1], n_bins))
            for taps in band:
                half = len(taps) // 2
                # a shorter kernel needs less of what lies around the block
                begin = 0 if place.begins else halo - half
                stop = part.shape[0] - (0 if place.ends else halo - half)
                strength = np.abs(convolved(part[begin:stop, group], taps, place))
                strength = strength**2 if kind == "power" else strength
                bins = strength[:, : n_bins * unit].reshape(len(total), n_bins, unit).mean(axis=2)
                if log:
                    scale, floor = (10, FLOOR) if kind == "power" else (20, FLOOR**0.5)
                    bins = scale * np.log10(np.maximum(bins, floor))
                total += bins
            out[:, group, number] = (total / len(band)).T
    return out
