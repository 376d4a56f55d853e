"""Where contacts lie: millimetres, spaces, and what is left out."""

import json

import numpy as np
import pytest
from made_ieeg import table

from neuropipe.errors import ReaderError
from neuropipe.io.ieeg import read


def electrodes(edf, space, unit, rows, system="Other"):
    tag = f"_space-{space}" if space else ""
    base = edf.parent / f"sub-01{tag}"
    table(edf.with_name(f"{base.name}_electrodes.tsv"), ("name", "x", "y", "z", "region"), rows)
    content = {"iEEGCoordinateSystem": system, "iEEGCoordinateUnits": unit}
    edf.with_name(f"{base.name}_coordsystem.json").write_text(json.dumps(content))


ROWS = [("A1", 1, 2, 3, "STG"), ("B1", 4, 5, "n/a", "n/a"), ("REF", 0, 0, 0, "n/a")]


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1), ("cm", 10), ("m", 1000)])
def test_places_in_millimetres(edf, unit, factor):
    electrodes(edf, "", unit, ROWS)
    node = read(edf)["ieeg"]
    np.testing.assert_allclose(node.x, np.array([1, np.nan, 4, np.nan]) * factor)
    np.testing.assert_allclose(node.z, np.array([3, np.nan, np.nan, np.nan]) * factor)
    assert node.region.values.tolist() == ["STG", "", "", ""]
    assert node.x.attrs["units"] == "mm"


def test_spaces(edf, caplog):
    electrodes(edf, "Image", "pixels", ROWS)
    assert "x" not in read(edf)["ieeg"].coords
    assert "found units 'pixels'" in caplog.text
    electrodes(edf, "MNI152Lin", "mm", ROWS)
    electrodes(edf, "fsaverage", "m", ROWS)
    first = read(edf)["ieeg"]
    assert first.x[0] == 1
    assert "choose with space=" in caplog.text
    assert read(edf, space="fsaverage")["ieeg"].x[0] == 1000
    with pytest.raises(ReaderError, match="found units 'pixels'"):
        read(edf, space="Image")
    with pytest.raises(ReaderError, match=r"'Image', 'MNI152Lin', 'fsaverage', expected.*'xyz'"):
        read(edf, space="xyz")
