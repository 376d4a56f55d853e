"""Single-trial amplitudes equal nilearn's models, give planted truth back, and stream."""

import warnings

import dask.array as da
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from made_bold import AFFINE, GRID, bold, noise, with_confounds, with_trials
from made_session import QUICK

from neuropipe.errors import DataError
from neuropipe.io.store import open_recording, write
from neuropipe.preprocess import trial_designs as designs
from neuropipe.preprocess.nuisance import nuisance_basis
from neuropipe.preprocess.single_trial import ALPHAS, single_trial

ONSET = np.array([8.0, 21.0, 33.0, 47.0, 61.5, 74.0, 90.0])
KIND = ["face", "house", "face", "house", "house", "face", "face"]
SPM = designs.responses("spm")[0]
N = 60  # volumes a run, 2 s each


def made(values, runs=1, chunks=(17, 10), duration=3.0):
    run = np.repeat(np.arange(runs), len(ONSET))
    return with_trials(
        bold(values, runs=runs, chunks=chunks), np.tile(ONSET, runs),
        np.full(run.shape, duration), KIND * runs, run,
    )  # fmt: skip


def betas_of(recording, **options):
    return single_trial(recording, **options)["betas/beta"].values


def modelled_by_nilearn(values, events, names, hrf="spm", confounds=None):
    """Return what FirstLevelModel finds for each named condition, (condition, voxel)."""
    from nilearn.glm.first_level import FirstLevelModel

    series = nib.Nifti1Image(np.moveaxis(values.reshape(-1, *GRID), 0, -1), AFFINE)
    mask = nib.Nifti1Image(np.ones(GRID, np.uint8), AFFINE)
    model = FirstLevelModel(
        2.0, hrf_model=hrf, drift_model="cosine", high_pass=0.01, mask_img=mask,
        noise_model="ols", signal_scaling=False, minimize_memory=False,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what nilearn says of masks and defaults
        model.fit(series, events=events, confounds=confounds)
        maps = [model.compute_contrast(name, output_type="effect_size") for name in names]
    return np.stack([one.get_fdata().ravel() for one in maps])


def table(trial_type):
    return pd.DataFrame({"onset": ONSET, "duration": 3.0, "trial_type": trial_type})


def planted(runs=1, seed=0, hrf="spm", voxels=24):
    """Noise-free signal made of known amplitudes, in percent of the mean, and these."""
    random = np.random.default_rng(seed)
    frame = np.arange(N) * 2.0
    response = designs.responses(hrf)[0] if isinstance(hrf, str) else hrf
    regressors = designs.trial_regressors(ONSET, np.full(len(ONSET), 3.0), frame, response)
    truth = random.normal(2, 1, (runs * len(ONSET), voxels))
    level = 100 * (5 + random.random(voxels))
    parts = []
    for own in np.split(truth, runs):
        signal = regressors @ own
        parts.append(level + level / 100 * (signal - signal.mean(axis=0)))
    return np.concatenate(parts), truth


def test_all_trials_in_one_model_equal_nilearn():
    values = noise(N)
    names = [f"t{i}" for i in range(len(ONSET))]
    expected = modelled_by_nilearn(values, table(names), names)
    found = betas_of(made(values), method="lsa", high_pass_hz=0.01, percent_signal=False)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("others", ["by_condition", "together"])
def test_separate_models_equal_nilearn(others):
    """The beta series of nilearn's example: the trial alone, the others by condition."""
    values = noise(N)
    moved = np.cumsum(np.random.default_rng(1).normal(size=N))
    recording = with_confounds(made(values), motion=moved)
    found = betas_of(
        recording, method="lss", others=others, high_pass_hz=0.01, percent_signal=False,
        confounds="motion", hrf="glover",
    )  # fmt: skip
    for trial in (0, 3):
        names = list(KIND) if others == "by_condition" else ["other"] * len(KIND)
        names[trial] = "own"
        expected = modelled_by_nilearn(
            values, table(names), ["own"], "glover", pd.DataFrame({"motion": moved})
        )[0]
        np.testing.assert_allclose(
            found[trial], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
        )


@pytest.mark.parametrize("ridge", [0.0, "gcv", [0.0, 0.1]])
def test_planted_amplitudes_come_back(ridge):
    values, truth = planted(runs=2)
    recording = made(values, runs=2)
    found = single_trial(recording, method="lsa", high_pass_hz=0.0, ridge=ridge)["betas"]
    assert found["beta"].attrs["units"] == "%"
    assert found["beta"].dims == ("trial", "voxel")
    assert isinstance(found["beta"].data, da.Array)
    np.testing.assert_allclose(found["beta"].values, truth, atol=2e-3)
    assert found["trial_type"].values.tolist() == KIND * 2
    assert found["run_label"].values.tolist() == ["1"] * 7 + ["2"] * 7
    np.testing.assert_array_equal(found["i"], recording["bold"]["i"])
    if ridge != 0.0:
        assert (found["ridge_alpha"].values == 0).all()


def test_separate_models_of_spaced_trials_give_the_truth():
    values, truth = planted()
    truth[:] = truth[:1]  # LSS is unbiased where the others of a regressor are alike
    regressors = designs.trial_regressors(ONSET, np.full(7, 3.0), np.arange(N) * 2.0, SPM)
    signal = regressors @ truth
    values = 500 + 5 * (signal - signal.mean(axis=0))
    np.testing.assert_allclose(betas_of(made(values), high_pass_hz=0.0), truth, atol=2e-3)


def test_each_voxel_finds_its_response():
    right = [0, 3, 7, 11, 15]
    parts = [planted(seed=s, hrf=designs.responses("library")[k], voxels=4)
             for s, k in enumerate(right)]  # fmt: skip
    values = np.column_stack([part for part, _ in parts] + [np.full((N, 4), 7.0)])
    recording = made(values)
    node = single_trial(recording, method="lsa", hrf="library", high_pass_hz=0.0)["betas"]
    chosen = node["hrf_index"].values[0, :20].reshape(5, 4)
    truth = np.column_stack([part for _, part in parts])
    hit = chosen == np.array(right)[:, None]
    assert hit.mean() > 0.5
    np.testing.assert_allclose(node["beta"].values[:, :20][:, hit.ravel()],
                               truth[:, hit.ravel()], atol=5e-3)  # fmt: skip
    # where another was chosen, it fits nearly as well
    near = np.corrcoef(node["beta"].values[:, :20].ravel(), truth.ravel())[0, 1]
    assert near > 0.9


@settings(QUICK, max_examples=25)
@given(
    onset=st.floats(-24, 130),
    duration=st.one_of(st.just(0.0), st.floats(0, 40)),
    n=st.integers(2, 70),
    tr=st.sampled_from([0.72, 1.6, 2.0, 2.5]),
    name=st.sampled_from(["spm", "glover"]),
)
def test_regressors_are_those_of_nilearn(onset, duration, n, tr, name):
    from nilearn.glm.first_level import compute_regressor

    frame = np.arange(n) * tr
    event = (np.array([onset]), np.array([duration]), np.ones(1))
    expected = compute_regressor(event, name, frame)[0]
    found = designs.trial_regressors(*event[:2], frame, designs.responses(name)[0])
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


def test_library_starts_with_the_canonical_response():
    from nilearn.glm.first_level import spm_hrf

    np.testing.assert_allclose(
        designs.responses("library")[0](2.0, 50), spm_hrf(2.0, 50), rtol=1e-3, atol=1e-6
    )


def test_cross_validated_shrinkage_is_that_of_the_formula():
    """The error is the one of Golub et al. with the hat matrix written out."""
    values = noise(N) + np.random.default_rng(2).normal(0, 30, (N, 24)).astype(np.float32)
    recording = made(values)
    node = single_trial(recording, method="lsa", ridge="gcv", high_pass_hz=0.01)["betas"]
    fixed = nuisance_basis(
        recording, recording["bold"].to_dataset(), slice(0, N), np.ones(N, bool), columns=[],
        high_pass_hz=0.01, constant=True, trend=False, step="x",
    )  # fmt: skip
    own = designs.trial_regressors(ONSET, np.full(7, 3.0), np.arange(N) * 2.0, SPM)
    own = own - fixed @ (fixed.T @ own)
    data = values.astype(float)
    errors, amplitudes = [], []
    for alpha in ALPHAS:
        penalty = alpha * np.trace(own.T @ own) / 7
        solve = np.linalg.solve(own.T @ own + penalty * np.eye(7), own.T)
        hat = own @ solve + fixed @ fixed.T
        rest = data - hat @ data
        errors.append((rest**2).sum(axis=0) / (N - np.trace(hat)) ** 2)
        amplitudes.append(solve @ (data - fixed @ (fixed.T @ data)) * 100 / data.mean(axis=0))
    best = np.argmin(errors, axis=0)
    np.testing.assert_allclose(node["ridge_alpha"].values[0], np.array(ALPHAS)[best], rtol=1e-6)
    expected = np.array(amplitudes)[best, :, np.arange(24)].T
    np.testing.assert_allclose(node["beta"].values, expected, atol=1e-4)
    assert len(set(best)) > 1
    one = betas_of(recording, method="lsa", ridge=ALPHAS[4], high_pass_hz=0.01)
    np.testing.assert_allclose(one, amplitudes[4], atol=1e-4)


@settings(QUICK, max_examples=6)
@given(
    rows=st.integers(1, 70),
    columns=st.integers(1, 24),
    options=st.sampled_from(
        [
            {},
            {"method": "lsa", "ridge": "gcv", "hrf": "library"},
            {"hrf": "library", "others": "together"},
        ]
    ),
)
def test_chunks_do_not_change_numbers(rows, columns, options):
    values = noise(2 * 40)
    events = (ONSET[:4], np.full(4, 2.0), KIND[:4], [0, 0, 1, 1])
    whole = with_trials(bold(values, runs=2), *events)
    cut = with_trials(bold(values, runs=2, chunks=(rows, columns)), *events)
    first, second = (
        single_trial(r, **options)["betas"].to_dataset().compute() for r in (whole, cut)
    )
    xr.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-4)


def test_a_run_does_not_touch_the_next():
    values = noise(2 * N)
    other = values.copy()
    other[:N] = other[N - 1 :: -1]
    for options in ({}, {"method": "lsa", "ridge": "gcv", "hrf": "library"}):
        first, second = (betas_of(made(v, runs=2), **options)[7:] for v in (values, other))
        np.testing.assert_array_equal(first, second)


def test_scrubbed_volumes_have_no_say():
    values, truth = planted()
    moved = np.zeros(N)
    moved[[5, 30]] = 9
    wild = values.copy()
    wild[[5, 30]] = np.nan
    recording = with_confounds(made(wild), framewise_displacement=moved)
    for ridge in (0.0, "gcv"):
        found = betas_of(recording, method="lsa", high_pass_hz=0.0, scrub_fd_mm=0.5, ridge=ridge)
        np.testing.assert_allclose(found, truth, atol=3e-2)


def test_chosen_rows_and_rows_that_are_modelled_too():
    values, truth = planted()
    faces = np.array(KIND) == "face"
    recording = made(values)
    where, also = {"trial_type": ["face"]}, {"trial_type": ["house"]}
    node = single_trial(recording, where=where, method="lsa", high_pass_hz=0.0)["betas"]
    assert node["trial_type"].values.tolist() == ["face"] * 4
    assert np.abs(node["beta"].values - truth[faces]).max() > 0.1
    same = truth.copy()
    same[~faces] = same[1]
    regressors = designs.trial_regressors(ONSET, np.full(7, 3.0), np.arange(N) * 2.0, SPM)
    signal = regressors @ same
    recording = made(500 + 5 * (signal - signal.mean(axis=0)))
    for ridge in (0.0, "gcv"):
        found = betas_of(
            recording, where=where, also_model=also, method="lsa", high_pass_hz=0.0, ridge=ridge
        )
        np.testing.assert_allclose(found, same[faces], atol=2e-3)


def test_trials_without_a_trace_are_left_out(caplog):
    values, truth = planted()
    recording = with_trials(
        bold(values, chunks=(9, 24)), [*ONSET, 119.5, -60.0], np.full(9, 3.0), [*KIND, "a", "b"],
        np.zeros(9, int),
    )  # fmt: skip
    found = betas_of(recording, method="lsa", high_pass_hz=0.0)
    np.testing.assert_allclose(found, truth, atol=2e-3)
    assert "2 of 9 trials left no trace" in caplog.text


def test_betas_of_slice_timed_volumes():
    values, _ = planted()
    late = made(values)
    late["bold"].attrs["reference_time_s"] = 1.0
    moved = with_trials(bold(values), ONSET - 1, np.full(7, 3.0), KIND, np.zeros(7, int))
    np.testing.assert_allclose(betas_of(late), betas_of(moved), atol=1e-5)


def test_refusals():
    recording = made(noise(N))
    gap = made(noise(N), duration=np.nan)
    assert betas_of(gap, duration_s=0.0).shape == (7, 24)
    for data, options, match in (
        (recording, {"table": "trials"}, "no table 'trials'"),
        (recording, {"where": {"trial_type": ["cat"]}}, r"no row has trial_type 'cat'.*face"),
        (recording, {"where": {"type": ["cat"]}}, "no column 'type'"),
        (recording, {"ridge": 0.1}, "ridge is for method lsa"),
        (recording, {"method": "lsa", "ridge": -1.0}, "0 or more"),
        (recording, {"method": "lsa", "ridge": []}, "0 or more"),
        (gap, {}, "7 events have no duration"),
        (recording, {"confounds": "motion6"}, "no node confounds"),
    ):
        with pytest.raises(DataError, match=match):
            single_trial(data, **options)


def test_round_trip_through_the_store(tmp_path):
    recording = made(noise(2 * N), runs=2)
    recording.attrs |= {"dataset": "d", "source": "", "sha256": ""}
    out = single_trial(recording, method="lsa", ridge="gcv", hrf="library")
    write(out, tmp_path / "a.zarr")
    xr.testing.assert_identical(
        out["betas"].to_dataset().compute(),
        open_recording(tmp_path / "a.zarr")["betas"].to_dataset().compute(),
    )
