"""Decoders after few labels: what they may see, and that both starts are comparable."""

import numpy as np
import pytest
import torch
from planted_spikes import session
from pydantic import ValidationError

from neuropipe.models.neuroformer import few_shot
from neuropipe.models.neuroformer.config import Config
from neuropipe.models.neuroformer.estimator import Neuroformer
from neuropipe.models.neuroformer.few_shot import STARTS, few_shot_curve
from neuropipe.models.neuroformer.scaling import read_training
from neuropipe.training.checkpoint import Checkpoint

SMALL = {
    "width": 16, "n_heads": 2, "layers_past": 1, "layers_state": 1, "history_bins": 5,
    "targets": ("speed",), "n_shuffles": 20, "connectivity": (), "few_shot": (0.1, 1.0),
    "few_shot_steps": 12, "training": {"epochs": 2, "batch_size": 32},
}  # fmt: skip
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def planted():
    return session(0, duration_s=40, n_units=8, n_hubs=1, fan_out=3)[0]


def curve(recording, monkeypatch=None, **settings):
    """Return a curve, and what each fit was trained on: (stage, rasters, epochs)."""
    config = Config(**{**SMALL, **settings})
    rasters, _ = read_training([recording], config)
    seen = []
    if monkeypatch is not None:
        train = few_shot.train

        def noted(network, given, scaling, own, **rest):
            seen.append((rest["stage"], given, own, scaling))
            return train(network, given, scaling, own, **rest)

        monkeypatch.setattr(few_shot, "train", noted)
    found = few_shot_curve(rasters, config, seed=3, device=CPU, kept=Checkpoint(None, ""))
    return found, seen, rasters


def test_both_starts_see_the_same_labels_and_nothing_of_what_judges_them(planted, monkeypatch):
    found, seen, [whole] = curve(planted, monkeypatch)
    assert found["few_shot_r"].dims == ("start", "label_share")
    assert found["start"].values.tolist() == list(STARTS)
    assert np.isfinite(found["few_shot_r"]).all()
    stages = [s[0] for s in seen]
    assert [name.removeprefix("few-shot-") for name in stages] == [
        "pretraining", "0.1-pretrained", "0.1-from-scratch", "1-pretrained", "1-from-scratch",
    ]  # fmt: skip
    assert seen[0][2].objective == "spikes"
    for _, [raster], own, _ in seen:
        # a quarter, and a gap of the history before it, are kept from every fit
        assert raster.n_bins == round(0.75 * whole.n_bins) - 5
        assert own.few_shot == ()
    for (_, [a], own, sa), (_, [b], _, sb) in (seen[1:3], seen[3:5]):
        np.testing.assert_array_equal(a.signal, b.signal)
        np.testing.assert_array_equal(sa.sd, sb.sd)
        known = np.isfinite(a.signal[a.inside(), 0])
        assert known.sum() == round(own.label_share * a.n_bins)
        assert known[: known.sum()].all()


def test_labels_after_the_share_change_nothing(planted):
    other = planted.copy()
    node = planted["behavior"].to_dataset().load().copy(deep=True)
    time = node["time"].values
    late = (time > 4.0) & (time < 29.0)  # behind a tenth of the first three quarters
    node["speed"].values[late] = node["speed"].values[late][::-1] * 3
    other["behavior"] = type(planted)(node)
    one, two = (curve(r, few_shot=(0.1,))[0]["few_shot_r"].values for r in (planted, other))
    np.testing.assert_allclose(one, two, rtol=1e-9)  # cumulated sums round otherwise


def test_a_fit_has_its_curve_and_the_rest_stays_as_without(planted):
    plain = Neuroformer(**{**SMALL, "few_shot": ()}).fit([planted], seed=0)
    model = Neuroformer(**{**SMALL, "few_shot": (0.1,)}).fit([planted], seed=0)
    assert model.parameters_["few_shot_null_r"].shape == (2, 1)
    own = model._fitted.network.state_dict()
    for name, value in plain._fitted.network.state_dict().items():
        assert torch.equal(value, own[name]), name
    tokens = model.history_.attrs["tokens_per_epoch"]
    early = 0.9 * planted["counts"]["spike_count"].values.sum() + 0.9 * 800
    assert tokens == pytest.approx(early, rel=0.05)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"targets": ()}, "few_shot: needs targets"),
        ({"label_share": 0.5}, "few_shot: needs targets, and all of their labels"),
        ({"few_shot": (0.0, 0.5)}, "expected shares above 0 up to 1"),
    ],
)
def test_faults(settings, message):
    with pytest.raises(ValidationError, match=message):
        Config(**{**SMALL, **settings})
