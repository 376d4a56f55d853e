"""A made-up run of MindBridge: embeddings near the true ones, made-up cycles, curves and scores."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from neuropipe.results import SCORE_COLUMNS, RunResults

MODEL = "mindbridge"
ONE, TEXT = {"units": "1"}, {"units": ""}
BASELINES = ("mean_embedding", "subject_ridge")
BRIDGE_RUNS = {
    "full": {},
    "one subject": {"n_subjects": 1, "cycles": False, "curve": False, "baselines": False},
    "one fold of many subjects": {"n_subjects": 9, "n_folds": 1},
    "few stimuli": {"n_stimuli": 4, "curve": False},
    "alone": {"cycles": False, "curve": False, "pictures": False},
}


def made_bridge_run(
    *, n_subjects: int = 3, n_folds: int = 2, n_stimuli: int = 40, cycles: bool = True,
    curve: bool = True, baselines: bool = True, noise: float = 0.6, pictures: bool = True,
) -> RunResults:  # fmt: skip
    """Return a run whose predictions are the true embeddings with noise."""
    rng = np.random.default_rng(0)
    subjects = [f"p{n}" for n in range(n_subjects)]
    recordings, estimates, parameters, history, rows = {}, {}, {}, {}, []
    for name in subjects:
        code = rng.normal(size=(n_stimuli, 12)) + 1
        names = np.array([f"{name}-{i}" for i in range(n_stimuli)], object)
        start = np.arange(n_stimuli) * 4.0
        recordings[name] = xr.DataTree.from_dict(
            {
                "/": xr.Dataset(attrs={"session": name, "subject": name, "dataset": "made"}),
                "/betas": xr.Dataset(
                    {
                        "beta": (("trial", "voxel"), rng.normal(size=(n_stimuli, 7)), ONE),
                        "start_time": ("trial", start, {"units": "s"}),
                        "stimulus": ("trial", names, TEXT),
                    }
                ),
                "/embedding": xr.Dataset(
                    {"embedding": (("stimulus", "feature"), code, ONE)},
                    {"stimulus": ("stimulus", names, TEXT)},
                ),
            }
        )
        if pictures:
            frames = rng.integers(0, 255, (n_stimuli, 6, 8, 3)).astype(np.uint8)
            recordings[name]["stimulus/pictures"] = xr.DataTree(
                xr.Dataset(
                    {"frame_color": (("frame", "y", "x", "color"), frames, ONE)},
                    {"stimulus": ("frame", names, TEXT)},
                )
            )
        unit = code / np.linalg.norm(code, axis=1, keepdims=True)
        for fold in range(n_folds):
            at = np.arange(n_stimuli) % max(n_folds, 2) == fold
            guess = unit[at] + noise / np.sqrt(12) * rng.normal(size=(at.sum(), 12))
            own = xr.Dataset(
                {"predicted_image": (("trial", "feature"), guess, ONE)},
                {
                    "stimulus": ("trial", names[at], TEXT),
                    "time": ("trial", start[at], {"units": "s"}),
                },
                {"subject": name},
            )
            if cycles:
                for variable in ("cycle_correlation", "transfer_two_way"):
                    value = rng.uniform(0.3, 0.9, (at.sum(), n_subjects))
                    own[variable] = (("trial", "through"), value, ONE)
                own = own.assign_coords(through=("through", np.array(subjects, object), TEXT))
            estimates[name, fold] = own
            for other in (MODEL, *BASELINES) if baselines else (MODEL,):
                level = {MODEL: 0.9, "subject_ridge": 0.8}.get(other, 0.5)
                rows.append(("made", name, "r1", other, fold, 7, "two_way_image",
                             level + 0.02 * rng.normal(), "1"))  # fmt: skip
    for fold in range(n_folds):
        parameters[MODEL, fold] = made_parameters(rng, subjects, curve)
        history[MODEL, fold] = xr.Dataset(
            {"objective": ("step", 7 - np.arange(6) / 3, {"units": "nats"})},
            attrs={"converged": 1, "seconds": 2.5},
        )
    return RunResults(
        run="r1", model=MODEL, dataset="made", seed=7, recordings=recordings, estimates=estimates,
        parameters=parameters, history=history,
        scores=pd.DataFrame(rows, columns=list(SCORE_COLUMNS)),
        splits={"by": "stimulus", "folds": []}, settings={"parameters": {"pool_size": 10}},
    )  # fmt: skip


def made_parameters(rng, subjects: list[str], curve: bool) -> xr.Dataset:
    n_voxels = np.arange(len(subjects)) + 9
    share = np.concatenate([rng.dirichlet(np.ones(n)) for n in n_voxels])
    place = np.concatenate([np.stack(np.unravel_index(np.arange(n), (3, 3, 3)), 1)
                            for n in n_voxels])  # fmt: skip
    count = np.full(len(subjects), 30)
    out = xr.Dataset(
        {
            "n_voxels": ("subject", n_voxels, ONE),
            **dict.fromkeys(("n_trials", "n_stimuli_seen", "n_epochs"), ("subject", count, ONE)),
            "parameter_count": ("part", np.array([10, 20]), ONE),
            "voxel_importance": ("voxel", share, ONE),
        },
        {
            "subject": ("subject", np.array(subjects, object), TEXT),
            "start": ("subject", np.array(["ridge 1"] * len(subjects), object), TEXT),
            "part": ("part", np.array(["embedders", "heads"], object), TEXT),
            "voxel_subject": ("voxel", np.repeat(np.array(subjects, object), n_voxels), TEXT),
            **{a: ("voxel", place[:, d], ONE) for d, a in enumerate("ijk")},
        },
    )
    if curve:
        value = np.array([[0.6, 0.7, 0.8], [0.55, 0.6, 0.75], [0.5, 0.6, 0.7]])
        out["adaptation_two_way"] = (("approach", "n_stimuli"), value, ONE)
        names = np.array(["adapted", "from scratch", "ridge"], object)
        out = out.assign_coords(approach=("approach", names), n_stimuli=[10, 20, 40])
        out.attrs.update(new_subject=subjects[-1], n_judged=12)
    return out
