"""Shapes, tolerances and inputs of viterbi: one list for tests and benchmark."""

from __future__ import annotations

from typing import Any

import torch

from neuropipe_kernels.hmm_fb.cases import Case, make

GRADIENTS = ()
CASES = (
    Case("one bin", 1, 1, 3),
    Case("fewer bins than chunks", 3, 5, 2, ragged=True),
    Case("odd sizes", 2, 67, 5, ragged=True),
    Case("own tables", 3, 23, 4, own_tables=True, ragged=True),
    Case("float64", 2, 37, 4, dtype=torch.float64, tolerance=1e-13),
    Case("peaked", 1, 63, 3, spread=300.0),
    Case("eight states", 2, 17, 8, ragged=True),
    Case("beyond the kernels", 1, 20, 9),
)
BENCH = (
    Case("large", 1, 1 << 22, 4),
    Case("large", 1, 1 << 20, 8),
    Case("paper", 54, 750, 4),
)
SMOKE = (Case("smoke", 2, 200, 4),)

__all__ = ["BENCH", "CASES", "GRADIENTS", "SMOKE", "errors", "make", "path_score", "work"]


def path_score(state: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
    """Joint log probability of a given path, (sequence,) float64; -1 ends a path."""
    ll = inputs["log_likelihood"].double()
    n_sequences, _, n_states = ll.shape
    inside = state >= 0
    z = state.clamp(min=0)
    score = (ll.gather(2, z[..., None])[..., 0] * inside).sum(1)
    log_pi = inputs["initial"].double().log().expand(n_sequences, n_states)
    log_P = inputs["transition"].double().log().expand(n_sequences, n_states, n_states)
    row = torch.arange(n_sequences, device=z.device)[:, None]
    moves = log_P[row, z[:, :-1], z[:, 1:]]
    return score + log_pi[row[:, 0], z[:, 0]] + (moves * inside[:, 1:]).sum(1)


def errors(got: Any, want: Any, inputs: dict[str, Any]) -> dict[str, float]:
    """Relative gap of the path's own score and of the reported one; NaN if a path is no path."""
    valid = (
        torch.equal(got.state < 0, want.state < 0)
        and int(got.state.max()) < inputs["log_likelihood"].shape[2]
    )
    if not valid:
        return {"state": float("nan"), "log_score": float("nan")}
    best = want.log_score
    gap = (best - path_score(got.state, inputs)).abs() / best.abs()
    return {
        "state": float(gap.max()),
        "log_score": float(((got.log_score - best).abs() / best.abs()).max()),
    }


def work(case: Case) -> dict[str, float]:
    """Bytes that must move (the path as 8-byte integers) and float32 operations."""
    bins = case.n_sequences * case.n_bins
    return {
        "bytes": (4.0 * case.n_states + 8) * bins,
        "fp32": 2.0 * bins * case.n_states**2,
    }
