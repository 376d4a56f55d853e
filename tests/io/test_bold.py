"""BOLD runs come in as nilearn sees them; what a file promises wrongly is said with numbers."""

import json
import logging
import warnings

import dask.array as da
import h5py
import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from made_nifti import FLIPPED, GRID, confounds, save, tree, volumes
from nilearn.masking import apply_mask

from neuropipe.errors import ConfigError, ReaderError
from neuropipe.io.bids import sessions
from neuropipe.io.bold import read
from neuropipe.io.store import open_recording, write

RUN = "sub-01/func/sub-01_task-look_run-1"


def ball(grid=GRID):
    """Mask that keeps an odd set of voxels."""
    kept = np.random.default_rng(5).random(grid) < 0.5
    kept[0, 0, 1] = True
    return kept


def test_values_are_those_of_nilearn(tmp_path):
    path = save(tmp_path / "a.nii.gz", volumes())
    mask = save(tmp_path / "m.nii", ball(), dtype=np.uint8)
    node = read(path, mask=str(mask))["bold"]
    np.testing.assert_array_equal(node["bold"].values, apply_mask(str(path), str(mask)))
    assert node["bold"].dtype == np.float32
    assert isinstance(node["bold"].data, da.Array)


def test_voxels_know_where_they_are(tmp_path):
    node = read(save(tmp_path / "a.nii", volumes()))["bold"]
    index = np.stack([node[a].values for a in "ijk"], axis=1)
    world = np.stack([node[a].values for a in "xyz"], axis=1)
    np.testing.assert_allclose(world, nib.affines.apply_affine(FLIPPED, index))
    image = volumes()
    np.testing.assert_array_equal(node["bold"].values, image[tuple(index.T)].T)
    assert node.attrs["grid_shape"] == list(GRID)
    np.testing.assert_allclose(np.reshape(node.attrs["affine"], (4, 4)), FLIPPED)


def test_runs_lie_end_to_end_on_one_clock(tmp_path):
    recording = read(tree(tmp_path / "d", n_runs=2, n=10), dataset="d")
    time = recording["bold/time"].values
    np.testing.assert_allclose(time, np.arange(20) * 2.0)
    events = recording["intervals/events"]
    np.testing.assert_allclose(events["start_time"].values, [2, 3, 24, 26])
    assert np.isnan(events["stop_time"].values).tolist() == [False, True, False, True]
    assert events["run_label"].values.tolist() == ["1", "1", "2", "2"]
    assert recording["runs/stop_time"].values.tolist() == [20, 40]
    assert recording.attrs["subject"] == "01"
    assert recording["bold"].attrs["task"] == "look"
    expected = np.concatenate([volumes(seed=s).reshape(-1, 10).T for s in (1, 2)])
    np.testing.assert_array_equal(recording["bold/bold"].values, expected)


def test_one_file_finds_its_companions(tmp_path):
    folder = tree(tmp_path / "d")
    confounds(folder, 2, {"trans_x": np.arange(10.0), "rot_z": np.full(10, np.nan)})
    recording = read(folder / "sub-01/func/sub-01_task-look_run-2_bold.nii.gz")
    assert recording["runs/run_label"].values.tolist() == ["2"]
    assert recording["confounds/confound_unit"].values.tolist() == ["mm", "rad"]
    np.testing.assert_array_equal(recording["confounds/confound_value"].values[:, 0], np.arange(10))


def test_runs_with_confounds_of_their_own_share_columns(tmp_path):
    folder = tree(tmp_path / "d")
    confounds(folder, 1, {"csf": np.ones(10), "framewise_displacement": np.arange(10.0)})
    confounds(folder, 2, {"csf": np.ones(10), "motion_outlier00": np.eye(10)[3]})
    node = read(folder, drop_volumes=2)["confounds"].to_dataset()
    assert node["confound"].values.tolist() == [
        "csf", "framewise_displacement", "motion_outlier00"
    ]  # fmt: skip
    value = node["confound_value"].values
    assert value[:8, 1].tolist() == list(range(2, 10))
    assert np.isnan(value[8:, 1]).all()
    np.testing.assert_array_equal(node["time"], read(folder, drop_volumes=2)["bold/time"])
    confounds(folder, 2, {"csf": np.ones(9)})
    with pytest.raises(ReaderError, match=r"found 9 rows, expected 10"):
        read(folder)


def test_dropped_volumes_leave_the_clock_as_it_was(tmp_path):
    folder = tree(tmp_path / "d")
    whole, cut = read(folder), read(folder, drop_volumes=3)
    keep = np.r_[3:10, 13:20]
    xr.testing.assert_equal(whole["bold"].to_dataset().isel(time=keep), cut["bold"].to_dataset())
    xr.testing.assert_identical(whole["intervals/events"], cut["intervals/events"])
    with pytest.raises(ReaderError, match=r"found 10 volumes.*drop_volumes 10"):
        read(folder, drop_volumes=10)
    with pytest.raises(ConfigError, match="drop_volumes"):
        read(folder, drop_volumes=-1)


def test_round_trip_through_the_store(tmp_path):
    folder = tree(tmp_path / "d")
    confounds(folder, 1, {"csf": np.arange(10.0)})
    recording = read(folder)
    write(recording, tmp_path / "a.zarr")
    xr.testing.assert_identical(recording.compute(), open_recording(tmp_path / "a.zarr").compute())


@pytest.mark.parametrize("stored", [np.int16, np.uint8, np.float64, ">f4"])
def test_types_and_scale_factors(tmp_path, stored):
    values = np.arange(24 * 5).reshape(*GRID, 5)
    path = save(tmp_path / "a.nii", values, dtype=stored)
    np.testing.assert_array_equal(read(path)["bold/bold"].values, values.reshape(24, 5).T)
    scaled = save(tmp_path / "b.nii", values, dtype=np.int16, scale=(0.25, -100.0))
    np.testing.assert_array_equal(
        read(scaled)["bold/bold"].values, values.reshape(24, 5).T * 0.25 - 100
    )


def test_nan_outside_the_brain_stays(tmp_path):
    values = volumes()
    values[0] = np.nan
    found = read(save(tmp_path / "a.nii", values))["bold"]
    assert (np.isnan(found["bold"].values).all(axis=0) == (found["i"].values == 0)).all()


def test_auto_takes_the_brain_masks_of_the_same_space(tmp_path):
    folder = tree(tmp_path / "d")
    first, second = ball(), ball()
    second[1] = True
    for run, kept in ((1, first), (2, second)):
        name = f"sub-01/func/sub-01_task-look_run-{run}_desc-brain_mask.nii.gz"
        save(folder / name, kept, dtype=np.uint8)
    elsewhere = "sub-01/func/sub-01_task-look_run-1_space-MNI_desc-brain_mask.nii.gz"
    save(folder / elsewhere, np.ones((2, 2, 2)), dtype=np.uint8)
    recording = read(folder)
    assert recording["bold"].sizes["voxel"] == (first & second).sum()
    assert "run-1_desc-brain_mask" in recording["bold"].attrs["mask"]
    assert read(folder, mask="none")["bold"].sizes["voxel"] == 24


def test_a_derivative_takes_events_from_the_raw_data(tmp_path):
    """The tree that fMRIPrep leaves: masks and confounds beside, events in the raw data set."""
    folder = tree(tmp_path / "d")
    home = folder / "derivatives" / "fmriprep"
    func = home / "sub-01" / "func"
    func.mkdir(parents=True)
    (home / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    anat = home / "sub-01" / "anat" / "sub-01_space-MNI_res-2_desc-brain_mask.nii.gz"
    save(anat, np.ones((2, 2, 2)), dtype=np.uint8)
    space = "space-MNI_res-2"
    for run in (1, 2):
        stem = func / f"sub-01_task-look_run-{run}"
        save(beside(stem, f"{space}_desc-preproc_bold.nii.gz"), volumes(seed=run))
        save(beside(stem, f"{space}_desc-brain_mask.nii.gz"), ball(), dtype=np.uint8)
        about = {"RepetitionTime": 2.0, "SliceTimingCorrected": True, "StartTime": 0.95}
        beside(stem, f"{space}_desc-preproc_bold.json").write_text(json.dumps(about))
        rows = "\n".join(["csf", *(str(i) for i in range(10))])
        beside(stem, "desc-confounds_timeseries.tsv").write_text(rows + "\n")
        beside(stem, f"{space}_desc-preproc_bold.dtseries.nii").write_bytes(b"surface")
    recording = read(beside(func / "sub-01_task-look_run-2", f"{space}_desc-preproc_bold.nii.gz"))
    assert recording["intervals/events/start_time"].values.tolist() == [4, 6]
    assert recording["confounds/confound_value"].shape == (10, 1)
    assert recording["bold"].sizes["voxel"] == ball().sum()
    attrs = recording["bold"].attrs
    assert (attrs["space"], attrs["reference_time_s"]) == ("MNI", 0.95)
    both = [s for s in sessions(folder) if "space-MNI" in s.session_id]
    assert len(both) == 1
    recording = read(both[0].files)
    assert recording["runs"].sizes["run"] == 2
    assert recording["intervals/events"].sizes["interval"] == 4


def beside(stem, rest):
    """Return the path of a file of a run."""
    return stem.with_name(f"{stem.name}_{rest}")


def test_auto_leaves_a_mask_of_another_grid_aside(tmp_path, caplog):
    folder = tree(tmp_path / "d", n_runs=1)
    name = "sub-01/func/sub-01_task-look_run-1_desc-brain_mask.nii.gz"
    save(folder / name, np.ones((2, 2, 2)), dtype=np.uint8)
    assert read(folder)["bold"].sizes["voxel"] == 24
    assert "another grid" in caplog.text


def test_a_mask_that_does_not_fit_is_refused_or_resampled(tmp_path):
    path = save(tmp_path / "a.nii", volumes())
    half = FLIPPED.copy()
    half[:, :3] /= 2
    wide = np.zeros((10, 8, 6))
    wide[:, :, :3] = 1  # z up to 5 mm: both slices' lower one
    mask = str(save(tmp_path / "m.nii", wide, affine=half, dtype=np.uint8))
    with pytest.raises(ReaderError, match=r"m\.nii.*found a grid of \(10, 8, 6\).*resample_mask"):
        read(path, mask=mask)
    assert set(read(path, mask=mask, resample_mask=True)["bold/k"].values.tolist()) == {0, 1}
    for values, match in ((np.zeros(GRID), "mask is empty"), (np.indices(GRID)[0], "threshold")):
        bad = str(save(tmp_path / "bad.nii", values, dtype=np.int16))
        with pytest.raises(ReaderError, match=match):
            read(path, mask=bad)


def test_epi_mask_is_that_of_nilearn(tmp_path):
    from nilearn.image import mean_img
    from nilearn.masking import compute_epi_mask

    grid = (16, 16, 12)
    at = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in grid), indexing="ij"))
    head = 1000.0 * (np.sum(at**2, axis=0) < 0.6)
    values = head[..., None] + volumes(6, grid=grid) / 20
    path = save(tmp_path / "a.nii.gz", values, affine=np.diag([3.0, 3, 3, 1]))
    expected = compute_epi_mask(mean_img(str(path), copy_header=True)).get_fdata().astype(bool)
    node = read(path, mask="epi")["bold"]
    assert node["bold"].shape == (6, expected.sum())
    np.testing.assert_array_equal(np.stack([node[a].values for a in "ijk"]), np.nonzero(expected))


def test_sidecar_wins_over_header_and_both_are_named(tmp_path, caplog):
    folder = tree(tmp_path / "d", n_runs=1, RepetitionTime=2.5)
    with caplog.at_level(logging.WARNING):
        assert read(folder)["bold"].attrs["repetition_time_s"] == 2.5
    assert "2.5 s in its JSON, 2 s in its header" in caplog.text


@pytest.mark.parametrize("said", ["2.0", -2.0, 0, 2000.0, True, None, float("nan"), [2.0]])
def test_impossible_repetition_times_are_refused(tmp_path, said):
    folder = tree(tmp_path / "d", n_runs=1, RepetitionTime=said)
    if said is None:  # the header speaks
        assert read(folder)["bold"].attrs["repetition_time_s"] == 2
    else:
        with pytest.raises(ReaderError, match=r"RepetitionTime.*expected seconds.*option"):
            read(folder)


def test_header_units_of_time(tmp_path):
    path = save(tmp_path / "a.nii", volumes(), tr=800.0, units="msec")
    assert read(path)["bold"].attrs["repetition_time_s"] == 0.8
    for tr, units in ((0.0, "sec"), (1.0, "unknown"), (2000.0, "sec"), (1.0, "hz")):
        bare = save(tmp_path / "b.nii", volumes(), tr=tr, units=units)
        with pytest.raises(ReaderError, match=r"no repetition time.*repetition_time_s"):
            read(bare)
        assert read(bare, repetition_time_s=1.5)["bold/time"].values[1] == 1.5


def test_runs_that_do_not_fit_are_refused(tmp_path):
    folder = tree(tmp_path / "d")
    other = folder / "sub-01/func/sub-01_task-look_run-2_bold.nii.gz"
    save(other, volumes(), affine=FLIPPED + np.eye(4, k=3))
    with pytest.raises(ReaderError, match=r"run-2_bold.*found a grid.*expected.*run-1_bold"):
        read(folder)
    save(other, volumes())
    (folder / "sub-01/func/sub-01_task-look_run-2_bold.json").write_text('{"RepetitionTime": 3}')
    with pytest.raises(ReaderError, match=r"run-2.*3 s, expected 2 s"):
        read(folder)


def test_echoes_are_not_runs(tmp_path):
    for echo in (1, 2):
        save(tmp_path / f"sub-01_task-a_echo-{echo}_bold.nii", volumes(seed=echo))
    with pytest.raises(ReaderError, match=r"echoes 1, 2.*option echo"):
        read(tmp_path)
    np.testing.assert_array_equal(
        read(tmp_path, echo=2)["bold/bold"].values, volumes(seed=2).reshape(-1, 10).T
    )


def test_embeddings_by_name(tmp_path):
    path = save(tmp_path / "a.nii", volumes())
    values = np.arange(6.0).reshape(3, 2)
    with h5py.File(tmp_path / "e.h5", "w") as file:
        file["stimulus"], file["embedding"] = ["a", "b", "c"], values
    np.save(tmp_path / "n.npy", values)
    (tmp_path / "n.tsv").write_text("stimulus\na\nb\nc\n")
    for name in ("e.h5", "n.npy"):
        node = read(path, embedding=str(tmp_path / name))["embedding"]
        assert node["stimulus"].values.tolist() == ["a", "b", "c"]
        np.testing.assert_array_equal(node["embedding"].values, values)
        assert node["embedding"].dtype == np.float32
    (tmp_path / "n.tsv").write_text("stimulus\na\nb\nb\n")
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "o.tsv").write_text("stimulus\na\n")
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["other"] = 1
    (tmp_path / "t.h5").write_bytes(b"nothing")
    for name, match in (
        ("n.npy", "'b' stands there twice"), ("o.npy", "plain numbers"), ("t.h5", "HDF5"),
        ("w.h5", "found datasets other"), ("x.h5", "found no file"), ("a.nii", "expected an emb"),
    ):  # fmt: skip
        with pytest.raises(ReaderError, match=match):
            read(path, embedding=name)


@pytest.mark.data
def test_twelve_runs_of_a_real_subject(shared_data, tmp_path):
    from nilearn.maskers import NiftiMasker

    folder = shared_data / "haxby2001_bids" / "bids"
    recording = read(folder, dataset="haxby2001")
    assert recording["bold/bold"].shape == (12 * 121, 800)
    assert recording["intervals/events"].sizes["interval"] == 96
    assert len(set(recording["intervals/events/trial_type"].values)) == 8
    assert recording["runs"].sizes["run"] == 12
    path = folder / "sub-01/func/sub-01_task-objectviewing_run-03_bold.nii.gz"
    first = nib.load(path)
    mask = nib.Nifti1Image(np.ones(first.shape[:3], np.uint8), first.affine)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what nilearn says of its own defaults
        expected = NiftiMasker(mask, standardize=None).fit().transform(str(path))
    np.testing.assert_array_equal(recording["bold/bold"].values[242:363], expected)
    write(recording, tmp_path / "a.zarr")
    xr.testing.assert_identical(recording.compute(), open_recording(tmp_path / "a.zarr").compute())
    assert json.loads(recording.attrs["history"])[0]["parameters"]["mask"] == "auto"
