from __future__ import annotations

import dataclasses
from xml.etree import ElementTree

import numpy as np
import pytest
import xarray as xr
from made_latents import LATENT_RUNS, MODEL, made_latent_run
from matplotlib.figure import Figure

from neuropipe.figures import resolve, suiting
from neuropipe.figures.held_out_rates import _smoothed, _units
from neuropipe.figures.latents import shown_windows
from neuropipe.figures.style import save

OWN = (
    "latent_traces",
    "variance_partition",
    "length_scales",
    "behavior_reconstruction",
    "held_out_rates",
)


@pytest.fixture(scope="module")
def full_run():
    return made_latent_run()


def labels_of(figure: Figure) -> str:
    texts = [t.get_text() for t in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    return "\n".join(texts)


@pytest.mark.parametrize("kind", LATENT_RUNS)
@pytest.mark.parametrize("name", OWN)
def test_draws_every_run_of_latents(name, kind, tmp_path):
    figure = resolve(name)(made_latent_run(**LATENT_RUNS[kind]))
    save(figure, tmp_path / "figure.svg")
    ElementTree.parse(tmp_path / "figure.svg")


def test_figures_of_every_model_draw_latents_too(full_run, tmp_path):
    for name in set(suiting(MODEL)) - set(OWN):
        save(resolve(name)(full_run), tmp_path / "figure.svg")


@pytest.mark.parametrize("name", OWN)
def test_same_latents_give_same_bytes(name, full_run, tmp_path):
    for file in ("a.svg", "b.svg"):
        save(resolve(name)(full_run), tmp_path / file)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("latent_traces", ["time in window (s)", "limb 0\n(mm)", "shared 0\n(dimensionless)",
                           "planted", "session s0, held out in fold 0"]),
        ("variance_partition", ["behaviour", "share of predicted variance (dimensionless)"]),
        ("length_scales", ["length scale (s)", "floor of the prior", "planted"]),
        ("behavior_reconstruction", ["limb 1\n(mm)", "R2 = ", "reconstructed"]),
        ("held_out_rates", ["unit: rate (Hz)", "expected rate\n(Hz)", "calibration"]),
    ],
)  # fmt: skip
def test_labels_of_latents_carry_units(name, expected, full_run):
    text = labels_of(resolve(name)(full_run))
    for label in expected:
        assert label in text


def test_bands_hold_95_percent(full_run):
    figure = resolve("latent_traces")(full_run)
    axes = figure.axes[0]
    [band] = axes.collections
    line = next(ln for ln in axes.lines if len(ln.get_xdata()) > 2 and ln.get_gid() is None)
    estimate = full_run.estimates["s0", 0]
    np.testing.assert_allclose(line.get_ydata(), estimate["latent"].values[:60, 0])
    x, y = band.get_paths()[0].vertices.T
    inside = np.isclose(x, line.get_xdata()[30])
    assert np.ptp(y[inside]) == pytest.approx(2 * 1.96 * 0.2)


def test_planted_latents_are_brought_to_the_fitted_scale(full_run):
    figure = resolve("latent_traces")(full_run)
    for row in range(3):
        axes = figure.axes[4 * row]
        [planted] = [ln for ln in axes.lines if ln.get_gid() == "planted"]
        fitted = full_run.estimates["s0", 0]["latent"].values[:60, row]
        assert np.sqrt(np.mean((planted.get_ydata() - fitted) ** 2)) < 0.2


def test_runs_without_what_a_figure_needs_say_so(full_run):
    alone = made_latent_run(**LATENT_RUNS["neural activity alone"])
    assert "no behavior" in labels_of(resolve("behavior_reconstruction")(alone))
    still = {k: e.drop_vars("rate") for k, e in full_run.estimates.items()}
    run = dataclasses.replace(full_run, estimates=still)
    assert "behaviour alone" in labels_of(resolve("held_out_rates")(run))
    run = dataclasses.replace(full_run, estimates={})
    for name in ("latent_traces", "held_out_rates", "behavior_reconstruction"):
        assert "no latents of held-out bins" in labels_of(resolve(name)(run))
    bare = {s: xr.DataTree.from_dict({"/": r.to_dataset()}) for s, r in full_run.recordings.items()}
    run = dataclasses.replace(full_run, recordings=bare)
    assert "no measured behaviour" in labels_of(resolve("behavior_reconstruction")(run))
    assert "lack the units" in labels_of(resolve("held_out_rates")(run))
    resolve("latent_traces")(run)


def test_shown_windows_are_of_usual_length_and_spread():
    lengths = [50, 5, 60, 55, 50, 52, 3, 58]
    estimate = xr.Dataset(coords={"window": ("time", np.repeat(np.arange(8), lengths))})
    parts = shown_windows(estimate, 3)
    assert [p.stop - p.start for p in parts] == [50, 55, 58]
    assert parts[0].start == 0
    long = xr.Dataset(coords={"window": ("time", np.zeros(3000, int))})
    assert [p.stop - p.start for p in shown_windows(long, 4)] == [250] * 4
    short = xr.Dataset(coords={"window": ("time", np.zeros(7, int))})
    assert shown_windows(short, 4) == [slice(0, 7)]


def test_counts_are_smoothed_within_windows(full_run):
    estimate = xr.Dataset(coords={"window": ("time", np.repeat([0, 1], 30))})
    counts = np.repeat([[1.0], [5.0]], 30, axis=0)
    counts[10] = np.nan
    got = _smoothed(counts, estimate, 4.0)
    np.testing.assert_allclose(got, np.repeat([[1.0], [5.0]], 30, axis=0))


def test_units_range_from_the_busiest_to_the_median():
    total = np.arange(20.0)
    assert _units(total).tolist() == [19, 17, 15, 14, 12, 10]
    assert _units(np.ones(1)).tolist() == [0]
