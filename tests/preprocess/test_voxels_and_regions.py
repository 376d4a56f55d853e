"""Volumes dropped, voxels chosen, regions averaged: as nilearn has them."""

import dask.array as da
import nibabel as nib
import numpy as np
import pytest
from made_bold import AFFINE, GRID, bold, image, noise, with_confounds

from neuropipe.errors import DataError
from neuropipe.preprocess.average_regions import average_regions
from neuropipe.preprocess.drop_volumes import drop_volumes
from neuropipe.preprocess.select_voxels import select_voxels

ATLAS = np.arange(24, dtype=np.int16).reshape(GRID) // 5 * 10  # 0, 10, 20, 30, 40


def test_dropped_volumes_leave_the_clock_as_it_was():
    values = noise(20)
    made = with_confounds(bold(values, runs=2, gap_s=3.0, chunks=(7, 24)), csf=np.arange(20))
    out = drop_volumes(made, n_volumes=3)
    keep = np.r_[3:10, 13:20]
    np.testing.assert_array_equal(out["bold/bold"].values, values[keep])
    np.testing.assert_array_equal(out["bold/time"], made["bold/time"].values[keep])
    np.testing.assert_array_equal(out["confounds/confound_value"].values[:, 0], keep)
    assert isinstance(out["bold/bold"].data, da.Array)
    np.testing.assert_array_equal(
        drop_volumes(out, n_volumes=1)["bold/bold"].values, values[np.r_[4:10, 14:20]]
    )
    with pytest.raises(DataError, match="has 10 volumes, expected more than n_volumes 10"):
        drop_volumes(made, n_volumes=10)
    with pytest.raises(DataError, match="n_volumes is -1"):
        drop_volumes(made, n_volumes=-1)


def test_voxels_by_mask_atlas_and_variance(tmp_path):
    values = noise(20)
    values[:, 2], values[3, 7], values[10:, 9] = 5.0, np.nan, 5.0
    made = bold(values, runs=2, chunks=(6, 5))
    mask = np.zeros(GRID, np.uint8)
    mask[1:3] = 1
    out = select_voxels(made, mask=image(tmp_path / "m.nii.gz", mask))["bold"]
    np.testing.assert_array_equal(out["bold"].values, values[:, mask.ravel() == 1])
    assert set(out["i"].values.tolist()) == {1, 2}
    path = image(tmp_path / "a.nii.gz", ATLAS)
    out = select_voxels(made, atlas=path, labels=[10, 40])["bold"]
    np.testing.assert_array_equal(out["bold"].values, values[:, np.isin(ATLAS.ravel(), [10, 40])])
    assert select_voxels(made, atlas=path)["bold"].sizes["voxel"] == (ATLAS != 0).sum()
    out = select_voxels(made, min_variance=0.0)["bold"]
    assert set(range(24)) - set(np.ravel_multi_index([out[a] for a in "ijk"], GRID)) == {2, 7, 9}
    assert isinstance(out["bold"].data, da.Array)


def test_voxels_that_cannot_be_chosen(tmp_path):
    made = bold(noise(9))
    path = image(tmp_path / "a.nii", ATLAS)
    (tmp_path / "bad.nii").write_bytes(b"x" * 400)
    for options, match in (
        ({}, "nothing to select by"),
        ({"labels": [1]}, "labels without atlas"),
        ({"atlas": path, "labels": [11]}, "no voxel of the recording has label 11"),
        ({"mask": str(tmp_path / "no.nii")}, "found no file"),
        ({"mask": str(tmp_path / "bad.nii")}, "cannot be read"),
        ({"mask": image(tmp_path / "z.nii", ATLAS * 0)}, "no voxel of 24 is left"),
        ({"min_variance": 1e9}, "no voxel of 24 is left"),
        ({"mask": image(tmp_path / "f.nii", ATLAS, np.eye(4))}, "found a grid.*resample"),
    ):
        with pytest.raises(DataError, match=match):
            select_voxels(made, **options)


def test_a_finer_mask_is_laid_on_the_grid_when_asked(tmp_path):
    fine = AFFINE @ np.diag([0.5, 0.5, 0.5, 1])
    mask = np.kron(ATLAS == 20, np.ones((2, 2, 2))).astype(np.uint8)
    shift = np.eye(4)
    shift[:3, 3] = -0.25  # the finer voxels' centres lie beside those of the coarse
    path = image(tmp_path / "f.nii", mask, fine @ shift)
    out = select_voxels(bold(noise(9)), mask=path, resample=True)["bold"]
    assert sorted(np.ravel_multi_index([out[a] for a in "ijk"], GRID)) == list(range(10, 15))


def test_regions_are_those_of_nilearn(tmp_path):
    from nilearn.maskers import NiftiLabelsMasker

    values = noise(20)
    path = image(tmp_path / "a.nii.gz", ATLAS)
    (tmp_path / "a.tsv").write_text("index\tname\n10\tV1\n20\tV2\n30\tV3\n50\tabsent\n")
    out = average_regions(bold(values, chunks=(7, 9)), atlas=path, names=str(tmp_path / "a.tsv"))
    node = out["regions"]
    assert node["region"].values.tolist() == ["V1", "V2", "V3", "40"]
    assert node["n_voxels"].values.tolist() == [5, 5, 5, 4]
    assert isinstance(node["region_signal"].data, da.Array)
    series = nib.Nifti1Image(np.moveaxis(values.reshape(20, *GRID), 0, -1), AFFINE)
    masker = NiftiLabelsMasker(path, strategy="mean", standardize=None)
    np.testing.assert_allclose(
        node["region_signal"].values, masker.fit_transform(series), rtol=1e-6
    )
    world = nib.affines.apply_affine(AFFINE, np.argwhere(ATLAS == 20).mean(axis=0))
    np.testing.assert_allclose([node[a].values[1] for a in "xyz"], world)
    with pytest.raises(DataError, match="no voxel of the recording lies in a region"):
        average_regions(bold(values), atlas=image(tmp_path / "z.nii", ATLAS * 0))
    with pytest.raises(DataError, match="columns index and name"):
        average_regions(bold(values), atlas=path, names=path)
