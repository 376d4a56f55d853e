"""A script does in memory what the workflow does with files, and is refused as kindly."""

import pytest

import neuropipe as npp
from neuropipe.errors import ConfigError

QUICK = {"n_states": 2, "link": "sigmoid", "n_restarts": 2, "screen_iterations": 4,
         "max_iterations": 6}  # fmt: skip
STEPS = [{"step": "bin_spikes", "bin_width_s": 0.02, "start_s": 0.0}]
SPLIT = {"by": "trial", "folds": 2}


@pytest.fixture(scope="module")
def session():
    recording, truth = npp.simulate(
        "hmm_glm", seed=1, n_sequences=4, n_bins=300, n_states=2, n_units=6
    )
    return npp.apply_steps(recording, STEPS), truth


@pytest.mark.filterwarnings("ignore::neuropipe.errors.ConvergenceWarning")
def test_folds_are_the_workflow_s_and_nothing_leaks(session):
    recording, truth = session
    name = recording.attrs["session"]
    results = npp.cross_validate(
        "hmm_glm", recording, seed=1, split=SPLIT, parameters=QUICK,
        baselines={"homogeneous_rate": {}}, truth={name: truth}, folds=[1],
    )  # fmt: skip
    fold = npp.make_splits({name: recording}, seed=1, **SPLIT)["folds"][1]
    assert results.splits["folds"][1] == fold
    assert results.folds == [1]
    train = npp.attach_windows(recording, fold["train"][name])
    alone = npp.HMMGLM(**QUICK).fit([train], seed=1)
    held = npp.attach_windows(recording, fold["test"][name])
    score = alone.score(held)
    ours = results.scores[results.scores["estimator"] == "hmm_glm"].set_index("metric")["value"]
    assert ours.to_dict() == pytest.approx(score)
    assert len(npp.tabulate(results, "recovery")) == 1


def test_two_recordings_of_one_name_are_refused(session):
    with pytest.raises(ConfigError, match="same attr 'session'"):
        npp.cross_validate("hmm_glm", [session[0]] * 2, seed=1, split=SPLIT)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "hmm_gml"}, "did you mean 'hmm_glm'"),
        ({"parameters": {"n_state": 2}}, "did you mean 'n_states'"),
        ({"baselines": ["poisson_gml"]}, "did you mean 'poisson_glm'"),
        ({"folds": [2]}, "no fold 2, there are 2"),
        ({"split": {"by": "trials", "folds": 2}}, "split.by"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_fitted(session, change, said):
    words = {"model": "hmm_glm", "split": SPLIT, "parameters": QUICK} | change
    with pytest.raises(ConfigError, match=said):
        npp.cross_validate(recordings=session[0], seed=1, **words)


def test_simulate_refuses_what_it_does_not_know():
    with pytest.raises(ConfigError, match="did you mean 'hmm_glm'"):
        npp.simulate("hmm_gml", seed=1)
    with pytest.raises(ConfigError, match="did you mean 'n_units'"):
        npp.simulate("hmm_glm", seed=1, n_unit=3)
