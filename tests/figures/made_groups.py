"""A made-up run of the NTF connectome: planted groups, factors near them, known by construction."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from neuropipe.results import SCORE_COLUMNS, RunResults

MODEL = "ntf_connectome"
WINDOW_S = 0.5
ONE = {"units": "1"}


def made_groups(n_groups: int, n_units: int, n_windows: int, n_animals: int) -> xr.Dataset:
    """Groups of consecutive units, windows and animals; the last animal lacks the last group."""
    member = np.arange(n_units) * n_groups // n_units == np.arange(n_groups)[:, None]
    active = np.arange(n_windows) * n_groups // n_windows == np.arange(n_groups)[:, None]
    part = np.ones((n_groups, n_animals), bool)
    part[-1, -1] = n_animals == 1
    names = np.array([f"N{n:03d}" for n in range(n_units)], dtype=object)
    animals = np.array([f"w{n}" for n in range(n_animals)], dtype=object)
    return xr.Dataset(
        {
            "member": (("group", "unit"), member, ONE),
            "active": (("group", "window"), active, ONE),
            "taking_part": (("group", "animal"), part, ONE),
        },
        {
            "unit": ("unit", names),
            "time": ("window", np.arange(n_windows) * WINDOW_S, {"units": "s"}),
            "animal": ("animal", animals),
        },
    )


def made_factors(rng, truth, order, held_out, *, chosen, shifts, communities, own) -> xr.Dataset:
    """Parameters whose component k is the planted group order[k], with a little noise."""
    noise = rng.uniform(0, 0.1, (len(order), *(2 * [truth.sizes["unit"]])))
    member = truth["member"].values[order].astype(float)
    affinity = member[:, :, None] * member[:, None, :] + noise + noise.transpose(0, 2, 1)
    affinity[:, np.arange(len(member[0])), np.arange(len(member[0]))] = 0
    affinity /= np.sqrt((affinity**2).sum((1, 2), keepdims=True) / 2)
    if len(member[0]) > 4:
        affinity[:, 0, 1] = affinity[:, 1, 0] = np.nan
    mean = np.nanmean(affinity, axis=2)
    active = truth["active"].values[order].T + rng.uniform(0, 0.1, truth["active"].T.shape)
    kept = ~held_out
    animals = truth["animal"].values
    copies = len(animals) if own else 1
    out = xr.Dataset(
        {
            "membership": (("unit", "component"), (mean / mean.max(1, keepdims=True)).T, ONE),
            "animal_loading": (
                ("animal", "component"), truth["taking_part"].values[order].T * 0.9 + 0.1, ONE
            ),
            "activation": (("window", "component"), np.tile(active[kept], (copies, 1)), ONE),
            "weight": ("component", np.sort(rng.dirichlet(np.full(len(order), 9)))[::-1], ONE),
            "restart_error": ("restart", 0.6 + 0.01 * np.arange(3), ONE),
            "restart_similarity": ("restart", [1.0, 0.95, 0.7], ONE),
            "explained_variance": ((), 0.64, ONE),
        },
        {
            "unit": truth["unit"].values,
            "source_unit": truth["unit"].values,
            "animal": [f"{a}/{a}-s" for a in animals],
            "time": ("window", np.tile(truth["time"].values[kept], copies), {"units": "s"}),
        },
        {"rank": len(order), "window_s": WINDOW_S},
    )  # fmt: skip
    names = ("component", "unit", "source_unit")
    if communities == "pairs":
        i, j = np.triu_indices(len(mean[0]), 1)
        out["pair_affinity"] = ("pair", "component"), affinity[:, i, j].T, ONE
    else:
        out["affinity"] = names, affinity, ONE
    if communities == "labels":
        labels = truth["member"].values[order].astype(int)
        out["community"] = ("component", "unit"), labels, ONE
        names = ("component", "unit")
        # the last start and the second half have one unit astray, the last animal lacks two
        astray = np.where(np.arange(labels.shape[1]) == 0, 1 - labels, labels)
        lacking = np.where(np.arange(labels.shape[1]) < 2, -1, labels)
        out["community_of_restart"] = ("restart", *names), np.stack([labels, labels, astray]), ONE
        out["community_of_half"] = ("half", *names), np.stack([labels, astray]), ONE
        alone = [labels] * (len(animals) - 1) + [lacking]
        out["community_of_animal"] = ("animal", *names), np.stack(alone), ONE
    if own:
        out = out.assign_coords(
            window_animal=("window", np.repeat(out["animal"].values, kept.sum()))
        )
    if chosen:
        rank = np.array(sorted({1, 2, 3, len(order)}))
        out = out.assign_coords(rank=rank)
        out["rank_held_out"] = ("rank", "repeat"), rng.uniform(0.2, 0.3, (len(rank), 2)), ONE
        out["rank_stability"] = "rank", np.linspace(1, 0.7, len(rank)), ONE
        out["rank_nuclear"] = ("rank", "restart"), rank[:, None] + rng.random((1, 3)), ONE
    if shifts:
        out["null_explained_variance"] = "shuffle", rng.uniform(0.3, 0.4, shifts), ONE
        out["null_p"] = (), 1 / (1 + shifts), ONE
    return out


def made_animal(rng, truth, animal: str, *, placed: bool, trials: bool) -> xr.DataTree:
    """A recording of all units; `placed` gives them coordinates."""
    shape = truth.sizes["window"], truth.sizes["unit"]
    dff = (("time", "roi"), rng.normal(size=shape).astype("float32"), ONE)
    coords = {"time": ("time", truth["time"].values), "roi": ("roi", truth["unit"].values)}
    if placed:
        for axis in "xy":
            coords[axis] = ("roi", rng.uniform(0, 100, shape[1]), {"units": "um"})
    nodes = {
        "/": xr.Dataset(attrs={"subject": animal, "session": f"{animal}-s"}),
        "/calcium/cells": xr.Dataset({"dff": dff}, coords),
    }
    if trials:
        start = np.arange(2.0, truth["time"].values[-1], 6)
        kind = np.resize(np.array(["salt", "odour"], dtype=object), len(start))
        nodes["/trials"] = xr.Dataset(
            {"start_time": ("trial", start), "stop_time": ("trial", start + 2),
             "trial_type": ("trial", kind)}
        )  # fmt: skip
    return xr.DataTree.from_dict(nodes)


def made_groups_run(
    *,
    n_groups: int = 3,
    n_units: int = 12,
    n_animals: int = 3,
    n_folds: int = 2,
    n_windows: int = 120,
    chosen: bool = True,
    shifts: int = 4,
    communities: str = "labels",
    placed: bool = True,
    trials: bool = True,
    own: bool = False,
    truth: bool = True,
) -> RunResults:
    """Return a run of which every array is known; fold f has its groups rolled by f."""
    rng = np.random.default_rng(0)
    planted = made_groups(n_groups, n_units, n_windows, n_animals)
    sessions = {f"{a}-s": str(a) for a in planted["animal"].values}
    block = np.arange(n_windows) // 10
    parameters, history, estimates, rows, folds = {}, {}, {}, [], []
    for fold in range(n_folds):
        order = np.roll(np.arange(n_groups), fold)
        held_out = block % (n_folds + 1) == fold
        found = made_factors(
            rng, planted, order, held_out,
            chosen=chosen, shifts=shifts, communities=communities, own=own,
        )  # fmt: skip
        parameters[MODEL, fold] = found
        course = 0.6 + 0.3 * np.exp(-np.arange(20) / 5)[:, None] + 0.01 * np.arange(3)
        history[MODEL, fold] = xr.Dataset(
            {"objective": ("step", course[:, 0], ONE),
             "restart_objective": (("step", "restart"), course, ONE)},
            attrs={"converged": 1},
        )  # fmt: skip
        folds.append({"train": {}, "test": {s: [[0.0, 5.0]] for s in sessions}})
        for session in sessions:
            activation = planted["active"].values[order].T[held_out] + 0.05
            estimates[session, fold] = xr.Dataset(
                {"activation": (("window", "component"), activation, ONE)},
                {"time": ("window", planted["time"].values[held_out])},
            )
            for name, value in ((MODEL, 0.5), ("plain_cp", 0.4)):
                rows.append(
                    ("d", session, "g1", name, fold, 1, "explained_variance",
                     value + 0.01 * rng.random(), "1")
                )  # fmt: skip
    return RunResults(
        run="g1", model=MODEL, dataset="d", seed=1,
        recordings={
            s: made_animal(rng, planted, a, placed=placed, trials=trials)
            for s, a in sessions.items()
        },
        estimates=estimates, parameters=parameters, history=history,
        scores=pd.DataFrame(rows, columns=list(SCORE_COLUMNS)),
        splits={"by": "block", "seed": 1, "folds": folds},
        truth=dict.fromkeys(sessions, planted) if truth else {},
        settings={"parameters": {"min_stability": 0.8}},
    )  # fmt: skip


GROUP_RUNS = {
    "full": {},
    "one of everything": {
        "n_groups": 1, "n_units": 2, "n_animals": 1, "n_folds": 1, "chosen": False, "shifts": 0,
        "communities": "none", "placed": False, "trials": False, "truth": False,
    },
    "times of their own": {"own": True, "placed": False},
    "many components and units": {
        "n_groups": 14, "n_units": 84, "n_animals": 12, "placed": False, "truth": False,
    },
    "patterns by pair": {"communities": "pairs", "placed": False},
}  # fmt: skip
