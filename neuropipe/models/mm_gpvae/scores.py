"""Held-out scores: what each modality, and each unit, is worth to the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from neuropipe.batching.paired import Paired
from neuropipe.metrics import mean_r2, rate_bits_per_spike
from neuropipe.models.mm_gpvae.batches import Piece, Scaling
from neuropipe.models.mm_gpvae.calibrate import Line, crossed
from neuropipe.models.mm_gpvae.model import MMGPVAENetwork
from neuropipe.models.mm_gpvae.predict import expected, posterior


def gather(values: Tensor, pieces: Sequence[Piece]) -> np.ndarray:
    """Return the wanted bins of padded pieces (piece, bin, ...), laid end to end."""
    array = values.cpu().numpy()
    return np.concatenate([array[row, p.first : p.last] for row, p in enumerate(pieces)])


def in_own_units(prediction: np.ndarray, name: str, scaling: Scaling) -> np.ndarray:
    """Return predictions (bin, channel) of the model in the units of the data."""
    if name == "behavior":
        return prediction * scaling.scale + scaling.shift
    if scaling.counted:
        return prediction
    return prediction * scaling.neural_sd + scaling.neural_mean


def neural_score(found: np.ndarray, data: np.ndarray, scaling: Scaling) -> float:
    """Return bits per spike over each unit's training rate; for traces the mean R2.

    Parameters
    ----------
    found, data : (bin, unit)
        Predicted and observed, counts a bin or traces; NaN where missing.
    """
    if scaling.counted:
        return rate_bits_per_spike(found, data, scaling.neural_mean)
    return mean_r2(found, data, scaling.neural_mean)


def all_scores(
    net: MMGPVAENetwork, batch: Mapping[str, Tensor], pieces: Sequence[Piece], windows: Paired,
    scaling: Scaling, lines: Mapping[str, Line],
) -> dict[str, float]:  # fmt: skip
    """Return the scores of held-out windows.

    Parameters
    ----------
    net : MMGPVAENetwork
    batch : mapping
        The windows' pieces, as `batches.tensors` makes them.
    pieces : sequence of Piece
    windows : Paired
        With the model's units.
    scaling : Scaling
    lines : mapping
        Corrections of predictions, by the names of `crossed`; a prediction without stays as it is.
    """
    counts = np.concatenate(windows.neural)
    signals = np.concatenate(windows.behavior)
    bits = "bits_per_spike" if scaling.counted else "r2"
    told = {
        name: gather(lines[name](value) if name in lines else value, pieces)
        for name, value in crossed(net, batch).items()
    }
    out = {}
    if net.neural is not None:
        found = told.get("co_smoothing")  # none of a single unit, which has no others
        out[f"co_smoothing_{bits}"] = (
            float("nan")
            if found is None
            else neural_score(in_own_units(found, "neural", scaling), counts, scaling)
        )
    if "neural_from_behavior" in told:
        found = in_own_units(told["behavior_from_neural"], "behavior", scaling)
        out["behavior_from_neural_r2"] = mean_r2(found, signals, scaling.behavior_mean)
        found = in_own_units(told["neural_from_behavior"], "neural", scaling)
        out[f"neural_from_behavior_{bits}"] = neural_score(found, counts, scaling)
    if net.behavior is not None:
        both = gather(expected(net, posterior(net, batch), ("behavior",))["behavior"], pieces)
        found = in_own_units(both, "behavior", scaling)
        out["behavior_r2"] = mean_r2(found, signals, scaling.behavior_mean)
    return out
