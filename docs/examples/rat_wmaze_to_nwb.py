"""Turn a laboratory's own files into NWB: MatClust clusters and a Trodes position track.

Usage: python rat_wmaze_to_nwb.py FOLDER OUT.nwb, with FOLDER holding `spikes.mat` and
`trajectory.videoPositionTracking` (the W-maze example of nelpy/example-data). Then
`neuropipe manifest` on the folder of OUT.nwb, as for any recording. Position stays in pixels,
for the file says no scale.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pynwb import NWBHDF5IO, NWBFile
from pynwb.behavior import Position, SpatialSeries
from pynwb.file import Subject
from scipy.io import loadmat

END = b"<End settings>\n"
RECORD = np.dtype([("time", "<u4"), ("x", "<u2"), ("y", "<u2"), ("x2", "<u2"), ("y2", "<u2")])


def clusters(path):
    """Yield tetrode, cluster and spike times in seconds; unsorted and empty cells are left out."""
    tetrodes = loadmat(path)["spikes"].item().item()
    for tetrode, cells in enumerate(tetrodes.flat, start=1):
        for cluster, cell in enumerate(cells.flat, start=1):
            if cell.size and cell["time"].item().size:
                yield tetrode, cluster, cell["time"].item().ravel().astype(float)


def positions(path):
    """Return times in seconds and the pixels of the one tracked light."""
    content = path.read_bytes()
    at = content.index(END)
    settings = dict(line.split(": ", 1) for line in content[:at].decode().splitlines()[1:])
    body = content[at + len(END) :]
    rows = np.frombuffer(body[: len(body) // RECORD.itemsize * RECORD.itemsize], RECORD)
    return rows["time"] / float(settings["clockrate"]), np.stack([rows["x"], rows["y"]], 1)


def convert(folder, target):
    """Write one NWB file of the session."""
    file = NWBFile(
        session_description="Rat on a W-maze, run and rest in turn",
        identifier="nelpy-w-maze",
        session_start_time=datetime(1970, 1, 1, tzinfo=UTC),  # the files do not say when
        session_id="w-maze",
        subject=Subject(subject_id="rat", species="Rattus norvegicus", sex="U"),
    )
    file.add_unit_column("tetrode", "tetrode that the cluster was cut on")
    file.add_unit_column("cluster", "number of the cluster on its tetrode")
    for tetrode, cluster, times in clusters(folder / "spikes.mat"):
        file.add_unit(spike_times=times, tetrode=tetrode, cluster=cluster)
    times, pixels = positions(folder / "trajectory.videoPositionTracking")
    track = SpatialSeries(
        name="position", data=pixels.astype(float), timestamps=times, unit="pixels",
        reference_frame="camera image, origin top left",
    )  # fmt: skip
    behavior = file.create_processing_module("behavior", "tracked position")
    behavior.add(Position(spatial_series=track))
    with NWBHDF5IO(str(target), "w") as out:
        out.write(file)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
