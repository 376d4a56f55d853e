"""Batches of round sizes, of which a card meets the same few again and again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

LEAST = 16  # places of the shortest row, and tokens of the smallest batch


def padded(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a packed batch with rows and tokens behind the last ones, up to round numbers.

    Parameters
    ----------
    batch : mapping
        As `batches.Packed`.

    Returns
    -------
    dict
        The batch, and ``counted (token,)``: True for the tokens that it had. ``frame_seen`` is
        left out where it is true everywhere, since attention without a mask is faster.

    Notes
    -----
    Tokens that are added all lie in the last place of the first row, which no token that counts
    has, sees or is followed by; of the loss they have no part. So every loss and gradient is what
    it was, up to rounding. A size is at most a quarter (rows), or an eighth (tokens), above what is
    needed, from 64 and 128 on.
    """
    out = dict(batch)
    spike = np.zeros(len(batch["unit"]), dtype=bool)
    spike[batch["spike"]] = True
    out["counted"] = np.ones_like(spike)
    for name, tokens in (
        ("", ("unit", "bin", "last_unit", "place", "size", "target_bin", "target_unit", "counted")),
        ("past_", ("past_unit", "past_lag", "past_place")),
    ):
        mask, flat = batch[f"{name}mask"], batch[f"{name}flat"]
        # at least one place and one token more than there are
        length = round_number(mask.shape[1] + 1, 4)
        added = round_number(len(flat) + 1, 8) - len(flat)
        row, place = np.divmod(flat, mask.shape[1])
        last = np.full(added, length - 1)
        out[f"{name}mask"] = np.pad(mask, ((0, 0), (0, length - mask.shape[1])))
        out[f"{name}flat"] = np.concatenate([row * length + place, last])
        for token in tokens:
            out[token] = np.pad(out[token], (0, added))
        if not name:
            # an end gives no unit; of what is added each is followed by one, in name
            out["spike"] = np.flatnonzero(np.pad(spike, (0, added), constant_values=True))
    if "frame_seen" in out and out["frame_seen"].all():
        del out["frame_seen"]
    return out


def round_number(least: int, parts: int) -> int:
    """Return the next multiple of a power of two over `parts`, and of `LEAST`."""
    step = max(2 ** (least.bit_length() - 1) // parts, LEAST)
    return -(-least // step) * step
