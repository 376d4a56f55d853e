"""What holds for every step: its name, its parameters, its entry in the history, its input."""

import inspect
import json
import subprocess
import sys

import numpy as np
import pytest
from made_bold import GRID, bold, image, noise
from made_session import session, with_calcium, with_events, with_series, with_table
from made_voltages import ieeg

from neuropipe import __version__
from neuropipe.errors import ConfigError
from neuropipe.preprocess import STEPS, apply_steps, check_steps, parameters_of, resolve

# One honest call of each step, in an order that works.
CALLS = {
    "select_units": {"where": {"unit": [100, 101]}},
    "bin_spikes": {"bin_width_s": 0.1, "start_s": 0.0, "stop_s": 2.0},
    "smooth_rate": {"sd_s": 0.2},
    "resample_behavior": {"signals": ["speed"]},
    "add_speed": {"signals": ["speed"], "name": "pace"},
    "mark_intervals": {"table": "laser", "name": "laser"},
    "cut_trials": {"table": "laser"},
    "delta_f": {"series": "ca1", "window_s": 1.0},
    "detrend_signal": {"node": "calcium/ca1", "variable": "fluorescence"},
    "standardize": {"node": "calcium/ca1", "variable": "dff", "over": "laser"},
    "align_clock": {"nodes": [], "pulses": "p", "reference": "r", "max_residual_s": 0.1},
    "select_channels": {"drop_bad": True},
    "rereference": {"scheme": "average"},
    "filter_signal": {"low_hz": 4.0},
    "resample_signal": {"rate_hz": 200.0},
    "band_power": {"bands": {"alpha": [8, 12]}, "rate_hz": 20.0},
    "mark_artifacts": {"amplitude_v": 1e-3},
    "drop_volumes": {"n_volumes": 1},
    "select_voxels": {"min_variance": 0.0},
    "average_regions": {"atlas": "written by a fixture"},
    "clean_bold": {"high_pass_hz": 0.02},
    "single_trial": {"table": "laser"},
    "embed_names": {"table": "laser", "column": "colour", "extractor": "one_hot"},
}


def recording():
    made = session([[0.1, 0.3], [0.2], [1.9]], lazy=True)
    made = with_series(made, "speed", np.arange(40) / 20, np.arange(40))
    made = with_calcium(made, "ca1", 100 + np.arange(80.0).reshape(40, 2))
    made = with_events(with_events(made, "p", [0.0, 0.5, 1.5]), "r", [0.1, 0.6, 1.6])
    scanned = bold(noise(20), chunks=(6, 24))
    made["bold"], made["runs"] = scanned["bold"], scanned["runs"]
    made["ieeg"] = ieeg(1e-5 * np.random.default_rng(0).standard_normal((600, 3)))["ieeg"]
    return with_table(made, "laser", [0.5, 1.0], [0.7, 1.2], colour=["blue", "red"])


@pytest.fixture(autouse=True, scope="module")
def _atlas(tmp_path_factory):
    path = tmp_path_factory.mktemp("atlas") / "atlas.nii"
    CALLS["average_regions"]["atlas"] = image(path, np.ones(GRID, np.int16))


def test_every_step_is_called_here():
    assert list(CALLS) == list(STEPS)


@pytest.mark.parametrize("name", STEPS)
def test_contract(name):
    """A step is one function of its file's name, with keywords only and a docstring."""
    step = resolve(name)
    assert step.__name__ == name == step.__module__.rpartition(".")[2]
    first, *rest = inspect.signature(step).parameters.values()
    assert first.name == "recording"
    assert all(p.kind is p.KEYWORD_ONLY for p in rest)
    assert {p.name: p.default is p.empty for p in rest} == parameters_of(name)
    assert all(p.name in inspect.getdoc(step) for p in rest)


def test_history_and_input():
    before = recording()
    out = apply_steps(before, [{"step": n, **p} for n, p in CALLS.items()])
    history = json.loads(out.attrs["history"])
    assert history == [
        {"name": n, "parameters": p, "version": __version__} for n, p in CALLS.items()
    ]
    assert out.attrs["session"] == "made-7"
    assert json.loads(before.attrs["history"]) == []
    assert set(before.children) == {
        "spikes", "units", "behavior", "intervals", "calcium", "events", "bold", "runs",
        "ieeg",
    }  # fmt: skip
    again = apply_steps(out, [{"step": "smooth_rate", "sd_s": 0.3}])
    assert len(json.loads(again.attrs["history"])) == len(CALLS) + 1


def test_no_steps_change_nothing():
    made = recording()
    assert apply_steps(made, []) is made


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (
            {"step": "bin_spike"},
            "unknown step 'bin_spike'; did you mean 'bin_spikes'\\?; known are",
        ),
        ({"step": "zscore"}, "unknown step 'zscore'; known are select_units, bin_spikes"),
        ({"name": "bin_spikes"}, "no key 'step'"),
        (
            {"step": "bin_spikes", "bin_widht_s": 0.1},
            "bin_spikes: unknown parameter 'bin_widht_s'; did you mean 'bin_width_s'",
        ),
        (
            {"step": "cut_trials", "xyz": 0.1},
            "unknown parameter 'xyz'; known are table, align, before_s, after_s, where",
        ),
        ({"step": "bin_spikes"}, "bin_spikes: parameter 'bin_width_s' is missing"),
    ],
)
def test_unknown_names(step, message):
    with pytest.raises(ConfigError, match=message):
        apply_steps(recording(), [step])
    with pytest.raises(ConfigError, match=r"datasets\.arena\.preprocess: "):
        check_steps([step], "config: datasets.arena.preprocess")


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"step": "bin_spikes", "bin_width_s": "wide"}, "bin_width_s: .*found 'wide'"),
        ({"step": "resample_behavior", "signals": "speed"}, "signals: .*list.*found 'speed'"),
    ],
)
def test_values_of_the_wrong_kind(step, message):
    with pytest.raises(ConfigError, match=message):
        apply_steps(recording(), [step])


def test_a_fault_inside_a_step_is_not_disguised(monkeypatch):
    monkeypatch.setitem(STEPS, "smooth_rate", "neuropipe.preprocess.smooth_rate:broken")
    import neuropipe.preprocess.smooth_rate as room

    def broken(recording, *, sd_s: float):
        raise TypeError("missing 1 required positional argument: 'x'")

    monkeypatch.setattr(room, "broken", broken, raising=False)
    monkeypatch.setattr("neuropipe.preprocess.parameters_of", lambda *_: {"sd_s": True})
    with pytest.raises(TypeError, match="positional"):
        apply_steps(recording(), [{"step": "smooth_rate", "sd_s": 1.0}])


def test_checking_steps_is_light():
    """Each job checks the configuration anew, so no array library may be loaded for it."""
    code = (
        "import sys; from neuropipe.preprocess import check_steps;"
        "check_steps([{'step': 'bin_spikes', 'bin_width_s': 1}]);"
        "assert not {'xarray', 'numpy', 'dask', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
