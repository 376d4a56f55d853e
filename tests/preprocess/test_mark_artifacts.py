"""Artifacts are found where they were put, whatever the blocks; trials can be cut around words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_session import session, with_table
from made_voltages import FEW, RATE, ieeg

from neuropipe.errors import DataError
from neuropipe.preprocess.cut_trials import cut_trials
from neuropipe.preprocess.mark_artifacts import mark_artifacts

ALL = {"amplitude_v": 1e-3, "gradient_v_per_s": 0.1, "flat_s": 0.1}


def wave():
    time = np.arange(1000) / RATE
    return 1e-5 * np.sin(2 * np.pi * 5 * time)[:, None] * np.ones(3)


def table(recording, **settings):
    node = mark_artifacts(recording, **(settings or ALL))["intervals/artifacts"]
    columns = (node[c].values.tolist() for c in ("channel", "kind", "start_time", "stop_time"))
    return [(c, k, round(a * RATE), round(b * RATE)) for c, k, a, b in zip(*columns, strict=True)]


def planted():
    values = wave()
    values[100:110, 0] = 2e-3
    values[300, 1] += 6e-4  # up and down again: two steps
    values[500:560, 2] = values[500, 2]
    values[700:702, 0] = np.nan
    values[990:, 1] = -5e-3
    return values


EXPECTED = {
    ("A1", "amplitude", 100, 110), ("A1", "gradient", 100, 101), ("A1", "gradient", 110, 111),
    ("A2", "gradient", 300, 302), ("A3", "flat", 500, 560), ("A1", "missing", 700, 702),
    ("A2", "amplitude", 990, 1000), ("A2", "gradient", 990, 991),
}  # fmt: skip


@FEW
@given(chunk=st.integers(1, 1000))
def test_what_was_planted_is_found(chunk):
    assert set(table(ieeg(planted(), chunk))) == EXPECTED


def test_nothing_is_found_in_a_clean_signal():
    assert table(ieeg(wave(), 100)) == []


def test_flat_needs_its_length_and_stays_in_its_run():
    values = wave()
    values[480:530] = 0
    assert len(table(ieeg(values), flat_s=0.2)) == 3
    assert table(ieeg(values), flat_s=0.204) == []
    # 25 samples on both sides of the border between two runs, which are 10 s apart
    cut = table(ieeg(values, runs=[505]), flat_s=0.1)
    assert {(a, b) for _, _, a, b in cut} == {(480, 505), (505 + 2500, 530 + 2500)}
    assert table(ieeg(values, runs=[505]), flat_s=0.11) == []


@pytest.mark.parametrize("settings", [{}, {"amplitude_v": 0.0}, {"flat_s": 1.0, "flat_v": -1.0}])
def test_thresholds(settings):
    with pytest.raises(DataError, match="mark_artifacts: found"):
        mark_artifacts(ieeg(wave()), **settings)


def words():
    made = session([[0.1]])
    kinds = np.array(["word", "rest", "word", "beep"], object)
    return with_table(
        made, "events", [1.0, 2.0, 3.0, 4.0], [1.5, 2.5, np.nan, 4.5], trial_type=kinds,
        block=[1.0, 1.0, 2.0, 2.0],
    )  # fmt: skip


def test_trials_around_word_onsets():
    settings = {"table": "events", "before_s": 0.2, "after_s": 0.6}
    node = cut_trials(words(), where={"trial_type": ["word"]}, **settings)["trials"]
    np.testing.assert_allclose(node["start_time"], [0.8, 2.8])
    np.testing.assert_allclose(node["stop_time"], [1.6, 3.6])
    both = {"trial_type": ["word", "beep"], "block": [2]}
    assert cut_trials(words(), where=both, **settings)["trials"].sizes["trial"] == 2
    for where, message in [
        ({"word": ["a"]}, "no column 'word'"),
        ({"trial_type": ["wrd"]}, r"has trial_type \['wrd'\]; it has beep, rest, word"),
        ({"trial_type": ["rest"], "block": [2]}, "meets all"),
    ]:
        with pytest.raises(DataError, match=message):
            cut_trials(words(), where=where, **settings)


def test_trials_without_artifacts():
    made = with_table(words(), "artifacts", [1.5, 0.0, 3.9], [1.9, 0.8, 3.95])
    settings = {"table": "events", "without": "artifacts", "before_s": 0.2}
    node = cut_trials(made, after_s=0.5, **settings)["trials"]
    # an interval that only touches a trial does not overlap it
    np.testing.assert_allclose(node["start_time"], [0.8, 1.8 + 1.0])
    with pytest.raises(DataError, match="every interval"):
        cut_trials(with_table(words(), "artifacts", [0.0], [9.0]), after_s=0.5, **settings)
