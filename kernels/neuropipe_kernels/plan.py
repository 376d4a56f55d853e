"""How the Triton chain kernels cut the time axis and scan over the pieces."""

from __future__ import annotations

import math
from typing import NamedTuple


class Plan(NamedTuple):
    """One cut of the time axis.

    Attributes
    ----------
    n_chunks : int
        Chunks of one sequence, the product of ``radices``.
    radices : tuple of int
        Run lengths of the scan over chunks, lowest level first.
    """

    n_chunks: int
    radices: tuple[int, ...]


# Bins below which a chunk is mostly overhead.
SHORTEST = 16
# Runs of the scan over chunks: long enough to keep the levels few, short enough to keep each
# quick, since a run is walked one chunk after another.
RADIX = 32


def plan(n_sequences: int, n_bins: int, target: int, radix: int = RADIX) -> Plan:
    """Choose chunks that fill the device without making the scan over them long.

    Parameters
    ----------
    n_sequences, n_bins : int
        Shape of the batch.
    target : int
        Chunks that fill the device, all sequences together.
    radix : int
        Run length of every level but the last, whose runs are up to twice as long.

    Returns
    -------
    Plan
    """
    n = max(1, min(target // n_sequences, n_bins // SHORTEST))
    if n_bins <= 4 * RADIX**2:
        # A short sequence: balance the steps inside a chunk and the steps over chunks.
        n = min(n, math.isqrt(n_bins))
    radices = []
    while n > 2 * radix:
        radices.append(radix)
        n //= radix
    return Plan(math.prod(radices) * n, (*radices, n))
