"""Planted sessions are as large as a user's own, and what is found in them becomes a sentence."""

import numpy as np
import pytest
import xarray as xr

from neuropipe.config import Run
from neuropipe.errors import ConfigError
from neuropipe.likeness import FOREIGN, LIKE, parameters_like, split_like
from neuropipe.models import MODELS
from neuropipe.report.trust import trust_sentence
from neuropipe.scripting import cross_validate, simulate, tabulate

STAGE = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3}
# Of each model: the simulator's settings, quick parameters, a split, what the sentence says.
CASES = {
    "hmm_glm": (
        {"n_units": 5, "n_bins": 200, "n_sequences": 4, "n_states": 2, "bin_width_s": 0.05},
        {"n_states": 2, "n_restarts": 1, "max_iterations": 3, "covariates": ["laser"]},
        {"by": "trial", "folds": 2}, "the right state was found in",
    ),
    "mm_gpvae": (
        {"n_units": 8, "n_channels": 3, "n_trials": 6, "n_bins": 20},
        {"training": STAGE, "signals": ["paw"]}, {"by": "session", "folds": 2}, "one to one, R2",
    ),
    "neuroformer": (
        {"n_units": 8, "duration_s": 20.0, "n_hubs": 1, "fan_out": 3},
        {"width": 16, "layers_past": 1, "training": STAGE, "targets": ["speed"]},
        {"by": "block", "folds": 2, "window_s": 2.0}, "drives the other",
    ),
    "mindbridge": (
        {"n_voxels": 40, "n_own": 30, "n_shared": 10, "n_runs": 2, "token_features": 16},
        {"common_size": 8, "hidden": 16, "training": STAGE, "column": "picture"},
        {"by": "stimulus", "folds": 2, "column": "picture"}, "planted1",
    ),
    "du_in": (
        {"n_words": 2, "n_repetitions": 12, "n_runs": 4, "n_channels": 3, "n_speech": 1,
         "n_bad": 0, "word_units": 4, "sampling_rate_hz": 250.0},
        {"filters": (8, 4), "kernels": (9, 3), "strides": (5, 1), "n_layers": 1, "n_heads": 2,
         "head_dim": 4, "n_inner": 8, "n_codes": 8, "code_dim": 4, "warm_epochs": 1,
         "decoder_layers": 1, "decoder_filters": 8, "n_exchanges": 0, "window_s": 0.4,
         "units": STAGE, "masked": STAGE, "decode": STAGE, "labels": "said"},
        {"by": "run", "folds": 2}, "planted classes",
    ),
    "ntf_connectome": (
        {"n_units": 12, "n_windows": 120, "n_animals": 2}, {"rank": 3, "n_restarts": 1},
        {"by": "block", "folds": 2}, "in mean",
    ),
}  # fmt: skip


def own(model, plan):
    """Return a prepared session that stands for a user's."""
    session, truth = simulate(model, seed=3, **plan)
    width = xr.DataTree.from_dict({"/counts": binned(plan.get("bin_width_s", 0.05))})
    return LIKE[model].prepare(session, truth, width)


def binned(width_s):
    counts = ("time", "unit"), np.zeros((1, 1)), {"units": "1", "bin_width_s": width_s}
    return xr.Dataset({"spike_count": counts})


def renamed(recording, model):
    """Give the label and the stimulus the names that the cases' parameters say."""
    names = {"du_in": ("trials", "trial_type", "said"),
             "mindbridge": ("betas", "stimulus", "picture")}  # fmt: skip
    if model in names:
        node, old, new = names[model]
        recording[node] = xr.DataTree(recording[node].to_dataset().rename({old: new}))
    return recording


def test_every_model_is_asked():
    assert set(LIKE) == set(CASES) == set(MODELS)


@pytest.mark.parametrize("model", CASES)
def test_what_is_drawn_is_as_large_and_is_told(model):
    plan, parameters, split, said = CASES[model]
    mine = renamed(own(model, plan), model)
    run = Run(model=model, dataset="d", seed=1, parameters=parameters, split=split)
    [size] = LIKE[model].sizes(run, [mine])
    assert not set(FOREIGN) & (set(parameters_like(run)) - set(LIKE[model].parameters))
    session, truth = simulate(model, seed=1, **size)
    session.attrs["session"] = "drawn-1"
    drawn = LIKE[model].prepare(session, truth, mine)
    for node in set(drawn.children) & {"counts", "betas", "trials", "calcium", "ieeg"}:
        if node in mine.children:
            assert largest(drawn, node) == pytest.approx(largest(mine, node), rel=0.1), node
    found = cross_validate(
        model, drawn, seed=1, split=split_like(run, [drawn]), parameters=parameters_like(run),
        truth={"drawn-1": truth}, folds=[0],
    )  # fmt: skip
    assert said in trust_sentence(model, tabulate(found, LIKE[model].table))


def largest(recording, node):
    """Return the number of entries of a node's largest variable."""
    return max(v.size for n in recording[node].subtree for v in n.data_vars.values())


def test_who_has_no_spikes_is_told_so():
    run = Run(model="mm_gpvae", dataset="d", seed=1, split={"by": "trial", "folds": 2})
    traces = xr.DataTree.from_dict({"/": xr.Dataset(attrs={"session": "s"}), "/calcium/c": None})
    with pytest.raises(ConfigError, match="session s: found nodes calcium, expected counts"):
        LIKE["mm_gpvae"].sizes(run, [traces])
