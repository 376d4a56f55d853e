"""A made-up run of Du-IN: trials with known guesses, codes that follow labels, planted contacts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from neuropipe.results import SCORE_COLUMNS, RunResults

MODEL = "du_in"
PATCH_S = 0.1
TRIAL_S = 0.8
EVERY_S = 1.0  # a trial begins
ONE, S = {"units": "1"}, {"units": "s"}


def text(values) -> np.ndarray:
    return np.array(list(values), dtype=object)


def made_estimate(rng, classes: np.ndarray, n_trials: int, share: float, codes: bool) -> xr.Dataset:
    """Every trial of a class shows the codes class, class + 1, ...; a share of guesses is right."""
    number = np.arange(n_trials) % len(classes)
    right = np.arange(n_trials) < round(share * n_trials)
    guess = np.where(right, number, (number + 1) % len(classes))
    p = np.full((n_trials, len(classes)), 0.1 / max(len(classes) - 1, 1))
    p[np.arange(n_trials), guess] = 0.9
    start = np.arange(n_trials) * EVERY_S
    out = xr.Dataset(
        {"class_probability": (("trial", "class"), p.astype("float32"), ONE)},
        {
            "class": ("class", text(classes)),
            "time": ("trial", start, S),
            "label": ("trial", text(classes[number])),
        },
    )
    if not codes:
        return out
    n_tokens = round(n_trials * EVERY_S / PATCH_S)
    middle = (np.arange(n_tokens) + 0.5) * PATCH_S
    trial = np.minimum((middle // EVERY_S).astype(int), n_trials - 1)
    place = ((middle - trial * EVERY_S) // PATCH_S).astype(int)
    code = np.where(place < 8, (3 * number[trial] + place) % 30, rng.integers(30, size=n_tokens))
    per = 10
    out["code"] = ("window", "token"), code.reshape(-1, per), ONE
    return out.assign_coords(token_time=(("window", "token"), middle.reshape(-1, per), S))


def made_decoder(
    rng, classes, *, units: bool, codes: bool, tested: bool, placed: bool, n_subjects: int
) -> xr.Dataset:
    n_contacts = 8
    names = [f"{'AB'[i >= 4]}{i % 4 + 1}-{'AB'[i >= 4]}{i % 4 + 2}" for i in range(n_contacts)]
    subject = np.repeat([f"s{i}" for i in range(n_subjects)], n_contacts)
    n = len(subject)
    strong = np.tile(np.arange(n_contacts) % 4 == 1, n_subjects)
    share = np.full(len(classes), 1 / len(classes))
    share[0] += 1e-6
    variables: dict[str, Any] = {
        "class_share": ("class", share, ONE),
        "confusion": (("class", "predicted_class"), np.eye(len(classes), dtype=int), ONE),
        "contact_weight": ("channel", rng.uniform(0.3, 1, n).astype("float32"), ONE),
    }
    if tested:
        loss = np.where(strong, 0.5, 0.0) + rng.normal(0, 0.02, n)
        variables["contact_contribution"] = "channel", loss, {"units": "nats"}
        variables["contact_z"] = "channel", loss / 0.05, ONE
        variables["contact_p"] = "channel", np.where(strong, 0.001, 0.5), ONE
    coords: dict[str, Any] = {
        "class": ("class", text(classes)),
        "predicted_class": ("predicted_class", text(classes)),
        "channel": ("channel", text(names * n_subjects)),
        "subject": ("channel", text(subject)),
    }
    if placed:
        coords["shaft"] = "channel", text([name[0] for name in names] * n_subjects)
        coords["region"] = "channel", text(["insula"] * n)
        for k, axis in enumerate("xyz"):
            coords[axis] = "channel", 3.5 * np.arange(n) * (k + 1) % 17, {"units": "mm"}
    if units:
        lag = np.arange(400) / 200
        value = np.sin(2 * np.pi * lag[:, None] * np.arange(1, n_contacts + 1))
        variables["example_voltage"] = (
            ("lag", "contact"),
            value + rng.normal(0, 0.3, value.shape),
            ONE,
        )
        variables["example_reconstruction"] = ("lag", "contact"), value, ONE
        coords["lag"] = "lag", lag, S
    if codes:
        count = np.sort(rng.integers(0, 60, 30))
        variables["code_count"] = "code", count, ONE
        q = count[count > 0] / count.sum()
        variables["code_perplexity"] = (), float(np.exp(-(q * np.log(q)).sum())), ONE
        variables["masked_accuracy"] = (), 0.3, ONE
    return xr.Dataset(variables, coords, {"patch_s": PATCH_S})


def made_course(rng, *, units: bool, codes: bool) -> xr.Dataset:
    def fall(n: int, low: float, high: float) -> np.ndarray:
        return low + (high - low) * np.exp(-np.arange(n) / 4) + rng.normal(0, 0.01, n)

    out = {
        "objective": ("step", fall(20, 0.7, 2.8), {"units": "nats"}),
        "accuracy": ("step", 1 - fall(20, 0.05, 0.9), ONE),
        "validation": ("step", fall(20, 0.9, 2.8), {"units": "nats"}),
    }
    attrs = {"converged": 1, "best_step": 17}
    if units:
        for stage, n in (("warm", 8), ("units", 5)):
            if stage == "units" and not codes:
                continue
            for term in ("objective", "reconstruction", "validation"):
                out[f"{stage}_{term}"] = f"{stage}_step", fall(n, 0.5, 1.0), ONE
            attrs[f"{stage}_best_step"] = n - 1
        n = 12
        out["masked_objective"] = "masked_step", fall(n, 2.0, 3.4), {"units": "nats"}
        out["masked_validation"] = "masked_step", fall(n, 2.1, 3.4), {"units": "nats"}
        attrs["masked_best_step"] = n - 2
        if codes:
            out["units_perplexity"] = "units_step", 20 + fall(5, 0, 3), ONE
            out["masked_accuracy"] = "masked_step", 1 - fall(n, 0.6, 0.97), ONE
    return xr.Dataset(out, attrs=attrs)


def made_words_run(
    *, n_classes: int = 7, n_folds: int = 2, n_trials: int = 28, units: bool = True,
    codes: bool = True, tested: bool = True, placed: bool = True, truth: bool = True,
    n_subjects: int = 1, shares: tuple[float, ...] = (0.75, 0.5),
) -> RunResults:  # fmt: skip
    """One session split by run; fold k names `shares[k]` of its trials rightly."""
    rng = np.random.default_rng(5)
    classes = text(f"word{k + 1:02d}" for k in range(n_classes)).astype(str)
    estimates, parameters, history, rows = {}, {}, {}, []
    for fold in range(n_folds):
        estimates["w-1", fold] = made_estimate(rng, classes, n_trials, shares[fold % 2], codes)
        parameters[MODEL, fold] = made_decoder(
            rng, classes, units=units, codes=codes, tested=tested, placed=placed,
            n_subjects=n_subjects,
        )  # fmt: skip
        history[MODEL, fold] = made_course(rng, units=units, codes=codes)
        for estimator, lag in ((MODEL, 0.0), ("du_in_from_scratch", 0.2), ("band_power_lda", -0.1)):
            value = {"accuracy": shares[fold % 2] - lag, "class_log_likelihood": -1 - lag}
            rows += [
                ("made", "w-1", "made", estimator, fold, 1, metric, v,
                 "1" if metric == "accuracy" else "nats/trial")
                for metric, v in value.items()
            ]  # fmt: skip
    time = np.arange(300) / 10
    recording = xr.DataTree.from_dict(
        {
            "/": xr.Dataset(attrs={"session": "w-1", "dataset": "made", "subject": "s0"}),
            "/ieeg": xr.Dataset(
                {"voltage": (("time", "channel"), rng.normal(size=(300, 4)), {"units": "V"})},
                {"time": ("time", time, S), "channel": text("abcd")},
            ),
            "/trials": xr.Dataset(
                {"start_time": ("trial", np.arange(20.0), S),
                 "stop_time": ("trial", np.arange(20.0) + TRIAL_S, S)}
            ),
        }
    )  # fmt: skip
    planted = xr.Dataset(
        {"is_speech": ("channel", np.isin(np.arange(10) % 5, [1, 2]), ONE)},
        {"channel": text([f"{s}{i}" for s in "AB" for i in range(1, 6)])},
    )
    return RunResults(
        run="made", model=MODEL, dataset="made", seed=1, recordings={"w-1": recording},
        estimates=estimates, parameters=parameters, history=history,
        scores=pd.DataFrame(rows, columns=list(SCORE_COLUMNS)),
        splits={"by": "run", "folds": []}, truth={"w-1": planted} if truth else {},
        settings={"parameters": {}},
    )  # fmt: skip


WORD_RUNS: dict[str, dict[str, Any]] = {
    "everything": {},
    "two classes, one fold": {"n_classes": 2, "n_folds": 1, "truth": False},
    "from scratch, contacts not tested": {"units": False, "codes": False, "tested": False},
    "without codes": {"codes": False},
    "no places": {"placed": False, "truth": False},
    "many classes, two subjects": {"n_classes": 30, "n_trials": 60, "n_subjects": 2},
}
