"""A made-up run of the Neuroformer: planted spikes, estimates near them, made-up scores."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from neuropipe.models.neuroformer.simulate import Plan, simulate
from neuropipe.preprocess import apply_steps
from neuropipe.results import SCORE_COLUMNS, RunResults

MODEL = "neuroformer"
SPIKE_RUNS = {
    "full": {},
    "nothing drawn nor decoded": {"generated": False, "decoded": False, "truth": False},
    "one unit": {"n_units": 1, "truth": False},
    "no connectivity": {"connected": False},
    "p of refits": {"refitted": True},
    "few labels": {"few_shot": True},
}
ONE = {"units": "1"}


def made_spikes_run(
    *,
    n_units: int = 12,
    generated: bool = True,
    decoded: bool = True,
    connected: bool = True,
    refitted: bool = False,
    truth: bool = True,
    few_shot: bool = False,
) -> RunResults:
    """Return a run whose rates are the planted ones, with windows of five bins."""
    rng = np.random.default_rng(0)
    hubs = {"n_hubs": 2, "fan_out": 3} if n_units >= 8 else {"n_hubs": 0}
    n_planted = max(n_units, 2)
    drawn, planted = simulate(Plan(n_units=n_planted, duration_s=20, **hubs), 0)
    recording = apply_steps(
        drawn,
        [{"step": "bin_spikes", "bin_width_s": 0.01, "start_s": 0.0, "stop_s": 20.0},
         {"step": "resample_behavior", "signals": ["speed"]}],
    )  # fmt: skip
    recording["counts"] = xr.DataTree(recording["counts"].to_dataset().isel(unit=slice(n_units)))
    ids = np.arange(n_units)
    pairs = {"unit": ids, "source_unit": ids}
    estimates, parameters, history, rows = {}, {}, {}, []
    speed = recording["behavior"]["speed"].values
    for fold in range(2):
        part = slice(1000 * fold, 1000 * fold + 1000)
        rate = planted["rate"].values[part, :n_units]
        out = {"predicted_rate": (("time", "unit"), rate, {"units": "Hz"})}
        if generated:
            count = rng.poisson(rate * 0.01)
            out["generated_rate"] = (("time", "unit"), rate, {"units": "Hz"})
            out["generated_count"] = (("time", "unit"), count.astype(np.int32), ONE)
        time = recording["counts"]["time"].values[part]
        coords = {"time": ("time", time, {"units": "s"}), "unit": ids}
        if decoded:
            value = speed[part].reshape(-1, 5).mean(1).repeat(5) + 0.1
            out["behavior"] = (("time", "channel"), value[:, None], ONE)
            coords["channel"] = np.array(["speed"], dtype=object)
        estimates["a", fold] = xr.Dataset(out, coords, {"window_bins": 5})
        fit = {"rate": ("unit", rate.mean(0), {"units": "Hz"})}
        if connected:
            weight = planted["weight"].values[:n_units, :n_units]
            matrix = weight + rng.normal(0, 0.1, weight.shape)
            dims = ("unit", "source_unit")
            fit["connectivity"] = (dims, matrix, ONE)
            fit["connectivity_z"] = (dims, matrix / 0.1, ONE)
            if refitted:
                fit["connectivity_p"] = (dims, np.where(weight > 0, 0.001, 0.5), ONE)
            lagged = {"connectivity": (dims, rng.normal(size=weight.shape), ONE)}
            parameters["lagged_correlation", fold] = xr.Dataset(lagged, pairs)
            basis = np.stack([weight / 2, weight / 2], -1)
            glm = {"weight": ((*dims, "basis"), basis, ONE)}
            parameters["poisson_glm", fold] = xr.Dataset(glm, pairs)
        if few_shot:
            dims = ("start", "label_share")
            r = np.array([[0.6, 0.8, 0.9], [0.4, 0.7, 0.9]]) + 0.02 * fold
            fit["few_shot_r"] = (dims, r, ONE)
            fit["few_shot_null_r"] = (dims, np.full((2, 3), 0.1), ONE)
        parameters[MODEL, fold] = xr.Dataset(fit, pairs, {"n_parameters": 1234})
        if few_shot:
            parameters[MODEL, fold] = parameters[MODEL, fold].assign_coords(
                start=["pretrained", "from scratch"], label_share=[0.01, 0.1, 1.0]
            )
        course = 4 * np.exp(-np.arange(6) / 2) + 3
        history[MODEL, fold] = xr.Dataset(
            {"objective": ("step", course, {"units": "nats/token"}),
             "validation": ("step", course + 0.2, {"units": "nats/token"})},
            attrs={"converged": 0, "best_step": 4, "seconds": 12.5, "tokens_per_epoch": 5000},
        )  # fmt: skip
        for name, r in ((MODEL, 0.9), ("ridge_decoder", 0.8)) if decoded else ():
            for metric, value in (("decoding_r", r), ("decoding_null_r", 0.1),
                                  ("decoding_p", 0.01), ("decoding_r2", r * r)):  # fmt: skip
                rows.append(("made", "a", "r1", name, fold, 7, metric, value, "1"))
        rows.append(("made", "a", "r1", MODEL, fold, 7, "bits_per_spike", 0.5, "bits/spike"))
    return RunResults(
        run="r1", model=MODEL, dataset="made", seed=7, recordings={"a": recording},
        estimates=estimates, parameters=parameters, history=history,
        scores=pd.DataFrame(rows, columns=list(SCORE_COLUMNS)),
        splits={"by": "block", "seed": 7, "buffer_s": 0.2, "folds": []},
        truth={"a": planted} if truth else {}, settings={"parameters": {}},
    )  # fmt: skip
