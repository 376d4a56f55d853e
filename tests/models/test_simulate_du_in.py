"""Planted sessions of spoken words hold what their plan says."""

from __future__ import annotations

import numpy as np
import pytest

from neuropipe.config import build
from neuropipe.errors import ConfigError
from neuropipe.models.du_in.simulate import Plan, pink_noise, simulate
from neuropipe.runs import run_slices
from neuropipe.runtime import generator
from neuropipe.schema import validate

SMALL = {
    "n_words": 4, "n_repetitions": 6, "n_runs": 2, "n_channels": 9, "n_speech": 4, "n_units": 5,
    "word_units": 4, "lead_units": 4,
}  # fmt: skip


def drawn(seed: int = 3, **changes):
    plan = Plan(**{**SMALL, **changes})
    recording, truth = simulate(plan, seed)
    return plan, recording, truth


def power(recording, channels) -> float:
    return float((recording["ieeg/voltage"].values[:, channels].astype(float) ** 2).mean())


def test_it_is_a_recording_of_the_catalogue():
    plan, recording, truth = drawn()
    validate(recording, "ieeg", "runs", "intervals/events")
    ieeg = recording["ieeg"].to_dataset()
    assert ieeg["voltage"].dtype == np.float32
    assert list(ieeg["channel"].values) == [s + n for s in "ABC" for n in "123"]
    np.testing.assert_allclose(np.diff(ieeg["time"].values), 1e-3, rtol=1e-6)
    assert [s.stop - s.start for s in run_slices(recording, "ieeg")] == [len(ieeg["time"]) // 2] * 2
    assert (ieeg["status"].values == "bad").sum() == plan.n_bad == int(truth["is_bad"].sum())
    assert not (truth["is_bad"] & truth["is_speech"]).any()
    events = recording["intervals/events"].to_dataset()
    assert sorted(events["trial_type"].values) == sorted(truth["word"].values.tolist() * 6)
    late = truth["onset_time"].values - events["start_time"].values
    assert np.abs(late).max() <= plan.jitter_s + 1e-9
    assert np.unique(late.round(4)).size > 12


def test_noise_units_and_hum_have_the_planned_strength():
    speech = slice(None)
    _, noise, truth = drawn(snr=0, line_v=0, n_bad=0)
    assert power(noise, speech) == pytest.approx(50e-6**2, rel=1e-3)
    _, both, _ = drawn(snr=2.0, line_v=0, n_bad=0)
    signal = both["ieeg/voltage"].values - noise["ieeg/voltage"].values
    on = truth["is_speech"].values
    ratio = float((signal[:, on].astype(float) ** 2).mean()) / 50e-6**2
    # words reuse units of unequal strength, so the ratio of one draw is near the expected one
    assert ratio == pytest.approx(2.0, rel=0.35)
    _, hum, truth = drawn(snr=0, n_bad=0)
    added = hum["ieeg/voltage"].values[:5000] - noise["ieeg/voltage"].values[:5000]
    spectrum = np.abs(np.fft.rfft(added.astype(float), axis=0)) / 2500
    assert (spectrum.argmax(0) == 250).all()  # 50 Hz in steps of 0.2 Hz
    np.testing.assert_allclose(spectrum[250], truth["line_amplitude"].values, rtol=1e-3)


def test_bad_contacts_are_loud():
    _, recording, truth = drawn(n_bad=2)
    spread = recording["ieeg/voltage"].values.std(0)
    assert spread[truth["is_bad"].values].min() > 10 * spread[~truth["is_bad"].values].max() / 2


def test_noise_is_pink():
    noise = pink_noise(1 << 16, 1000.0, generator(0, "noise"))
    density = np.abs(np.fft.rfft(noise)) ** 2
    hz = np.fft.rfftfreq(1 << 16, 1e-3)
    bands = [(4, 8), (16, 32), (64, 128), (256, 500)]
    level = [density[(hz >= a) & (hz < b)].mean() for a, b in bands]
    slope = np.polyfit(np.log([np.sqrt(a * b) for a, b in bands]), np.log(level), 1)[0]
    assert slope == pytest.approx(-1, abs=0.1)


def test_signal_holds_the_units_that_the_truth_names():
    """Without noise and jitter each slot of a speech contact is its unit's waveform."""
    plan, recording, truth = drawn(snr=400.0, jitter_s=0, line_v=0, n_bad=0, noise_v=1e-6)
    voltage = recording["ieeg/voltage"].values
    waveform = truth["unit_waveform"].values
    size = waveform.shape[2]
    on = truth["is_speech"].values
    start = np.round(truth["token_start_time"].values * plan.sampling_rate_hz).astype(int)
    found = np.stack([voltage[at : at + size, on].T.ravel() for at in start])
    bank = waveform[:, on].reshape(plan.n_units, -1)
    likeness = (found @ bank.T) / np.linalg.norm(bank, axis=1) - 0.5 * np.linalg.norm(bank, axis=1)
    unit = truth["token_unit"].values
    assert (likeness.argmax(1) == unit).mean() == 1.0
    match = [np.corrcoef(a, bank[u])[0, 1] for a, u in zip(found, unit, strict=True)]
    assert np.median(match) > 0.97
    words = unit[truth["token_in_word"].values].reshape(-1, plan.word_units)
    assert np.array_equal(words, truth["word_unit"].values[truth["word_index"].values])
    assert not waveform[:, ~on].any()


def test_the_seed_decides_every_number():
    _, first, truth = drawn(seed=7)
    _, again, truth_again = drawn(seed=7)
    _, other, _ = drawn(seed=8)
    assert first.identical(again)
    assert truth.identical(truth_again)
    assert not np.array_equal(first["ieeg/voltage"].values, other["ieeg/voltage"].values)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n_speech": 9, "n_bad": 1}, "do not fit into n_channels"),
        ({"n_runs": 7}, "n_runs up to n_repetitions"),
        ({"n_units": 2, "word_units": 1}, "too few units"),
        ({"jitter_s": 3.0}, "longer than the lead"),
        ({"highest_hz": 600.0}, "sampling_rate_hz / 2"),
    ],
)
def test_plans_that_cannot_be_drawn_are_refused(change, said):
    with pytest.raises(ConfigError, match=said):
        build(Plan, {**SMALL, **change}, "plan")
