"""How well planted latents were found again."""

from __future__ import annotations

import numpy as np
import pandas as pd

from neuropipe.latents import halves, latent_fits, latent_names, planted_latents, recovered_r2
from neuropipe.results import RunResults

COLUMNS = (
    "session",
    "fold",
    "planted",
    "kind",
    "span_r2",
    "single_r2",
    "latent",
    "same_kind",
    "length_scale_s",
    "planted_length_scale_s",
)


def table(results: RunResults) -> pd.DataFrame:
    """Recovery of planted latents in held-out windows, in simulated sessions only: R2 from all
    fitted latents together (span), and from the one that tells it best (single), with that
    latent, whether it is of the planted kind, and both length scales. The affine map from fitted
    to planted latents is fitted in every other held-out window and judged in the rest, both ways
    round, so that no bin helps to judge itself; a single window is halved.

    Parameters
    ----------
    results : RunResults
        `estimates` with ``latent (time, latent)``; `truth` with ``latent (time, latent)``, coord
        ``kind (latent)``, and perhaps ``length_scale (latent)``.
    """
    rows = []
    for fold, parameters in latent_fits(results).items():
        names = latent_names(parameters)
        for session in results.recordings:
            estimate = results.estimates.get((session, fold))
            if estimate is None or "latent" not in estimate or not estimate.sizes["time"]:
                continue
            found = planted_latents(results, session, estimate["time"].values)
            if found is None:
                continue
            planted, kinds = found
            latent = estimate["latent"].transpose("time", "latent").values
            span, single, match = recovered_r2(latent, planted, halves(estimate["window"].values))
            truth = results.truth[session]
            length = np.full(len(kinds), np.nan)
            if "length_scale" in truth:
                length = truth["length_scale"].values
            for k, kind in enumerate(kinds):
                rows.append(
                    {
                        "session": session,
                        "fold": fold,
                        "planted": k,
                        "kind": kind,
                        "span_r2": span[k],
                        "single_r2": single[k],
                        "latent": names[match[k]],
                        "same_kind": names[match[k]].rsplit(" ", 1)[0] == kind,
                        "length_scale_s": float(parameters["length_scale"].values[match[k]]),
                        "planted_length_scale_s": float(length[k]),
                    }
                )
    return pd.DataFrame(rows, columns=list(COLUMNS))
