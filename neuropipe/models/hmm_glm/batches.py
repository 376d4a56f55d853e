"""The HMM-GLM's door: stretches of a recording in, one batch of tensors out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from neuropipe.batching.history import filter_history, history_basis
from neuropipe.batching.sequences import Scaling, Source, Stretch
from neuropipe.errors import DataError
from neuropipe.models.hmm_glm.config import Config
from neuropipe.models.hmm_glm.model import Batch


def source_of(config: Config) -> Source:
    """Return what a configuration says of the data."""
    counted = config.family != "gaussian" and config.observations != "trials"
    return Source(
        config.observations,
        config.response,
        config.covariates,
        config.missing_covariates,
        config.min_spikes if counted else 0,
    )


def basis_of(config: Config) -> np.ndarray:
    """Return the history basis (lag, basis), most recent bin first; no columns without history."""
    if config.history_bins == 0 or config.observations == "trials":
        return np.zeros((0, 0))
    n_basis = config.history_bins if config.basis == "lags" else config.n_basis
    return history_basis(config.basis, config.history_bins, n_basis, config.decay_per_bin)


def _check_family(part: Stretch, config: Config) -> None:
    """Refuse observations that the family gives no chance to: their likelihood means nothing."""
    if config.family == "gaussian":
        return
    seen = part.counts[part.observed]
    possible = (seen == 0) | (seen == 1) if config.family == "bernoulli" else seen >= 0
    if not possible.all():
        what = "0 or 1" if config.family == "bernoulli" else "0 or more"
        raise DataError(
            f"hmm_glm: session {part.session}: {config.observations} holds "
            f"{seen[~possible][0]:g}, expected {what} for family {config.family}; recode it, or "
            "take another family (gaussian for traces, poisson for counts)"
        )


def make_batch(
    parts: Sequence[Stretch],
    scaling: Scaling,
    config: Config,
    device: torch.device,
    dtype: torch.dtype,
) -> Batch:
    """Filter histories, scale covariates and lay all stretches end to end.

    Parameters
    ----------
    parts : sequence of Stretch
        Of the units in `scaling`, in their order.
    scaling : Scaling
        Learned from the training data.
    config : Config
        Names the history basis.
    device, dtype
        Of the tensors.

    Raises
    ------
    DataError
        If an observation is none that the family knows.

    Notes
    -----
    A history starts silent at the start of its stretch, so no bin of another stretch enters a
    feature. Memory: bins * (units * basis functions + covariates + units) numbers.
    """
    basis = basis_of(config)
    features, counts = [], []
    for part in parts:
        _check_family(part, config)
        history = filter_history(part.counts, basis) if basis.size else part.counts[:, :0]
        scaled = (part.covariates - scaling.covariate_mean) / scaling.covariate_sd
        covariates = np.where(part.observed[:, None], scaled, 0.0)
        features.append(np.concatenate([history, covariates], 1))
        counts.append(part.counts)
    return Batch(
        torch.as_tensor(np.concatenate(features), dtype=dtype, device=device),
        torch.as_tensor(np.concatenate(counts), dtype=dtype, device=device),
        torch.as_tensor(np.concatenate([p.observed for p in parts]), device=device),
        torch.as_tensor([len(p.time) for p in parts], dtype=torch.int64, device=device),
    )
