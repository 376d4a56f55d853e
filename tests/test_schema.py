"""The catalogue and its check: every fault of a recording in one message."""

import numpy as np
import pytest
import xarray as xr

from neuropipe.errors import SchemaError
from neuropipe.schema import KINDS, NODES, declared, kind_of, validate


def recording(**nodes):
    tree = {"/": xr.Dataset(attrs={"session": "made-7"})}
    return xr.DataTree.from_dict(tree | {f"/{name}": node for name, node in nodes.items()})


def counts(units="1", dtype=np.uint16, dims=("time", "unit")):
    return xr.Dataset(
        {"spike_count": (dims, np.zeros((3, 2), dtype), {"units": units})},
        {"time": ("time", np.arange(len(dims) + 1.0)[: 3 if dims[0] == "time" else 2],
                  {"units": "s"})},
    )  # fmt: skip


def test_a_sound_node():
    validate(recording(counts=counts()), "counts")


@pytest.mark.parametrize(
    ("node", "fault"),
    [
        (counts(units="Hz"), "counts/spike_count: units 'Hz', expected '1'"),
        (counts(dtype=float), "counts/spike_count: dtype float64, expected integer"),
        (counts(dims=("unit", "time")), "dims .'unit', 'time'., expected .'time', 'unit'."),
        (xr.Dataset({"spike_count": (("time", "unit"), np.zeros((3, 2), int))}),
         "counts/time: missing; .*spike_count: no units"),
    ],
)  # fmt: skip
def test_faults_name_place_found_and_expected(node, fault):
    with pytest.raises(SchemaError, match=f"recording made-7: .*{fault}"):
        validate(recording(counts=node), "counts")


def test_all_faults_come_together():
    node = counts(units="Hz", dtype=float)
    node["time"].attrs["units"] = "ms"
    node["extra"] = ("time", np.zeros(3))
    with pytest.raises(SchemaError) as caught:
        validate(recording(counts=node), "counts", "trials")
    text = str(caught.value)
    for fault in (
        "counts/time: units 'ms'",
        "counts/spike_count: units 'Hz'",
        "counts/spike_count: dtype float64",
        "counts/extra: no units",
        "trials: node missing; this recording has counts",
    ):
        assert fault in text


def test_an_unknown_node_lists_the_catalogue():
    with pytest.raises(SchemaError, match="unknown node 'spike'; the catalogue has band_power"):
        validate(recording(), "spike")
    with pytest.raises(SchemaError, match="unknown node 'counts/x'"):
        declared("counts/x")


def test_families_hold_for_each_member():
    assert declared("calcium/plane0") is NODES["calcium/*"]
    assert declared("behavior") is NODES["behavior"]
    assert declared("intervals/laser") is NODES["intervals/*"]


def test_optional_variables_are_checked_when_there():
    node = counts()
    node["observed"] = ("time", np.ones(3), {"units": "1"})
    with pytest.raises(SchemaError, match="counts/observed: dtype float64, expected boolean"):
        validate(recording(counts=node), "counts")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.zeros(1, "f4"), "f"),
        (np.zeros(1, "u2"), "i"),
        (np.zeros(1, bool), "b"),
        (np.array(["a"]), "s"),
        (np.array(["a"], object), "s"),
    ],
)
def test_kinds(values, kind):
    assert kind_of(xr.DataArray(values)) == kind


def test_the_catalogue_is_whole():
    for node, variables in NODES.items():
        for name, var in variables.items():
            assert var.dims, (node, name)
            assert set(var.kind) <= set(KINDS), (node, name)
            assert len(var.meaning) > 5, (node, name)
