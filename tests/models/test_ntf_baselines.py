"""Baselines of the NTF connectome: plain CP and correlations, through the same door and score."""

import numpy as np
import pytest
from planted_groups import animals

from neuropipe.baselines.correlation import StaticCorrelation, WindowedCorrelation, windowed
from neuropipe.baselines.cp import PlainCP
from neuropipe.batching.windows import attach_windows
from neuropipe.errors import DataError
from neuropipe.models.ntf_connectome.estimator import NTFConnectome


@pytest.fixture(scope="module")
def sessions():
    recordings, _ = animals(0, missing=0.2, n_units=20, n_animals=4, n_groups=3)
    train = [attach_windows(r, [(0, 8), (12, 28), (32, 60)]) for r in recordings]
    held = [attach_windows(r, [(8.5, 11.5), (28.5, 31.5)]) for r in recordings]
    return train, held


def test_patterns_that_know_when_and_where_describe_new_times_better(sessions):
    train, held = sessions
    scores = {}
    for name, model in (
        ("ntf", NTFConnectome(rank=4, communities="none")),
        ("cp", PlainCP(rank=4)),
        ("static", StaticCorrelation()),
        ("windowed", WindowedCorrelation(rank=4)),
    ):
        model.fit(train, seed=0)
        scores[name] = np.mean([model.score(h)["explained_variance"] for h in held])
    assert scores["ntf"] > scores["cp"]  # which takes missing neurons for silent ones
    assert scores["ntf"] > scores["windowed"] > scores["static"] > 0


@pytest.mark.parametrize("kind", [PlainCP, NTFConnectome])
def test_more_components_than_the_tensor_can_have_are_refused(kind):
    recordings, _ = animals(0, missing=0.0, n_units=10, n_animals=1)
    few = [attach_windows(r, [(0, 5)]) for r in recordings]
    with pytest.raises(DataError, match=r"rank 60 is above .* lower rank"):
        kind(rank=60).fit(few, seed=0)


def test_sliding_correlation_is_numpys():
    rng = np.random.default_rng(0)
    trace = rng.standard_normal((40, 4)).cumsum(0)
    trace[:, 3] = 2.0
    got = windowed(trace, 11)
    i, j = np.triu_indices(4, 1)
    for t in (0, 5, 20, 39):
        part = trace[max(0, t - 5) : t + 6, :3]
        want = np.maximum(np.corrcoef(part.T)[np.triu_indices(3, 1)], 0)
        np.testing.assert_allclose(got[t][(i < 3) & (j < 3)], want, atol=1e-9)
    assert (got[:, j == 3] == 0).all()
    assert windowed(trace, None).shape == (1, 6)
