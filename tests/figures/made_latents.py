"""A made-up run of the MM-GPVAE: planted latents, estimates near them, known by construction."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from scipy.ndimage import gaussian_filter1d

from neuropipe.results import SCORE_COLUMNS, RunResults

MODEL = "mm_gpvae"
WIDTH_S = 0.02
ONE, NONE = {"units": "1"}, {"units": ""}
SCALES = {"shared": 10.0, "neural": 18.0, "behavior": 6.0}  # bins
SCORES = (
    ("co_smoothing_bits_per_spike", "bits/spike", 0.34, 0.33),
    ("behavior_from_neural_r2", "1", 0.42, 0.40),
    ("neural_from_behavior_bits_per_spike", "bits/spike", 0.14, 0.13),
    ("behavior_r2", "1", 0.95, np.nan),
)


def text(values) -> np.ndarray:
    return np.array(list(values), dtype=object)


def made_truth(rng, kinds: list[str], time: np.ndarray) -> xr.Dataset:
    latent = np.stack(
        [gaussian_filter1d(rng.normal(size=len(time)), SCALES[k] / np.sqrt(2)) for k in kinds], 1
    )
    latent /= latent.std(0)
    length = [SCALES[k] * WIDTH_S for k in kinds]
    return xr.Dataset(
        {"latent": (("time", "latent"), latent, ONE),
         "length_scale": ("latent", length, {"units": "s"})},
        {"time": ("time", time, {"units": "s"}), "kind": ("latent", text(kinds), NONE)},
    )  # fmt: skip


def made_session(rng, truth, n_units: int, n_channels: int, traces: bool, session: str):
    kinds = truth["kind"].values.astype(str)
    latent, time = truth["latent"].values, truth["time"].values
    to_units = rng.normal(0, 0.6, (n_units, len(kinds))) * (kinds != "behavior")
    to_channels = rng.normal(0, 8, (n_channels, len(kinds))) * (kinds != "neural")
    rate = np.exp(latent @ to_units.T + np.log(rng.uniform(0.2, 0.8, n_units)))
    behavior = latent @ to_channels.T + 40
    ids = np.arange(5, 5 + n_units)
    nodes = {"/": xr.Dataset(attrs={"session": session, "subject": "m1"})}
    clock = {"time": ("time", time, {"units": "s"})}
    if traces:
        values = (rate + rng.normal(0, 0.2, rate.shape)).astype("float32")
        nodes["/calcium/cells"] = xr.Dataset(
            {"dff": (("time", "roi"), values, ONE)}, {**clock, "roi": ids}
        )
    else:
        counts = (("time", "unit"), rng.poisson(rate), {**ONE, "bin_width_s": WIDTH_S})
        observed = np.ones(len(time), bool)
        observed[20:24] = False
        nodes["/counts"] = xr.Dataset(
            {"spike_count": counts, "observed": ("time", observed, ONE)}, {**clock, "unit": ids}
        )
    if n_channels:
        signal = behavior + rng.normal(0, 2, behavior.shape)
        signal[5:9, 0] = np.nan
        dims = ("time", "axis")
        nodes["/behavior"] = xr.Dataset({"limb": (dims, signal, {"units": "mm"})}, clock)
    return xr.DataTree.from_dict(nodes), rate, behavior


def made_estimate(rng, truth, kept, window, rate, behavior, traces: bool) -> xr.Dataset:
    latent = truth["latent"].values[kept]
    kinds = truth["kind"].values
    sd = np.full(latent.shape, 0.2)
    name, scale, units = ("trace", 1.0, "1") if traces else ("rate", 1 / WIDTH_S, "Hz")
    out = xr.Dataset(
        {
            # signs and scales of latents mean nothing
            "latent": (("time", "latent"), -0.9 * latent + rng.normal(0, 0.15, latent.shape), ONE),
            "latent_sd": (("time", "latent"), sd, ONE),
            name: (
                ("time", "unit"), scale * rate[kept] * rng.uniform(0.9, 1.1, rate[kept].shape),
                {"units": units},
            ),
        },
        {
            "time": ("time", truth["time"].values[kept], {"units": "s"}),
            "window": ("time", window[kept], ONE),
            "kind": ("latent", kinds, NONE),
            "unit": ("unit", text(str(u) for u in range(5, 5 + rate.shape[1])), NONE),
        },
    )  # fmt: skip
    if behavior.shape[1]:
        out["behavior"] = ("time", "channel"), behavior[kept] + rng.normal(0, 1), NONE
        names = text(f"limb_{k}" for k in range(behavior.shape[1]))
        out = out.assign_coords(
            channel=("channel", names, NONE),
            channel_unit=("channel", text(["mm"] * len(names)), NONE),
        )
    return out


def made_parameters(rng, kinds: list[str], tried: bool, n_channels: int) -> xr.Dataset:
    length = np.array([SCALES[k] for k in kinds]) * WIDTH_S * rng.uniform(0.9, 1.1, len(kinds))
    neural = rng.uniform(0.3, 0.7, len(kinds)) * (np.array(kinds) != "behavior")
    behavioral = rng.uniform(0.3, 0.7, len(kinds)) * (np.array(kinds) != "neural")
    modalities = ["neural", "behavior"] if n_channels else ["neural"]
    shares = np.stack([neural, behavioral])[: len(modalities)]
    out = xr.Dataset(
        {
            "length_scale": ("latent", length, {"units": "s"}),
            "modality_weight": ("modality", [1.0, 0.4][: len(modalities)], ONE),
            "variance_explained": (("modality", "latent"), shares, ONE),
        },
        {"kind": ("latent", text(kinds), NONE), "modality": ("modality", text(modalities), NONE)},
        {"bin_width_s": WIDTH_S, "min_length_scale_s": 3 * WIDTH_S},
    )
    if tried:
        out["dimension_score"] = "dimension", [-20.0, -19.0, -19.5], {"units": "nats/bin"}
        out = out.assign_coords(dimension=("dimension", text(["1-0-0", "1-1-1", "2-2-2"]), NONE))
    return out


def made_latent_run(
    *,
    kinds: tuple[str, ...] = ("shared", "neural", "behavior"),
    n_units: int = 12,
    n_channels: int = 3,
    n_folds: int = 2,
    n_sessions: int = 2,
    n_windows: int = 24,
    n_bins: int = 60,
    image: tuple[int, int] | None = None,
    traces: bool = False,
    tried: bool = True,
    truth: bool = True,
) -> RunResults:
    """Return a run of which every array is known; the windows of a fold are every n-th one."""
    rng = np.random.default_rng(0)
    n_channels = int(np.prod(image)) if image else n_channels
    time = (np.arange(n_windows * n_bins) + 0.5) * WIDTH_S
    window = np.arange(len(time)) // n_bins
    sessions = [f"s{k}" for k in range(n_sessions)]
    parameters, history, estimates, recordings, truths, rows = {}, {}, {}, {}, {}, []
    for session in sessions:
        truths[session] = made_truth(rng, list(kinds), time)
        recordings[session], rate, behavior = made_session(
            rng, truths[session], n_units, n_channels, traces, session
        )
        for fold in range(n_folds):
            kept = window % n_folds == fold
            estimates[session, fold] = made_estimate(
                rng, truths[session], kept, window, rate, behavior, traces
            )
            for metric, units, model, baseline in SCORES:
                for name, value in ((MODEL, model), ("smoothed_factors", baseline)):
                    rows.append(
                        ("d", session, "m1", name, fold, 1, metric,
                         value + rng.normal(0, 0.01), units)
                    )  # fmt: skip
    for fold in range(n_folds):
        parameters[MODEL, fold] = made_parameters(rng, list(kinds), tried, n_channels)
        parameters["smoothed_factors", fold] = xr.Dataset(
            {"dimension_score": ("dimension", [0.9, 0.8], ONE),
             "neural_loading": (("unit", "latent"), np.ones((n_units, 2)), ONE)},
            {"dimension": ("dimension", text(["1", "2"]), NONE)},
        )  # fmt: skip
        course = 20 + 5 * np.exp(-np.arange(30) / 8)
        history[MODEL, fold] = xr.Dataset(
            {"objective": ("step", course, {"units": "nats/bin"})}, attrs={"converged": 1}
        )
    named = {"observations": "calcium/cells"} if traces else {}
    shape = {"image_shape": image} if image else {}
    return RunResults(
        run="m1", model=MODEL, dataset="d", seed=1, recordings=recordings, estimates=estimates,
        parameters=parameters, history=history,
        scores=pd.DataFrame(rows, columns=list(SCORE_COLUMNS)),
        splits={"by": "trial", "seed": 1, "folds": [{"train": {}, "test": {}}] * n_folds},
        truth=truths if truth else {}, settings={"parameters": {**named, **shape}},
    )  # fmt: skip


LATENT_RUNS = {
    "full": {},
    "one of everything": {
        "kinds": ("shared",), "n_units": 1, "n_channels": 1, "n_folds": 1, "n_sessions": 1,
        "n_windows": 1, "tried": False, "truth": False,
    },
    "neural activity alone": {"kinds": ("neural", "neural"), "n_channels": 0},
    "traces": {"traces": True, "truth": False},
    "video": {"image": (6, 8), "n_folds": 3},
    "many latents, units and channels": {
        "kinds": ("shared",) * 5 + ("neural",) * 4 + ("behavior",) * 3, "n_units": 70,
        "n_channels": 9,
    },
    "one long window": {"n_windows": 1, "n_bins": 1500, "n_folds": 1},
}  # fmt: skip
