"""BOLD in: the runs of one BIDS session, or a bare NIfTI file, as a lazy recording."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neuropipe import __version__
from neuropipe.errors import ConfigError, ReaderError
from neuropipe.io import bids, nifti
from neuropipe.io.confounds import node_of, read_confounds
from neuropipe.io.embedding import read_embedding
from neuropipe.io.manifest import sha256_of_files
from neuropipe.io.nifti import Volumes
from neuropipe.io.physio import physio_of
from neuropipe.io.pictures import read_pictures
from neuropipe.io.runs import Run, joined, starts
from neuropipe.io.sidecars import events
from neuropipe.schema import SCHEMA_VERSION, Recording

log = logging.getLogger(__name__)

SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
# No scanner takes this long for a volume: such a number is in milliseconds.
SLOWEST_S = 100.0
# A header holds float32, so it agrees with its sidecar no closer than this.
SAME_S = 1e-4


def read(
    path: str | Path | Sequence[str | Path],
    *,
    dataset: str = "",
    session: str = "",
    subject: str = "",
    sha256: str = "",
    mask: str = "auto",
    resample_mask: bool = False,
    drop_volumes: int = 0,
    repetition_time_s: float | None = None,
    echo: int = 0,
    embedding: str = "",
    text_embedding: str = "",
    pictures: str = "",
) -> Recording:
    """Read the BOLD runs of one session as a lazy recording.

    Blocks of volumes are read when they are asked for, scaled as the header says; the voxels of
    the mask stand in the order of numpy (last grid index fastest), as in nilearn.

    Parameters
    ----------
    path : a `.nii` or `.nii.gz`, whose companions are found on disk; a folder, or several files,
        which then are the session
    dataset, session, subject : names for the root; empty takes those of the file names
    sha256 : of the files, where it is known; empty computes it
    mask : which voxels are kept
        ``auto``: the brain mask of the tree that has the same space and grid, of several runs the
        voxels in all their masks, else every voxel; ``epi``: nilearn's compute_epi_mask on the mean
        of all volumes, which reads them once; ``none``; or a file, relative to the data set's root.
    resample_mask : lay a mask of another grid on this one, nearest voxel, instead of refusing it
    drop_volumes : volumes to leave out at the start of each run; the others keep their times
    repetition_time_s : overrules sidecar and header
    echo : which echo to read, where runs have several; 0 expects one
    embedding : file of the stimuli's features, relative to the data set's root; see
        `neuropipe.io.embedding`
    text_embedding : the same of the features of their captions
    pictures : folder of the stimuli's pictures, relative to the data set's root; see
        `neuropipe.io.pictures`

    Returns
    -------
    DataTree
        Nodes bold and runs; confounds, intervals/events, behavior/<signal> of physio and stim
        files, embedding, text_embedding and stimulus/pictures where there are any. NaN voxels and
        voxels without variance are kept: `select_voxels` leaves them out.

    Raises
    ------
    ReaderError
        Names file, what was found, what was expected and what to do.
    ConfigError
        An option is out of range.
    """
    if drop_volumes < 0 or (repetition_time_s is not None and not repetition_time_s > 0):
        raise ConfigError(
            f"reader bold: drop_volumes {drop_volumes}, repetition_time_s {repetition_time_s}; "
            "expected 0 or more, and a positive number"
        )
    given = [Path(p) for p in ([path] if isinstance(path, str | Path) else path)]
    for one in given:
        if one.name.lower().endswith(nifti.SURFACES):
            nifti.open_volumes(one)
    files = bids.session_files(path, "bold")
    recordings = _one_echo(files.recordings, echo)
    where = str(recordings[0])
    opened = {one: nifti.open_volumes(one) for one in recordings}
    _refuse_other_grids(opened)
    for one, volumes in opened.items():
        if drop_volumes >= volumes.count:
            raise ReaderError(
                f"{one}: found {volumes.count} volumes, expected more than drop_volumes "
                f"{drop_volumes}; lower it"
            )
    kept, source = _mask(mask, files, opened, resample_mask)
    sidecars = {one: bids.sidecar(files.companions, one) for one in recordings}
    confounds = read_confounds(files.companions, {p: v.count for p, v in opened.items()})
    begun = starts(files.companions, recordings)
    coords = _voxels(kept, opened[recordings[0]])
    first_s = None
    runs = []
    for one, start_s in zip(recordings, begun, strict=True):
        tr_s = repetition_time_s or repetition_time(one, sidecars[one], opened[one])
        first_s = tr_s if first_s is None else first_s
        if abs(tr_s - first_s) > SAME_S * first_s:
            raise ReaderError(
                f"{one}: found a repetition time of {tr_s:g} s, expected {first_s:g} s as in "
                f"{recordings[0].name}; give these runs a session_id of their own in the manifest"
            )
        label = bids.Name(one).entities.get("run") or one.name.removesuffix(".gz")[: -len(".nii")]
        nodes = _nodes(one, opened[one], kept, coords, first_s, drop_volumes)
        nodes["bold"].attrs |= _described(one, sidecars[one], opened[one], first_s, source)
        if confounds:
            rows = confounds[one].iloc[drop_volumes:]
            nodes["confounds"] = node_of(rows, nodes["bold"]["time"].variable)
        table = bids.best(files.companions, one, "events", ".tsv")
        if table is not None:
            nodes["intervals/events"] = events(table, label)
        duration_s = opened[one].count * first_s
        nodes |= physio_of(files.companions, one, duration_s)
        runs.append(Run(label, duration_s, nodes, start_s))
    built = joined(runs, where)
    for name, option in (("embedding", embedding), ("text_embedding", text_embedding)):
        if option:
            built[name] = read_embedding(_option_file(option, name, files))
    if pictures:
        built["stimulus/pictures"] = read_pictures(_option_file(pictures, "pictures", files))
    recording = xr.DataTree.from_dict({f"/{name}": node for name, node in built.items()})
    parameters = {
        "mask": Path(mask).name, "resample_mask": resample_mask, "drop_volumes": drop_volumes,
        "repetition_time_s": repetition_time_s, "echo": echo, "embedding": Path(embedding).name,
        "text_embedding": Path(text_embedding).name, "pictures": Path(pictures).name,
    }  # fmt: skip
    history = [{"name": "read_bold", "parameters": parameters, "version": __version__}]
    recording.attrs = {
        "dataset": dataset,
        "subject": subject or files.subject,
        "session": session or files.session_id,
        "source": ", ".join(one.name for one in recordings),
        "sha256": sha256 or sha256_of_files([*recordings, *files.companions]),
        "history": json.dumps(history),
        "schema_version": SCHEMA_VERSION,
    }
    return recording


def repetition_time(path: Path, sidecar: Mapping[str, Any], volumes: Volumes) -> float:
    """Return the seconds between volumes: what the sidecar says, else the header.

    Raises
    ------
    ReaderError
        Neither says it, or it is no possible number of seconds.
    """
    said = sidecar.get("RepetitionTime")
    header = volumes.step * SECONDS.get(volumes.step_unit, np.nan)
    do = "mend it, or give option repetition_time_s"
    if said is not None:
        if isinstance(said, bool) or not isinstance(said, int | float) or not 0 < said < SLOWEST_S:
            raise ReaderError(
                f"{path}: its JSON has RepetitionTime {said!r}, expected seconds, a number above 0 "
                f"and below {SLOWEST_S:g}; {do}"
            )
        if header > 0 and abs(header - said) > max(SAME_S * said, 1e-6):
            log.warning(
                "%s: RepetitionTime %g s in its JSON, %g s in its header; the JSON's is used",
                path, said, header,
            )  # fmt: skip
        return float(said)
    if "VolumeTiming" in sidecar:
        raise ReaderError(
            f"{path}: its JSON has VolumeTiming (sparse sampling), expected RepetitionTime; "
            "volumes at unequal times are not read"
        )
    if not 0 < header < SLOWEST_S:
        raise ReaderError(
            f"{path}: found no repetition time: no JSON has RepetitionTime, and the header says "
            f"{volumes.step:g} with unit {volumes.step_unit!r}, expected a number above 0 in sec, "
            "msec or usec; give option repetition_time_s, or a JSON of the same name"
        )
    # the header's float32 of 2.2 is 2.2000000477 as float64
    return float(np.format_float_positional(np.float32(header), unique=True))


def _one_echo(recordings: Sequence[Path], echo: int) -> list[Path]:
    echoes = {one: bids.Name(one).entities.get("echo", "") for one in recordings}
    if echo:
        kept = [one for one, found in echoes.items() if found.isdigit() and int(found) == echo]
        if not kept:
            raise ReaderError(
                f"{recordings[0]}: found echoes {', '.join(sorted(set(echoes.values()))) or 'none'}"
                f", expected {echo}; check option echo"
            )
        return kept
    if len(set(echoes.values())) > 1:
        raise ReaderError(
            f"{recordings[0]}: found echoes {', '.join(sorted(set(echoes.values())))} of one run, "
            "expected one; combine them first, or choose one with option echo"
        )
    return list(recordings)


def _refuse_other_grids(opened: Mapping[Path, Volumes]) -> None:
    (name, first), *rest = opened.items()
    for one, volumes in rest:
        if not nifti.same_grid(volumes.grid, volumes.affine, first):
            raise ReaderError(
                f"{one}: found a grid of {volumes.grid} with affine "
                f"{np.round(volumes.affine[:3], 4).tolist()}, expected {first.grid} with "
                f"{np.round(first.affine[:3], 4).tolist()} as in {name.name}; align the runs first "
                "(fMRIPrep does), or give them a session_id of their own in the manifest"
            )


def _mask(
    mask: str, files: bids.Session, opened: Mapping[Path, Volumes], resample: bool
) -> tuple[np.ndarray, str]:
    """Return the kept voxels, (i, j, k) boolean, and a word on where that comes from."""
    like = next(iter(opened.values()))
    if mask == "none":
        return np.ones(like.grid, bool), "none"
    if mask == "epi":
        return _epi(opened, like), "epi"
    if mask != "auto":
        path = _option_file(mask, "mask", files)
        return nifti.read_mask(path, like, resample), path.name
    found = dict.fromkeys(_brain_mask(files.companions, one, like) for one in opened)
    paths = [path for path in found if path is not None]
    if not paths:
        return np.ones(like.grid, bool), "none"
    kept = np.logical_and.reduce([nifti.read_mask(path, like) for path in paths])
    if not kept.any():
        raise ReaderError(f"{paths[0]}: found no voxel in all {len(paths)} masks; give one as mask")
    return kept, ", ".join(path.name for path in paths)


def _brain_mask(files: Sequence[Path], recording: Path, like: Volumes) -> Path | None:
    space = bids.Name(recording).entities.get("space")
    near = [one for one in files if bids.Name(one).entities.get("space") == space]
    path = bids.best(near, recording, "mask", ".nii", ".nii.gz", desc="brain")
    if path is None:
        return None
    if not nifti.same_grid(*_placed(path), like):
        log.warning("%s: brain mask on another grid than %s, left aside", path, recording.name)
        return None
    return path


def _placed(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    values, affine = nifti.read_volume(path)
    return values.shape, affine


def _epi(opened: Mapping[Path, Volumes], like: Volumes) -> np.ndarray:
    import nibabel as nib
    from nilearn.masking import compute_epi_mask

    total, count = np.zeros(like.shape[1]), 0
    for volumes in opened.values():
        for _, piece in volumes.pieces():
            total += piece.sum(axis=0, dtype=np.float64)
            count += len(piece)
    mean = (total / count).astype(np.float32).reshape(like.grid, order="F")
    try:
        found = compute_epi_mask(nib.Nifti1Image(mean, like.affine))
    except Exception as error:
        raise ReaderError(
            f"{like.path}: nilearn finds no brain in its mean ({error}); give a mask, or none"
        ) from error
    return np.asarray(found.dataobj).astype(bool)


def _option_file(name: str, option: str, files: bids.Session) -> Path:
    root = bids.root_of(files.recordings[0]) or files.recordings[0].parent
    beside = [one for one in files.companions if one.name == name]
    places = [*beside, root / name, Path(name).absolute()]
    kind = "folder" if option == "pictures" else "file"
    there = Path.is_dir if kind == "folder" else Path.is_file
    found = next((one for one in places if there(one)), None)
    if found is None:
        raise ReaderError(
            f"{root / name}: found no {kind}, expected what option {option} names; check it"
        )
    return found


def _voxels(kept: np.ndarray, like: Volumes) -> dict[str, tuple]:
    index = np.nonzero(kept)
    world = like.affine[:3, :3] @ np.array(index, float) + like.affine[:3, 3:]
    return {
        **{
            a: ("voxel", i.astype(np.int32), {"units": "1"})
            for a, i in zip("ijk", index, strict=True)
        },
        **{a: ("voxel", w, {"units": "mm"}) for a, w in zip("xyz", world, strict=True)},
    }


def _nodes(
    path: Path, volumes: Volumes, kept: np.ndarray, coords: dict, tr_s: float, drop: int
) -> dict[str, xr.Dataset]:
    inside = np.ravel_multi_index(np.nonzero(kept), volumes.grid, order="F")
    time = ("time", np.arange(drop, volumes.count) * tr_s, {"units": "s"})
    part = nifti.lazy(replace(volumes, voxels=inside, first=drop))
    variable = (("time", "voxel"), part, {"units": "1"})
    return {"bold": xr.Dataset({"bold": variable}, {"time": time, **coords})}


def _described(
    path: Path, sidecar: Mapping[str, Any], volumes: Volumes, tr_s: float, mask: str
) -> dict[str, Any]:
    entities = bids.Name(path).entities
    said = sidecar.get("SpatialReference")
    begun = sidecar.get("StartTime") if sidecar.get("SliceTimingCorrected") else None
    return {
        "affine": volumes.affine.ravel().tolist(),
        "grid_shape": [int(n) for n in volumes.grid],
        "repetition_time_s": tr_s,
        # what a volume shows happened this long after its onset, once slice times are corrected
        "reference_time_s": float(begun) if isinstance(begun, int | float) else 0.0,
        "space": entities.get("space") or (said if isinstance(said, str) else "native"),
        "task": entities.get("task", ""),
        "mask": mask,
    }
