"""Look through an HDF5 file and print what it is; run as a child, for a bad file may crash it."""

import json
import sys

import h5py


def probe(path: str) -> dict:
    """Return the NWB version of a file after touching every object and single value in it.

    What pynwb reads first, its specifications, are single values; a spoiled heap can hold it there.

    Parameters
    ----------
    path : the file

    Returns
    -------
    dict
        `version`, text or None; or `fault`, a sentence.
    """
    if not h5py.is_hdf5(path):
        with open(path, "rb") as stream:
            head = stream.read(8)
        return {"fault": f"found no HDF5 signature (first bytes {head!r})"}
    try:
        with h5py.File(path, "r") as file:
            version = file.attrs.get("nwb_version")
            if version is None and "nwb_version" in file:
                version = file["nwb_version"][()]
            file.visititems(_touch)
    except (OSError, RuntimeError, KeyError) as error:
        return {"fault": f"found damage ({error})"}
    return {"version": version.decode() if isinstance(version, bytes) else version}


def _touch(name: str, item: h5py.Group | h5py.Dataset) -> None:
    if isinstance(item, h5py.Dataset) and item.shape == ():
        item[()]


if __name__ == "__main__":
    json.dump(probe(sys.argv[1]), sys.stdout)
