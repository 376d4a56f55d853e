"""A made-up run, small enough to check by hand: planted states, fits near them, made-up scores."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from neuropipe.results import SCORE_COLUMNS, RunResults

CATEGORIES = ["inhibitory", "none", "excitatory"]
BASELINES = ("homogeneous_rate", "poisson_glm", "gaussian_glm", "poisson_hmm")
BIN_S = 0.05


def _units(array: xr.DataArray, units: str) -> xr.DataArray:
    return array.assign_attrs(units=units)


def made_truth(rng, n_states: int, n_units: int, time: np.ndarray) -> xr.Dataset:
    shared = rng.choice([-1, 0, 1], size=(n_units, n_units), p=[0.15, 0.7, 0.15])
    flips = rng.random((n_states, n_units, n_units)) < 0.1
    drawn = rng.choice([-1, 0, 1], size=flips.shape, p=[0.15, 0.7, 0.15])
    adjacency = np.where(flips, drawn, shared)
    weight = adjacency * rng.uniform(0.4, 1.4, adjacency.shape)
    stay = 0.985 if n_states > 1 else 1.0
    transition = np.full((n_states, n_states), (1 - stay) / max(n_states - 1, 1))
    np.fill_diagonal(transition, stay)
    state = np.zeros(len(time), int)
    for t in range(1, len(time)):
        state[t] = rng.choice(n_states, p=transition[state[t - 1]])
    names = ("state", "unit", "source_unit")
    ids = np.arange(3, 3 + n_units)
    return xr.Dataset(
        {
            "weight": (names, weight, {"units": "1"}),
            "adjacency": (names, adjacency, {"units": "1"}),
            "transition": (("state", "next_state"), transition, {"units": "1"}),
            "bias": (("state", "unit"), rng.normal(size=(n_states, n_units)), {"units": "1"}),
            "state": (("time",), state, {"units": "1"}),
        },
        coords={"time": time, "unit": ids, "source_unit": ids},
    )


def made_recording(rng, time, n_units: int, *, full: bool, session: str) -> xr.DataTree:
    counts = rng.poisson(rng.uniform(0.05, 0.6, n_units), (len(time), n_units)).astype("int32")
    ids = np.arange(3, 3 + n_units)
    observed = np.ones(len(time), bool)
    nodes = {
        "/": xr.Dataset(attrs={"session": session, "dataset": "made", "subject": "m1"}),
        "counts": xr.Dataset(
            {"spike_count": (("time", "unit"), counts, {"units": "1", "bin_width_s": BIN_S})},
            coords={"time": ("time", time, {"units": "s"}), "unit": ids},
        ).chunk({"time": 1000}),
    }
    if full:
        observed[len(time) // 2 : len(time) // 2 + 100] = False
        nodes["counts"]["observed"] = ("time", observed, {"units": "1"})
        per_unit = [np.sort(rng.uniform(time[0], time[-1], n)) for n in counts.sum(axis=0)]
        index = np.repeat(np.arange(n_units), counts.sum(axis=0))
        nodes["spikes"] = xr.Dataset(
            {
                "spike_time": ("spike", np.concatenate(per_unit), {"units": "s"}),
                "unit_index": ("spike", index, {"units": "1"}),
            }
        )
        nodes["units"] = xr.Dataset({"unit": ("unit", ids, {"units": "1"})})
        start = np.arange(time[0], time[-1], 7.0)
        nodes["trials"] = xr.Dataset(
            {
                "start_time": ("trial", start, {"units": "s"}),
                "stop_time": ("trial", start + 4.0, {"units": "s"}),
            }
        )
        x = 40 + 30 * np.sin(time / 9)
        x[200:400] = np.nan
        nodes["behavior"] = xr.Dataset(
            {
                "position_x": ("time", x, {"units": "cm"}),
                "running_speed": ("time", np.abs(np.gradient(x, BIN_S)), {"units": "cm/s"}),
            },
            coords={"time": ("time", time, {"units": "s"})},
        )
    return xr.DataTree.from_dict(nodes)


def made_parameters(rng, truth, recording, *, n_basis: int, onehot: bool, order) -> xr.Dataset:
    truth = truth.drop_vars("state").isel(state=order, next_state=order)
    n_states, n_units = truth.sizes["state"], truth.sizes["unit"]
    ids = recording["counts"]["unit"].values
    shares = rng.dirichlet(np.full(n_basis, 20.0), truth["weight"].shape)
    spread = 0.12
    noise = rng.normal(0, spread, (*truth["weight"].shape, n_basis)) / np.sqrt(n_basis)
    weight = truth["weight"].values[..., None] * shares + noise
    names = ("state", "unit", "source_unit")
    lag = np.arange(1, 11)
    centers = np.linspace(0, np.log(10), n_basis)
    columns = np.exp(-((np.log(lag)[:, None] - centers) ** 2) * 3) if n_basis > 1 else None
    basis = np.exp(-lag)[:, None] if columns is None else columns
    counts = recording["counts"]["spike_count"].mean("time").values / BIN_S
    gain = np.random.default_rng(99).uniform(0.5, 1.5, (n_states, n_units))[order]
    rate = counts * gain * rng.uniform(0.95, 1.05, gain.shape)
    occupancy = rng.dirichlet(np.full(n_states, 30.0))
    out = xr.Dataset(
        {
            "weight": ((*names, "basis"), weight),
            "weight_se": ((*names, "basis"), np.full(weight.shape, spread / np.sqrt(n_basis))),
            "bias": (("state", "unit"), rng.normal(size=(n_states, n_units))),
            "transition": (("state", "next_state"), truth["transition"].values),
            "initial": ("state", np.full(n_states, 1 / n_states)),
            "basis_function": (("lag", "basis"), basis / basis.sum(axis=0)),
            "occupancy": ("state", occupancy),
            "mean_rate": (("state", "unit"), rate, {"units": "Hz"}),
        },
        coords={
            "state": np.arange(n_states),
            "unit": ids,
            "source_unit": ids,
            "lag_s": ("lag", lag * BIN_S, {"units": "s"}),
        },
        attrs={"family": "poisson", "link": "softplus", "bin_width_s": BIN_S, "n_states": n_states},
    )
    if onehot:
        score = truth["weight"].values[..., None] * np.array([-3.0, 0, 3.0]) + [0, 1.2, 0]
        chance = np.exp(score + rng.normal(0, 0.3, score.shape))
        chance /= chance.sum(axis=-1, keepdims=True)
        out["edge_probability"] = (*names, "category"), chance
        out["edge_prior"] = ("unit", "source_unit", "category"), chance.mean(axis=0)
        out = out.assign_coords(category=CATEGORIES)
    for name in out.data_vars:
        out[name].attrs.setdefault("units", "1")
    return out


def made_estimate(rng, truth, session_time, held_out, order) -> xr.Dataset:
    inverse = np.argsort(order)
    state = inverse[truth["state"].values[held_out]]
    n_states = truth.sizes["state"]
    logits = 4.0 * np.eye(n_states)[state] + rng.normal(0, 1, (len(state), n_states))
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    block = np.flatnonzero(held_out) // 400
    return xr.Dataset(
        {
            "state_probability": (("time", "state"), probability, {"units": "1"}),
            "state": (("time",), state, {"units": "1"}),
        },
        coords={
            "time": ("time", session_time[held_out], {"units": "s"}),
            "window": ("time", block),
        },
    )


def made_scores(rng, sessions, n_folds: int, model: str) -> pd.DataFrame:
    rows = []
    level = dict(zip((*BASELINES, model), (-3.0, -2.6, -2.55, -2.4, -2.2), strict=True))
    for session in sessions:
        for fold in range(n_folds):
            shift = rng.normal(0, 0.1)
            for estimator, mean in level.items():
                value = mean + shift + rng.normal(0, 0.03)
                for metric, scale, units in (
                    ("log_likelihood_per_bin", 1.0, "nats/bin"),
                    ("bits_per_spike", 0.4, "bits/spike"),
                ):
                    shown = value if scale == 1 else scale * (value + 3.0)
                    rows.append(("made", session, "r1", estimator, fold, 7, metric, shown, units))
    return pd.DataFrame(rows, columns=list(SCORE_COLUMNS))


def made_history(rng, model: str, fold: int, n_restarts: int) -> xr.Dataset:
    step = np.arange(40)
    start = -5000 - rng.uniform(0, 300, n_restarts)
    objective = (
        -4000 - 5 * np.arange(n_restarts)[:, None] + start[:, None] * 0.3 * np.exp(-step / 6)
    )
    data = (("restart", "step"), objective) if n_restarts > 1 else ("step", objective[0])
    return xr.Dataset(
        {"objective": (*data, {"units": "nats"}), "seconds": ("step", step * 0.1, {"units": "s"})},
        attrs={"converged": int(fold != 1)},
    )


def _stretches(n_bins: int, n_folds: int, fold: int) -> list[list[float]]:
    """Return the held-out windows of a fold: every n_folds-th stretch of 400 bins."""
    first = np.arange(n_bins // 400)
    own = first[first % n_folds == fold]
    return [[400 * i * BIN_S, 400 * (i + 1) * BIN_S] for i in own]


def made_run(
    *,
    n_states: int = 3,
    n_units: int = 12,
    n_folds: int = 3,
    n_sessions: int = 2,
    n_basis: int = 1,
    n_restarts: int = 1,
    n_bins: int = 6000,
    truth: bool = True,
    full: bool = True,
    onehot: bool = True,
    tried: bool = False,
    seed: int = 0,
) -> RunResults:
    """Return a run of which every array is known; `full=False` keeps counts only."""
    rng = np.random.default_rng(seed)
    model = "hmm_glm"
    time = (np.arange(n_bins) + 0.5) * BIN_S
    sessions = [f"session-{i + 1}" for i in range(n_sessions)]
    planted = made_truth(rng, n_states, n_units, time)
    truths = dict.fromkeys(sessions, planted)
    recordings = {s: made_recording(rng, time, n_units, full=full, session=s) for s in sessions}
    orders = {fold: np.roll(np.arange(n_states), fold) for fold in range(n_folds)}
    parameters, history, estimates = {}, {}, {}
    for fold, order in orders.items():
        parameters[model, fold] = made_parameters(
            rng, planted, recordings[sessions[0]], n_basis=n_basis, onehot=onehot, order=order
        )
        if tried:
            counts = np.arange(1, n_states + 3)
            curve = -17 - 0.1 * (counts - n_states) ** 2 + rng.normal(0, 0.01, len(counts))
            parameters[model, fold] = parameters[model, fold].assign(
                state_number_log_likelihood=(
                    ("inner_fold", "n_states_tried"),
                    np.stack([curve - 0.01, curve + 0.01]),
                    {"units": "nats/bin"},
                )
            )
            parameters[model, fold] = parameters[model, fold].assign_coords(n_states_tried=counts)
        history[model, fold] = made_history(rng, model, fold, n_restarts)
        for name in BASELINES:
            ids = recordings[sessions[0]]["counts"]["unit"].values
            parameters[name, fold] = xr.Dataset(
                {"rate": ("unit", np.full(n_units, 5.0), {"units": "Hz"})}, coords={"unit": ids}
            )
            history[name, fold] = made_history(rng, name, 0, 1).isel(step=[-1])
        held_out = (np.arange(n_bins) // 400) % n_folds == fold
        held_out &= np.arange(n_bins) % 400 >= 20
        for s in sessions:
            estimates[s, fold] = made_estimate(rng, truths[s], time, held_out, order)
    return RunResults(
        run="r1",
        model=model,
        dataset="made",
        seed=7,
        recordings=recordings,
        estimates=estimates,
        parameters=parameters,
        history=history,
        scores=made_scores(rng, sessions, n_folds, model),
        splits={
            "by": "block",
            "seed": 7,
            "buffer_s": 1.0,
            "folds": [
                {"train": {}, "test": {s: _stretches(n_bins, n_folds, fold) for s in sessions}}
                for fold in range(n_folds)
            ],
        },
        truth=truths if truth else {},
        settings={"n_states": n_states},
    )
