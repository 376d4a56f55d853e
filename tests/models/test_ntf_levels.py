"""Acceptance levels of the NTF connectome on planted groups, ten seeds: minutes, so marked slow."""

import numpy as np
import pytest
import torch
from planted_groups import animals, found, found_by

from neuropipe.baselines.correlation import windowed
from neuropipe.batching.derivatives import scaling_of
from neuropipe.batching.traces import TraceSource, read_all
from neuropipe.models.ntf_connectome.entries import of_tensor
from neuropipe.models.ntf_connectome.estimator import NTFConnectome
from neuropipe.models.ntf_connectome.model import factorise, random_start

pytestmark = pytest.mark.slow
SETTINGS = {"communities": "none", "tolerance": 1e-5}


def sliding(recordings, truth, seed: int, rank: int) -> dict[str, float]:
    """Factorise sliding correlations, over 21 frames, instead of affinities."""
    traces, _ = read_all(recordings, TraceSource())
    traces, _ = scaling_of(traces, TraceSource())
    value = np.stack([windowed(t.stretches[0][1], 21) for t in traces], 1)
    x = of_tensor(torch.as_tensor(value))
    done = factorise(x, random_start(x, rank, 5, np.random.default_rng(seed)), tolerance=1e-5)
    time, animal, pair = (f[done.best].numpy().T for f in done.factors)
    return found(truth, pair, time, animal)


def test_ten_worlds_are_found_in_time_pairs_and_animals():
    ours, theirs = [], []
    for seed in range(10):
        recordings, truth = animals(seed)
        p = NTFConnectome(rank=8, **SETTINGS).fit(recordings, seed=seed).parameters_
        ours.append(found_by(p, truth))
        theirs.append(sliding(recordings, truth, seed, 8))
    mean = {name: np.mean([row[name] for row in ours]) for name in ours[0]}
    assert mean["pair"] >= 0.97
    assert mean["time"] >= 0.62
    assert mean["animal"] >= 0.82
    assert mean["similarity"] >= 0.8
    assert mean["time"] > np.mean([row["time"] for row in theirs])


def test_missing_neurons_cost_little():
    rows = []
    for seed in range(5):
        recordings, truth = animals(seed, missing=0.2)
        p = NTFConnectome(rank=8, **SETTINGS).fit(recordings, seed=seed).parameters_
        rows.append(found_by(p, truth))
    assert np.mean([row["pair"] for row in rows]) >= 0.97
    assert np.mean([row["time"] for row in rows]) >= 0.62


@pytest.mark.parametrize("seed", range(3))
def test_data_explain_more_than_each_of_twenty_shuffles(seed):
    recordings, _ = animals(seed)
    model = NTFConnectome(rank=4, n_restarts=2, n_shuffles=20, **SETTINGS)
    p = model.fit(recordings, seed=seed).parameters_
    null = p["null_explained_variance"].values
    assert float(p["explained_variance"]) > null.max()
    assert float(p["null_p"]) == pytest.approx(1 / 21)


def test_more_components_than_groups_do_not_hurt():
    time = {}
    for rank in (4, 8):
        rows = []
        for seed in range(5):
            recordings, truth = animals(seed)
            p = NTFConnectome(rank=rank, **SETTINGS).fit(recordings, seed=seed).parameters_
            rows.append(found_by(p, truth))
        time[rank] = np.mean([row["time"] for row in rows])
    assert time[8] > time[4] + 0.05
