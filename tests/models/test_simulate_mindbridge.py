"""Planted BOLD sessions give back their betas, and their subjects share one world."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import gamma

from neuropipe.config import build
from neuropipe.errors import ConfigError
from neuropipe.models.mindbridge.simulate import (
    Plan,
    canonical_hrf,
    design,
    place_voxels,
    response,
    simulate,
)
from neuropipe.runs import run_slices
from neuropipe.schema import validate

SMALL = {
    "n_voxels": 40, "n_own": 18, "n_shared": 4, "n_runs": 2, "image_tokens": 2, "text_tokens": 1,
    "token_features": 8,
}  # fmt: skip
QUIET = {"noise_percent": 0.0, "drift_percent": 0.0, "motion_percent": 0.0}


def drawn(seed: int = 3, **changes):
    plan = Plan(**{**SMALL, **changes})
    return plan, *simulate(plan, seed)


def least_squares(recording, truth, plan, extra: bool = False) -> np.ndarray:
    """Betas (trial, voxel) % of baseline by one regression of all trials a run."""
    bold = recording["bold"].to_dataset()
    found = []
    onset = truth["start_time"].values
    for rows in run_slices(recording, "bold"):
        time = bold["time"].values[rows]
        inside = (onset >= time[0]) & (onset < time[-1])
        X = design(time, onset[inside], plan.stimulus_s)
        n = len(time)
        nuisance = [np.ones((n, 1))]
        if extra:
            slow = np.arange(1, int(2 * n * plan.repetition_time_s / 128) + 1)
            nuisance.append(np.cos(np.pi * (np.arange(n) + 0.5)[:, None] / n * slow))
            nuisance.append(recording["confounds/confound_value"].values[rows, :6])
        full = np.column_stack([X, *nuisance])
        weight = np.linalg.lstsq(full, bold["bold"].values[rows].astype(float), rcond=None)[0]
        found.append(100 * weight[: X.shape[1]] / weight[X.shape[1]])
    return np.concatenate(found)


def test_it_is_a_recording_of_the_catalogue():
    _, recording, truth = drawn()
    validate(
        recording, "bold", "confounds", "intervals/events", "embedding", "text_embedding", "runs"
    )
    bold = recording["bold"].to_dataset()
    assert bold["bold"].dtype == np.float32
    affine = np.array(bold.attrs["affine"]).reshape(4, 4)
    ijk = np.stack([bold[a].values for a in "ijk"] + [np.ones(40)])
    np.testing.assert_allclose((affine @ ijk)[:3], np.stack([bold[a].values for a in "xyz"]))
    assert (ijk[:3].max(1) < bold.attrs["grid_shape"]).all()
    events = recording["intervals/events"].to_dataset()
    assert set(events["stimulus"].values) == set(recording["embedding/stimulus"].values)
    counts = np.unique(events["stimulus"].values, return_counts=True)[1]
    assert sorted(counts) == [1] * 18 + [3] * 4
    assert truth.sizes["trial"] == 30


def test_hrf_is_the_double_gamma_and_its_peak_is_one():
    t = np.linspace(0, 32, 50)
    np.testing.assert_allclose(canonical_hrf(t), gamma.pdf(t, 6) - gamma.pdf(t, 16) / 6, atol=1e-12)
    lag, shape = response(3.0)
    assert shape.max() == 1
    assert 5.5 < lag[shape.argmax()] < 7.5
    assert abs(shape[-1]) < 1e-3


def test_betas_come_back_from_a_quiet_session():
    plan, recording, truth = drawn(**QUIET)
    found = least_squares(recording, truth, plan)
    beta = truth["beta"].values
    assert np.abs(found - beta).max() < 2e-3 * np.abs(beta).max()  # bold is float32


def test_betas_come_back_from_a_noisy_session():
    plan, recording, truth = drawn(n_own=60)
    found = least_squares(recording, truth, plan, extra=True)
    beta = truth["beta"].values
    match = [np.corrcoef(a, b)[0, 1] for a, b in zip(found.T, beta.T, strict=True)]
    assert np.median(match) > 0.7
    worse = least_squares(recording, truth, plan)
    assert np.abs(worse - beta).mean() > 1.2 * np.abs(found - beta).mean()  # confounds matter


def test_signal_to_noise_is_the_planned_one():
    plan, _, truth = drawn(snr=0.5, n_own=1500, n_voxels=25, n_runs=1, **QUIET)
    noise = (truth["beta"] - truth["driven"]).var("trial")
    ratio = (truth["driven"].var("trial") / noise).values
    # each voxel has its own low-rank noise, of power 0.36 on average beside 0.64
    assert ratio.mean() == pytest.approx(plan.snr, rel=0.25)
    scale = truth["driven"].mean("trial") / truth["driven"].std("trial")
    np.testing.assert_allclose(scale.values, 1 / math.sqrt(plan.snr), rtol=0.2)


def test_neighbouring_voxels_respond_alike():
    _, recording, truth = drawn(n_voxels=200, n_own=200, topographic=1.0, snr=5.0, **QUIET)
    place = np.stack([recording["bold"][a].values for a in "xyz"], 1)
    apart = np.linalg.norm(place[:, None] - place[None], axis=2)
    alike = np.corrcoef(truth["driven"].values.T)
    assert alike[(apart > 0) & (apart < 3.5)].mean() > 2 * np.abs(alike[apart > 12].mean())


def test_subjects_share_the_world_and_nothing_else():
    _, one, truth_one = drawn(subject=1, n_voxels=None)
    _, two, truth_two = drawn(subject=2, n_voxels=None)
    assert one["bold"].sizes["voxel"] != two["bold"].sizes["voxel"]
    shared = [i for i, s in enumerate(truth_one["stimulus"].values) if s.startswith("shared")]
    for code in ("image_code", "text_code"):
        np.testing.assert_array_equal(truth_one[code][shared], truth_two[code][shared])
    own = set(truth_one["stimulus"].values) & set(truth_two["stimulus"].values)
    assert len(own) == len(shared)


def test_movements_are_planted_and_named():
    plan, recording, _ = drawn(n_spikes=3)
    confounds = recording["confounds"].to_dataset()
    displacement = confounds["confound_value"].values[:, -1]
    for rows in run_slices(recording, "bold"):
        assert np.isnan(displacement[rows][0])
        assert (displacement[rows][1:] > 0.5).sum() == plan.n_spikes
    assert confounds["confound_unit"].values.tolist() == ["mm"] * 3 + ["rad"] * 3 + ["mm"]


def test_voxels_fill_a_ball_in_grid_order():
    index, shape = place_voxels(100)
    flat = np.ravel_multi_index(index.T, shape)
    assert (np.diff(flat) > 0).all()
    assert np.abs(index.mean(0) - (np.array(shape) - 1) / 2).max() < 0.5


def test_the_seed_decides_every_number():
    _, first, truth = drawn(seed=7)
    _, again, truth_again = drawn(seed=7)
    _, other, _ = drawn(seed=8)
    assert first.identical(again)
    assert truth.identical(truth_again)
    assert not np.array_equal(first["embedding/embedding"], other["embedding/embedding"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n_own": 0, "n_shared": 1, "n_repetitions": 1}, "fewer trials than n_runs"),
        ({"stimulus_s": 7.0}, "longer than trial_interval_s"),
        ({"subjects": 2}, "subject"),
    ],
)
def test_plans_that_cannot_be_drawn_are_refused(change, said):
    with pytest.raises(ConfigError, match=said):
        build(Plan, {**SMALL, **change}, "plan")
