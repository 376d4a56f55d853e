"""Read a MATLAB file older than 7.3 whole; run as a child, for a bad file may crash scipy."""

import json
import sys
import warnings

import scipy.io


def probe(path: str) -> dict:
    """Return nothing of a whole file, else `fault`, a sentence."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scipy.io.whosmat(path)
            scipy.io.loadmat(path)
    except Exception as error:  # scipy raises whatever the damaged byte led to
        return {"fault": f"found what scipy cannot read ({type(error).__name__}: {error})"}
    return {}


if __name__ == "__main__":
    json.dump(probe(sys.argv[1]), sys.stdout)
