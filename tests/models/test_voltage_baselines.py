"""Decoders that stand beside Du-IN: the libraries' numbers, published sizes, the same trials."""

import numpy as np
import pytest
import torch
import xarray as xr
from planted_words import TINY, relabelled, sides, words
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

from neuropipe.baselines.band_power import BandPowerLDA, BandPowerLogistic
from neuropipe.baselines.eeg_nets import ConformerModule, EEGNetModule, moved, shortest
from neuropipe.baselines.net_decoders import EEGConformer, EEGNet
from neuropipe.batching.contacts import band_features
from neuropipe.batching.door import enter
from neuropipe.batching.epochs import VoltageSource
from neuropipe.batching.windows import attach_windows
from neuropipe.errors import DataError
from neuropipe.models.du_in.estimator import DuINFromScratch

NET = {"training": {"epochs": 2, "batch_size": 16, "learning_rate": 1e-3}}


@pytest.fixture(scope="module")
def planted():
    return words(3)[0]


def features(recordings, door):
    v = door.read(recordings)
    raw = band_features(v.trials(door.n_samples), 1000.0).reshape(len(v.onset), -1).astype(float)
    return raw, v.label


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("kind", [BandPowerLDA, BandPowerLogistic])
def test_probabilities_are_the_librarys(kind, n_classes, planted):
    labels = planted["trials"]["trial_type"].values
    if n_classes == 2:
        labels = np.where(np.isin(labels, ["word01", "word02"]), "a", "b")
    train, held = sides(relabelled(planted, labels))
    model = kind(n_channels=4).fit([train], seed=0)
    door, _ = enter([train], VoltageSource(n_channels=4), 0.1)
    (x, y), (held_x, held_y) = features(train, door), features(held, door)
    theirs = (
        LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        if kind is BandPowerLDA
        else LogisticRegression(C=1 / 30, max_iter=1000)
    )
    mean, sd = x.mean(0), x.std(0)
    theirs.fit((x - mean) / sd, y)
    out = model.transform(held)
    want = theirs.predict_proba((held_x - mean) / sd)
    np.testing.assert_allclose(out["class_probability"].values, want, atol=1e-5)
    assert model.score(held)["accuracy"] == theirs.score((held_x - mean) / sd, held_y)
    assert model.score(held)["accuracy"] > 0.5


def test_all_decoders_see_the_same_trials(planted):
    train, held = sides(planted)
    models = [BandPowerLDA(), EEGNet(**NET), DuINFromScratch(**TINY)]
    outs = [m.fit([train], seed=1, device="cpu").transform(held) for m in models]
    for out in outs[1:]:
        for name in ("time", "label", "class"):
            np.testing.assert_array_equal(out[name].values, outs[0][name].values)


def test_networks_have_the_published_numbers_of_weights():
    """EEGNet by table 2 of the paper, F1 8, D 2, with this kernel and our pools."""
    n_temporal, wide, kernel, n_contacts, n_classes = 8, 16, 65, 10, 5
    net = EEGNetModule(n_contacts, 1400, n_classes)
    want = n_temporal * kernel + 2 * n_temporal + n_contacts * wide + 2 * wide
    want += 17 * wide + wide * wide + 2 * wide
    want += (wide * (1400 // 8 // 8) + 1) * n_classes
    assert sum(p.numel() for p in net.parameters()) == want
    assert net(torch.zeros(2, 1400, n_contacts)).shape == (2, n_classes)
    net = ConformerModule(n_contacts, 1000, 4)
    assert net(torch.zeros(2, 1000, n_contacts)).shape == (2, 4)
    attention = 4 * 40 * 40 + 4 * 40
    feed = 2 * 40 * 160 + 160 + 40
    layers = sum(p.numel() for p in net.layers.parameters())
    assert layers == 2 * (attention + feed + 4 * 40)


@pytest.mark.parametrize(("kind", "made"), [("eegnet", EEGNetModule),
                                            ("eeg_conformer", ConformerModule)])  # fmt: skip
def test_the_shortest_trial_passes_and_a_shorter_one_does_not(kind, made):
    n = shortest(kind)
    assert made(3, n, 2).eval()(torch.zeros(1, n, 3)).shape == (1, 2)
    with pytest.raises((RuntimeError, ValueError, UserWarning)):  # no tokens are left
        made(3, n - 1, 2).eval()(torch.zeros(1, n - 1, 3))


def test_the_spatial_filter_is_a_weighted_sum_of_contacts():
    net = EEGNetModule(3, 64, 2).eval()
    x = torch.randn(1, 64, 3)
    wave = net.body[1](net.body[0](x.mT[:, None]))
    got = net.body[2](wave)[0, :, 0]
    for f in range(16):
        want = (net.body[2].weight[f, 0, :, 0, None] * wave[0, f // 2]).sum(0)
        torch.testing.assert_close(got[f], want)


def test_shifted_trials_bring_zeros():
    x = torch.arange(1.0, 5).view(1, 4, 1).repeat(2, 1, 1)
    assert moved(x, torch.tensor([1, -2]))[..., 0].tolist() == [[0, 1, 2, 3], [3, 4, 0, 0]]


def test_a_network_learns_what_two_classes_differ_in(planted):
    """One class has a wave of 20 Hz on the second contact, at a phase of its own in each trial."""
    labels = np.where(planted["trials"]["trial_type"].values <= "word02", "a", "b")
    changed = relabelled(planted, labels)
    node = planted["ieeg"].to_dataset().load().copy(deep=True)
    rng = np.random.default_rng(0)
    for start in planted["trials"]["start_time"].values[labels == "a"]:
        at = np.flatnonzero((node["time"].values >= start) & (node["time"].values < start + 0.6))
        wave = np.sin(2 * np.pi * (20 * node["time"].values[at] + rng.random()))
        node["voltage"].values[at, 1] += 4e-4 * wave.astype(np.float32)
    changed["ieeg"] = xr.DataTree(node)
    train, held = sides(changed)
    settings = {"epochs": 30, "batch_size": 8, "learning_rate": 3e-3}
    model = EEGNet(shift_share=0.0, trial_s=0.6, training=settings).fit(
        [train], seed=1, device="cpu"
    )
    assert model.score(held)["accuracy"] > 0.8


@pytest.mark.parametrize("kind", [BandPowerLDA, EEGNet])
def test_several_subjects_are_refused(kind, planted):
    other = planted.copy()
    other.attrs = {**planted.attrs, "subject": "s2"}
    with pytest.raises(DataError, match=r"2 subjects \(planted, s2\), expected one"):
        kind().fit([planted, other], seed=1)


def test_a_class_of_one_trial_each_teaches_an_lda_nothing(planted):
    labels = np.full(planted["trials"].sizes["trial"], "", dtype=object)
    labels[:2] = "a", "b"
    with pytest.raises(DataError, match="2 training trials of 2 classes leave nothing to learn"):
        BandPowerLDA().fit([relabelled(planted, labels)], seed=1)


@pytest.mark.parametrize("kind", [BandPowerLDA, EEGNet])
def test_windows_without_a_whole_trial_have_no_score_and_say_so(kind, planted, caplog):
    train, held = sides(planted)
    model = kind(**(NET if kind is EEGNet else {})).fit([train], seed=1, device="cpu")
    start = held["windows"]["start_time"].values[0]
    empty = attach_windows(planted, [[start, start + 0.01]])
    assert np.isnan(model.score(empty)["accuracy"])
    assert "no value of accuracy" in caplog.text
    assert model.transform(empty).sizes["trial"] == 0


def test_short_trials_are_refused(planted):
    with pytest.raises(DataError, match="trials of 50 samples, expected at least 99"):
        EEGConformer(**NET, trial_s=0.05, patch_s=0.05).fit([planted], seed=1)
