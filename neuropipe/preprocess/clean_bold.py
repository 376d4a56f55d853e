"""BOLD without drift and confounds, run by run, in percent of the mean."""

from __future__ import annotations

import dask.array as da
import numpy as np

from neuropipe.errors import DataError
from neuropipe.preprocess.nuisance import confound_columns, kept_volumes, nuisance_basis
from neuropipe.preprocess.signals import node_dataset, replaced, second_pass
from neuropipe.preprocess.weighted_sums import weighted_sums, without
from neuropipe.runs import run_slices
from neuropipe.schema import Recording


def clean_bold(
    recording: Recording,
    *,
    confounds: str | list[str] = "none",
    high_pass_hz: float = 0.008,
    detrend: bool = True,
    scrub_fd_mm: float | None = None,
    percent_signal: bool = True,
) -> Recording:
    """Take line, slow cosines and confounds out of `bold`, within each run, in one regression.

    Parameters
    ----------
    recording : DataTree
        With node `bold`, and `confounds` where some are to be taken out.
    confounds : str or list of str
        Columns of node `confounds`, and strategies: ``motion6``, ``motion24``, ``wm_csf``,
        ``global``, ``acompcor`` (the first six), ``scrub`` (one column for each volume that the
        source calls an outlier), ``none``.
    high_pass_hz : float
        Cosines up to this frequency are taken out; 0 takes none.
    detrend : bool
        Take out mean and line.
    scrub_fd_mm : float, optional
        Volumes whose framewise displacement is above this are left out of the regression and NaN
        in the result; variable `kept` (time) of the node says which.
    percent_signal : bool
        In percent of each voxel's mean over the run's volumes that count (NaN where that mean is
        0); else in the units of the source. A signal that is in percent already stays as it is.

    Raises
    ------
    DataError
        Unknown confounds, n/a among them, or more columns than volumes.

    Notes
    -----
    Lazy: the signal is read twice, block by block; memory does not grow with the length of a run.
    Everything stands in one design, so no later filter brings back what an earlier one took
    (Lindquist et al. 2019, Hum. Brain Mapp. 40:2358). The numbers are those of nilearn's
    signal.clean(filter="cosine"); with scrubbing its line runs over the volumes that are left,
    ours over true time. There is no low-pass: the cosines above a cut-off are most of a run's
    degrees of freedom. A voxel that is NaN in a volume that counts is NaN throughout.
    A regression that sees a whole run sees the held-out trials of it too: split by run.
    """
    node = node_dataset(recording, "bold", "clean_bold")
    columns = confound_columns(recording, confounds, "clean_bold")
    values = da.asarray(node["bold"].data)
    if values.dtype.kind != "f":
        values = values.astype(np.float32)
    percent = percent_signal and node["bold"].attrs["units"] != "%"
    parts, all_kept = [], []
    for run in run_slices(recording, "bold"):
        kept = kept_volumes(recording, node, run, scrub_fd_mm, "clean_bold")
        if not kept.any():
            raise DataError(
                f"clean_bold: session {recording.attrs.get('session')}: no volume of "
                f"{run.start} to {run.stop - 1} counts; raise scrub_fd_mm"
            )
        basis = nuisance_basis(
            recording, node, run, kept, columns=columns, high_pass_hz=high_pass_hz,
            constant=detrend, trend=detrend, step="clean_bold",
        )  # fmt: skip
        parts.append(_cleaned(values[run], basis, kept, percent, detrend))
        all_kept.append(kept)
    attrs = dict(node["bold"].attrs)
    if percent:
        attrs["units"] = "%"
    node["bold"] = (("time", "voxel"), da.concatenate(parts), attrs)
    kept = np.concatenate(all_kept)
    if not kept.all():
        meaning = {"units": "1", "long_name": "volume counts; bold is NaN where it does not"}
        node["kept"] = ("time", da.from_array(kept, chunks=-1), meaning)
    return replaced(recording, "bold", node)


def _cleaned(
    values: da.Array, basis: np.ndarray, kept: np.ndarray, percent: bool, centred: bool
) -> da.Array:
    mean = kept / kept.sum()
    sums = weighted_sums(values, np.column_stack([mean, basis]))
    # the mean goes too where percent is asked of a signal that kept it
    level = np.zeros(len(kept)) if centred or not percent else np.ones(len(kept))
    basis = np.column_stack([level, basis])
    return without(second_pass(values, sums), basis, sums, kept, percent)
