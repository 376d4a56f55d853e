"""Held-out scores: what each modality, and each unit, is worth to the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from neuropipe.batching.held_units import groups_of
from neuropipe.batching.paired import Paired
from neuropipe.metrics import mean_r2, rate_bits_per_spike
from neuropipe.models.mm_gpvae.batches import Piece, Scaling
from neuropipe.models.mm_gpvae.model import MMGPVAENetwork
from neuropipe.models.mm_gpvae.predict import expected, posterior, withheld


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
    scaling: Scaling,
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
    """
    counts = np.concatenate(windows.neural)
    signals = np.concatenate(windows.behavior)
    bits = "bits_per_spike" if scaling.counted else "r2"
    has = [name for name, _ in net.modalities()]

    def predicted(name: str, neural: bool | np.ndarray = True, behavior: bool = True) -> np.ndarray:
        seen = withheld(batch, neural=neural, behavior=behavior)
        values = expected(net, posterior(net, seen), (name,))[name]
        return in_own_units(gather(values, pieces), name, scaling)

    out = {}
    if "neural" in has:
        found = np.zeros_like(counts)
        groups = groups_of(counts.shape[1])
        for held in groups:
            found[:, held] = predicted("neural", neural=~held, behavior=False)[:, held]
        out[f"co_smoothing_{bits}"] = (
            neural_score(found, counts, scaling) if groups else float("nan")
        )
    if len(has) == 2:
        by_neural = predicted("behavior", behavior=False)
        out["behavior_from_neural_r2"] = mean_r2(by_neural, signals, scaling.behavior_mean)
        by_behavior = predicted("neural", neural=False)
        out[f"neural_from_behavior_{bits}"] = neural_score(by_behavior, counts, scaling)
    if "behavior" in has:
        both = predicted("behavior")
        out["behavior_r2"] = mean_r2(both, signals, scaling.behavior_mean)
    return out
