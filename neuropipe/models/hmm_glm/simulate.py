"""Sessions drawn from the HMM-GLM itself, as the paper draws them, with their truth."""

from __future__ import annotations

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field

from neuropipe.batching.history import filter_history, history_basis
from neuropipe.schema import SCHEMA_VERSION, Recording


class Plan(BaseModel):
    """What to draw; the defaults are the paper's synthetic study, fewer sequences."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_states: int = Field(5, ge=1)
    n_units: int = Field(20, ge=1)
    n_bins: int = Field(2000, ge=2, description="Bins of a sequence.")
    n_sequences: int = Field(12, ge=1, description="Sequences; the paper has 50.")
    bin_width_s: float = Field(0.02, gt=0)
    sparsity: float = Field(0.2, ge=0, le=1, description="Share of edges that are present.")
    excitatory: float = Field(0.5, ge=0, le=1, description="Share of them that excite.")
    stay: float = Field(0.98, gt=0, lt=1)
    history_bins: int = Field(5, ge=1)
    decay_per_bin: float = Field(1.0, gt=0)
    gap_bins: int = Field(50, ge=0, description="Silence between sequences.")


def draw(plan: Plan, seed: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Draw counts, states and parameters.

    Parameters
    ----------
    plan : Plan
        Sizes.
    seed : int
        Of all draws.

    Returns
    -------
    counts : (sequence, bin, unit)
        Poisson counts of rate sigmoid(b + W_z h), eq. of the paper.
    state : (sequence, bin)
        Hidden states.
    truth : dict
        ``weight`` and ``adjacency`` (state, unit, source_unit), ``bias`` (unit,), ``transition``
        (state, state).
    """
    rng = np.random.default_rng(seed)
    n_states, n_units = plan.n_states, plan.n_units
    share = plan.sparsity
    concentration = 2 * np.array(
        [share * (1 - plan.excitatory), 1 - share, share * plan.excitatory]
    )
    prior = rng.dirichlet(concentration, size=(n_units, n_units))
    uniform = rng.random((n_states, n_units, n_units, 1))
    adjacency = (uniform > prior.cumsum(-1)[None]).sum(-1) - 1
    weight = adjacency * np.log1p(3 * rng.random((n_states, n_units, n_units)))
    bias = rng.uniform(-0.05, 0.05, n_units)
    transition = np.full((n_states, n_states), (1 - plan.stay) / max(n_states - 1, 1))
    np.fill_diagonal(transition, plan.stay if n_states > 1 else 1.0)
    lag = history_basis("exponential", plan.history_bins, 1, plan.decay_per_bin)[:, 0]
    counts = np.zeros((plan.n_sequences, plan.n_bins, n_units))
    state = np.zeros((plan.n_sequences, plan.n_bins), dtype=int)
    state[:, 0] = rng.integers(n_states, size=plan.n_sequences)
    cumulative = transition.cumsum(1)
    for t in range(plan.n_bins):
        if t:
            fresh = rng.random(plan.n_sequences)[:, None]
            state[:, t] = np.minimum((fresh > cumulative[state[:, t - 1]]).sum(1), n_states - 1)
        past = counts[:, max(0, t - len(lag)) : t][:, ::-1]
        history = np.einsum("l,rln->rn", lag[: past.shape[1]], past)
        eta = bias + np.einsum("rij,rj->ri", weight[state[:, t]], history)
        counts[:, t] = rng.poisson(1 / (1 + np.exp(-eta)))
    truth = {"weight": weight, "adjacency": adjacency, "bias": bias, "transition": transition}
    return counts, state, truth


def oracle(counts: np.ndarray, truth: dict[str, np.ndarray], plan: Plan) -> np.ndarray:
    """Return the log-likelihood of each sequence under the planted parameters, (sequence,) nats."""
    import torch
    from neuropipe_kernels import glm_ll, hmm_fb

    basis = history_basis("exponential", plan.history_bins, 1, plan.decay_per_bin)
    weight = torch.as_tensor(truth["weight"])
    bias = torch.as_tensor(truth["bias"]).expand(len(weight), -1)
    emission = torch.stack(
        [
            glm_ll(
                torch.as_tensor(filter_history(sequence, basis)), weight, bias,
                torch.as_tensor(sequence), link="sigmoid",
            )
            for sequence in counts
        ]
    )  # fmt: skip
    initial = torch.full((len(weight),), 1 / len(weight), dtype=torch.float64)
    return hmm_fb(emission, torch.as_tensor(truth["transition"]), initial).log_evidence.numpy()


def simulate(plan: Plan, seed: int) -> tuple[Recording, xr.Dataset]:
    """Draw one session of spike times with a trial per sequence.

    Parameters
    ----------
    plan : Plan
        Sizes.
    seed : int
        Of all draws.

    Returns
    -------
    recording : DataTree
        Nodes `spikes`, `units`, `trials`. Spikes lie evenly inside their bins, so that binning at
        `bin_width_s` gives the drawn counts back.
    truth : Dataset
        Planted parameters and ``state (time)``.
    """
    counts, state, planted = draw(plan, seed)
    n_sequences, n_bins, n_units = counts.shape
    width = plan.bin_width_s
    first_bin = np.arange(n_sequences) * (n_bins + plan.gap_bins)
    bins = first_bin[:, None] + np.arange(n_bins)
    sequence, position, unit = np.nonzero(counts)
    number = counts[sequence, position, unit].astype(int)
    share = [(np.arange(n) + 0.5) / n for n in number]
    within = np.concatenate(share) if share else np.empty(0)
    spike_time = (np.repeat(bins[sequence, position], number) + within) * width
    unit_index = np.repeat(unit, number)
    order = np.lexsort([spike_time, unit_index])
    nodes = {
        "/": xr.Dataset(
            attrs={
                "dataset": "planted_hmm_glm",
                "subject": "planted",
                "session": f"planted-{seed}",
                "source": "simulated",
                "sha256": "",
                "history": "[]",
                "schema_version": SCHEMA_VERSION,
            }
        ),
        "/spikes": xr.Dataset(
            {
                "spike_time": ("spike", spike_time[order], {"units": "s"}),
                "unit_index": ("spike", unit_index[order].astype(np.int32), {"units": "1"}),
            }
        ),
        "/units": xr.Dataset(coords={"unit": ("unit", np.arange(n_units), {"units": "1"})}),
        "/trials": xr.Dataset(
            {
                "start_time": ("trial", first_bin * width, {"units": "s"}),
                "stop_time": ("trial", (first_bin + n_bins) * width, {"units": "s"}),
            }
        ),
    }
    dims = ("state", "unit", "source_unit")
    truth = xr.Dataset(
        {
            "weight": (dims, planted["weight"], {"units": "1"}),
            "adjacency": (dims, planted["adjacency"], {"units": "1"}),
            "bias": ("unit", planted["bias"], {"units": "1"}),
            "transition": (("state", "next_state"), planted["transition"], {"units": "1"}),
            "state": ("time", state.ravel(), {"units": "1"}),
            "oracle_log_likelihood": ("trial", oracle(counts, planted, plan), {"units": "nats"}),
            "trial_start_time": ("trial", first_bin * width, {"units": "s"}),
            "trial_bins": ("trial", np.full(n_sequences, n_bins), {"units": "1"}),
        },
        {
            "time": ("time", (bins.ravel() + 0.5) * width, {"units": "s"}),
            "unit": ("unit", np.arange(n_units), {"units": "1"}),
            "source_unit": ("source_unit", np.arange(n_units), {"units": "1"}),
        },
        {"seed": seed, **plan.model_dump()},
    )
    return xr.DataTree.from_dict(nodes), truth
