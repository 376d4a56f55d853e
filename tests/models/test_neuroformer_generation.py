"""Drawing from the Neuroformer: kept keys change nothing, chances are met, the past is its own."""

import logging

import numpy as np
import pytest
import torch
from tiny_neuroformer import SEEING, batch_of, tiny

from neuropipe.batching.tokens import cut_windows
from neuropipe.models.neuroformer.attention import Rows
from neuropipe.models.neuroformer.decoding import Cache, Sampler, choose, draw
from neuropipe.models.neuroformer.generation import free_running, past_of, teacher_forced
from neuropipe.models.neuroformer.rates import hazards
from neuropipe.runtime import generator

FAITHFUL = {"preset": "faithful", "width": 16, "n_heads": 2, "layers_current": 2,
            "layers_frames": 1, "layers_stimulus": 2, "layers_covariates": 1}  # fmt: skip


@pytest.mark.parametrize("kind", [{}, SEEING, {**SEEING, **FAITHFUL}])
@torch.no_grad()
def test_kept_keys_give_the_states_of_a_whole_pass(kind):
    network, raster, scaling, config = tiny(**kind)
    batch = batch_of(raster, scaling, config)
    rows = Rows(batch["mask"], batch["flat"])
    states = rows.padded(network(batch))
    unit, bins = rows.padded(batch["unit"]), rows.padded(batch["bin"])
    cache = Cache(network, rows.mask.shape[1])
    for repeat in range(2):  # the second time in buffers that hold old keys
        cache.open(batch)
        for step in range(rows.mask.shape[1]):
            state = cache.advance(unit[:, step], bins[:, step])
            there = rows.mask[:, step]
            assert state[there] == pytest.approx(states[:, step][there].numpy(), abs=1e-5), repeat


def test_values_are_drawn_as_often_as_their_chances_say():
    log_p = torch.tensor([0.5, 0.0, 0.3, 0.2]).log().expand(4000, -1)
    uniform = torch.linspace(0, 1, 4001, dtype=torch.float64)[:-1]
    share = np.bincount(choose(log_p, uniform, 1.0, 1.0).numpy(), minlength=4) / 4000
    assert share == pytest.approx([0.5, 0.0, 0.3, 0.2], abs=1e-3)
    hot = np.bincount(choose(log_p, uniform, 2.0, 1.0).numpy(), minlength=4) / 4000
    expected = np.sqrt([0.5, 0.0, 0.3, 0.2])
    assert hot == pytest.approx(expected / expected.sum(), abs=1e-3)
    top = np.bincount(choose(log_p, uniform, 1.0, 0.7).numpy(), minlength=4) / 4000
    assert top == pytest.approx([0.625, 0.0, 0.375, 0.0], abs=1e-3)
    one = choose(log_p, torch.full((4000,), 1 - 1e-16, dtype=torch.float64), 1.0, 0.1)
    assert set(one.tolist()) == {0}


@torch.no_grad()
def test_the_drawn_past_is_the_recorded_one_where_the_spikes_are():
    _, raster, scaling, config = tiny()
    batch = batch_of(raster, scaling, config)
    windows = cut_windows(raster, config.window_bins, config.history_bins)
    bins, units, width = [], [], len(raster.event_bin)
    shuffled = np.random.default_rng(0).permutation(width)
    for start in windows.start:
        bins.append(raster.event_bin[shuffled] - start)
        units.append(raster.event_unit[shuffled])
    made = past_of(
        torch.as_tensor(np.array(bins)), torch.as_tensor(np.array(units)),
        torch.as_tensor(windows.past), config.history_bins, torch.tensor(0),
    )  # fmt: skip
    for name in ("past_unit", "past_lag", "past_place", "past_mask", "past_flat"):
        assert torch.equal(made[name], batch[name]), name


def test_many_draws_have_the_expected_counts_and_keep_order():
    """The mean over draws of the first bin is what the table says, within sampling error."""
    network, raster, scaling, config = tiny(seed=3)
    batch = batch_of(raster, scaling, config)
    n_samples = 400
    spikes = teacher_forced(
        network, raster, scaling, config, n_samples=n_samples, room=60, seed=1
    )  # fmt: skip
    counts = spikes.counts(n_samples, len(raster.time), len(raster.unit))
    windows = cut_windows(raster, config.window_bins, config.history_bins)
    # the first spike of each window given none before: chances of the opening token
    with torch.no_grad():
        first = torch.nonzero(batch["place"] == 0)[:, 0]
        spike, end = network.heads.table(
            network(batch)[first], batch["units"], batch["bin"][first], batch["last_unit"][first]
        )
    drawn = np.stack([counts[:, s : s + 3].sum((1, 2)) == 0 for s in windows.start[:9]], 1)
    assert drawn.mean(0) == pytest.approx(end[:9].numpy(), abs=5 * 0.5 / np.sqrt(n_samples))
    silent = spike[:9, 1:].sum((1, 2)) + end[:9]
    quiet = np.stack([counts[:, s].sum(1) == 0 for s in windows.start[:9]], 1)
    assert quiet.mean(0) == pytest.approx(silent.numpy(), abs=5 * 0.5 / np.sqrt(n_samples))
    assert counts.sum() == len(spikes.bin)
    order = np.lexsort([spikes.unit, spikes.bin, spikes.sample])
    assert np.array_equal(order, np.arange(len(order)))


def test_a_run_of_its_own_looks_at_no_recorded_spike():
    network, raster, scaling, config = tiny(**SEEING)
    args = {"n_samples": 3, "room": 40, "seed": 5}
    first = free_running(network, raster, scaling, config, **args)
    emptied = type(raster)(
        **{**vars(raster), "event_bin": raster.event_bin[:0], "event_unit": raster.event_unit[:0]}
    )
    again = free_running(network, emptied, scaling, config, **args)
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a, b)
    assert len(first.bin) > 50
    other = free_running(network, raster, scaling, config, **{**args, "seed": 6})
    assert not np.array_equal(first.bin, other.bin)
    forced = teacher_forced(network, raster, scaling, config, **args)
    emptied_forced = teacher_forced(network, emptied, scaling, config, **args)
    assert not np.array_equal(forced.bin, emptied_forced.bin)
    short = free_running(network, raster, scaling, config, **args, max_windows=2)
    inside = np.concatenate([f + np.arange(6) for f in raster.first])
    assert set(short.bin) <= set(inside)
    kept = np.isin(first.bin, inside)
    assert np.array_equal(first.bin[kept], short.bin)


def test_its_own_past_is_what_it_drew():
    """With one sample, drawing is the same as drawing from a recording of the drawn spikes."""
    network, raster, scaling, config = tiny()
    drawn = free_running(network, raster, scaling, config, n_samples=1, room=40, seed=5)
    recorded = type(raster)(**{**vars(raster), "event_bin": drawn.bin, "event_unit": drawn.unit})
    sampler = Sampler(network, 40)
    windows = cut_windows(recorded, config.window_bins, config.history_bins)
    batch = batch_of(recorded, scaling, config)
    opened = {**batch, "window_size": torch.as_tensor(windows.size)}
    k = np.concatenate([np.arange(n) for n in np.bincount(windows.first)[raster.first]])
    rank = np.argsort(-np.bincount(windows.first)[raster.first], kind="stable")
    stretch = np.searchsorted(raster.first, windows.first)
    uniform = np.stack(
        [
            generator(5, f"window-{i}").random((40, int((k == i).sum()), 2))[
                :, list(rank[: int((k == i).sum())]).index(s)
            ]
            for i, s in zip(k, stretch, strict=True)
        ],
        1,
    )
    again = draw(sampler, opened, torch.as_tensor(uniform))
    for row, start in enumerate(windows.start):
        n = int(again.number[row])
        inside = (drawn.bin >= start) & (drawn.bin < start + windows.size[row])
        assert (again.bin[row, :n] + int(start)).tolist() == drawn.bin[inside].tolist()
        assert again.unit[row, :n].tolist() == drawn.unit[inside].tolist()


def test_windows_that_do_not_end_are_cut_with_a_warning(caplog):
    network, raster, scaling, config = tiny()
    with caplog.at_level(logging.WARNING):
        spikes = teacher_forced(network, raster, scaling, config, n_samples=2, room=1, seed=0)
    assert "had not ended" in caplog.text
    windows = cut_windows(raster, config.window_bins, config.history_bins)
    assert len(spikes.bin) <= 2 * len(windows)


@torch.no_grad()
def test_sums_of_hazards_meet_the_counts_of_long_draws():
    """The sum of all hazards is the compensator: over draws of the network, counts meet it."""
    network, raster, scaling, config = tiny(seed=4)
    drawn = free_running(network, raster, scaling, config, n_samples=200, room=60, seed=2)
    counts, expected = np.zeros(4), np.zeros(4)
    for sample in range(0, 200, 4):
        at = drawn.sample == sample
        own = type(raster)(
            **{**vars(raster), "event_bin": drawn.bin[at], "event_unit": drawn.unit[at]}
        )
        batch = batch_of(own, scaling, config)
        found = hazards(network, network(batch), batch, repeats=True)
        expected += found.sum((0, 1)).numpy()
        counts += own.total()
    assert counts == pytest.approx(expected, abs=5 * np.sqrt(expected.max()))
