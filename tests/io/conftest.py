"""Small NWB files made by pynwb, and the recordings of other laboratories where there are any."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from made_ieeg import MARKS, bids_tree, signals, tsv_beside, write_brainvision, write_edf
from pynwb import NWBHDF5IO, NWBFile
from pynwb.file import Subject

START = datetime(2024, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def nodes_of() -> Callable[[xr.DataTree], set[str]]:
    """Return a function that names the nodes of a recording that hold variables."""
    return lambda tree: {g.lstrip("/") for g in tree.groups if tree[g].variables}


@pytest.fixture(scope="session")
def add_electrodes() -> Callable[..., None]:
    """Return a function that adds a shank of electrodes in CA0, CA1, ... to an NWBFile."""

    def add(file: NWBFile, n: int = 3, depth: bool = False) -> None:
        device = file.create_device(name="probe")
        group = file.create_electrode_group("shank", "a shank", "CA1", device)
        if depth:
            file.add_electrode_column("depth", "depth, um")
        for i in range(n):
            more = {"depth": 100.0 * i} if depth else {}
            file.add_electrode(group=group, location=f"CA{i}", x=float(i), **more)

    return add


@pytest.fixture
def make_nwb(tmp_path) -> Callable[..., Path]:
    """Return a function that fills an NWBFile by a callback and writes it."""

    def make(fill: Callable[[NWBFile], None], name: str = "small.nwb", **options) -> Path:
        file = NWBFile(
            session_description="small",
            identifier=name,
            subject=Subject(
                subject_id="m1",
                species="Mus musculus",
                age="P90D",
                date_of_birth=datetime(2023, 12, 1, tzinfo=UTC),
            ),
            experimenter=["Nobody, A."],
            **{"session_id": "s1", "session_start_time": START, **options},
        )
        path = tmp_path / name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what pynwb says while it writes is not under test
            fill(file)
            with NWBHDF5IO(str(path), mode="w") as io:
                io.write(file)
        return path

    return make


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of recordings made by others, or skip."""
    named = os.environ.get("NEUROPIPE_TEST_DATA")
    if not named or not Path(named).is_dir():
        pytest.skip("NEUROPIPE_TEST_DATA names no folder of recordings")
    return Path(named)


@pytest.fixture
def human_mtl(data_dir) -> Path:
    """Return the NWB file of human single units that another laboratory wrote."""
    files = sorted((data_dir / "nwb_human_mtl").glob("*.nwb"))
    if not files:
        pytest.skip("no nwb_human_mtl among the recordings")
    return files[0]


@pytest.fixture
def small_recording() -> xr.DataTree:
    """Return a recording with one node of each plain kind, in memory."""
    seconds, one = {"units": "s"}, {"units": "1"}
    clock = {"time": ("time", np.arange(6) / 50, seconds)}
    tree = xr.DataTree.from_dict(
        {
            "/spikes": xr.Dataset(
                {
                    "spike_time": ("spike", np.array([0.1, 0.4, 0.2, 0.25]), seconds),
                    "unit_index": ("spike", np.array([0, 0, 2, 2]), one),
                }
            ),
            "/units": xr.Dataset(
                {
                    "region": ("unit", np.array(["CA1", "", "é"], dtype=object), {"units": ""}),
                    "depth": ("unit", np.array([1.0, np.nan, 3.0]), {"units": "um"}),
                    "good": ("unit", np.array([True, False, True]), one),
                    "amplitude": ("unit", np.array([1.0, 2.0, 3.0]), {"units": "uV"}),
                },
                xr.Coordinates({"unit": ("unit", np.array([3, 5, 9]), one)}),
            ),
            "/trials": xr.Dataset(
                {
                    "id": ("trial", np.arange(2), one),
                    "start_time": ("trial", np.array([0.0, 1.0]), seconds),
                    "stop_time": ("trial", np.array([0.5, 1.5]), seconds),
                    "condition": (
                        "trial",
                        np.array(["left", "right"], dtype=object),
                        {"units": ""},
                    ),
                }
            ),
            "/behavior/position": xr.Dataset(
                {
                    "x": ("time", np.array([0, 1, np.nan, 3, 4, 5.0]), {"units": "m"}),
                    "y": ("time", np.arange(6.0), {"units": "m"}),
                },
                xr.Coordinates(clock),
            ),
            "/behavior/speed": xr.Dataset(
                {"speed": ("time", np.arange(6.0), {"units": "cm/s"})}, xr.Coordinates(clock)
            ),
            "/intervals/sleep": xr.Dataset(
                {
                    "id": ("interval", np.arange(1), one),
                    "start_time": ("interval", np.array([0.0]), seconds),
                    "stop_time": ("interval", np.array([2.0]), seconds),
                }
            ),
        }
    )
    tree.attrs = {
        "dataset": "d",
        "subject": "m1",
        "session": "s1",
        "source": "",
        "sha256": "",
        "history": "[]",
        "schema_version": 1,
    }
    return tree


@pytest.fixture
def edf(tmp_path):
    """Return an EDF+ file with marks in a BIDS tree, with channels.tsv."""
    folder, base = bids_tree(tmp_path)
    path = write_edf(folder / f"{base}_ieeg.edf", signals(), marks=MARKS)
    tsv_beside(path)
    return path


@pytest.fixture
def vhdr(tmp_path):
    """Return a BrainVision recording with marks in a BIDS tree, with channels.tsv."""
    folder, base = bids_tree(tmp_path)
    marks = [(10, 1, 4), (100, 25, 7)]
    path = write_brainvision(folder, f"{base}_ieeg", signals(), marks=marks)
    tsv_beside(path)
    return path
