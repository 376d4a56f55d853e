"""The Neuroformer's network: probabilities that add up, masks that hold, parts against oracles."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_neuroformer import CPU, SEEING, batch_of, tiny
from torch.nn import functional

from neuropipe.batching.tokens import cut_windows
from neuropipe.models.neuroformer.attention import Attention, Block, Rows
from neuropipe.models.neuroformer.batches import make_batch
from neuropipe.models.neuroformer.heads import Alignment, BehaviorHead, end_log_probability
from neuropipe.models.neuroformer.rates import expected_counts, hazards

KINDS = [{}, {"ordered": False}, {"heads": "independent"}, {"preset": "faithful", "width": 16,
         "n_heads": 2, "layers_current": 1, "layers_frames": 1, "layers_stimulus": 1,
         "layers_covariates": 1}]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_chances_of_all_next_tokens_add_up_to_one(kind):
    network, raster, scaling, config = tiny(**kind)
    batch = batch_of(raster, scaling, config)
    last = batch["bin"], batch["last_unit"]
    state = network(batch)
    spike, end = network.heads.table(state, batch["units"], *last)
    assert spike.sum((1, 2)) + end == pytest.approx(1.0, abs=1e-6)
    n = len(batch["units"])
    place = torch.arange(config.window_bins * n).view(config.window_bins, n)
    gone = place < (last[0] * n + last[1])[:, None, None]
    assert float(spike[gone].max()) < 1e-12
    if kind == {}:  # what the loss says of each token is what the table says
        time, unit = network.log_probability(state, batch)
        assert torch.isfinite(time + unit).all()
        full = batch["size"] == config.window_bins
        at = torch.arange(len(end))
        target = spike[at, batch["target_bin"].clamp(max=config.window_bins - 1),
                       batch["target_unit"].clamp(max=n - 1)]  # fmt: skip
        target = torch.where(batch["target_bin"] == config.window_bins, end, target)
        assert (time + unit).exp()[full] == pytest.approx(target[full].numpy(), abs=1e-6)


@torch.no_grad()
def test_a_window_that_is_cut_short_sums_over_what_nobody_saw():
    network, raster, scaling, config = tiny()
    batch = batch_of(raster, scaling, config)
    short = batch["size"] < config.window_bins
    assert short.any()
    state = network(batch)
    log_time = network.heads.log_time(state, batch["bin"])
    end = end_log_probability(log_time, batch["size"])
    for k in torch.nonzero(short)[:, 0].tolist():
        tail = log_time[k].exp()[int(batch["size"][k]) :].sum()
        assert float(end[k].exp()) == pytest.approx(float(tail), abs=1e-6)


@torch.no_grad()
def test_hazards_multiply_to_the_likelihood_of_every_window():
    """prod h(spikes) prod (1 - h)(silence) over all places is the tokens' probability."""
    network, raster, scaling, config = tiny()
    batch = batch_of(raster, scaling, config)
    state = network(batch)
    time, unit = network.log_probability(state, batch)
    w, n = config.window_bins, len(batch["units"])
    hazard = hazards(network, state, batch, repeats=True).flatten(1)
    spikes = batch["target_bin"] < w
    target = (batch["target_bin"] * n + batch["target_unit"]).clamp(max=w * n - 1)
    hit = torch.zeros_like(hazard, dtype=torch.bool)
    hit[torch.nonzero(spikes)[:, 0], target[spikes]] = True
    value = torch.where(hit, hazard.log(), torch.log1p(-hazard)).sum(1)
    assert value == pytest.approx((time + unit).numpy(), abs=1e-5)


@pytest.mark.parametrize("kind", [{}, {"heads": "independent"}])
@torch.no_grad()
def test_a_rate_does_not_know_its_own_outcome(kind):
    """Taking the spikes of one place away, or adding one, leaves its expected count as it was."""
    network, raster, scaling, config = tiny(**kind)
    several = torch.as_tensor(scaling.several[raster.key])
    assert (several > 1).all()

    def expected(bins, units):
        order = np.lexsort([units, bins])
        other = replace(raster, event_bin=bins[order], event_unit=units[order])
        batch = batch_of(other, scaling, config)
        return expected_counts(network, network(batch), batch, several).numpy()

    windows = cut_windows(raster, config.window_bins, config.history_bins)
    whole = expected(raster.event_bin, raster.event_unit)
    for at in (3, 11, 27, 40):
        bin, unit = raster.event_bin[at], raster.event_unit[at]
        kept = (raster.event_bin != bin) | (raster.event_unit != unit)
        less = expected(raster.event_bin[kept], raster.event_unit[kept])
        more = expected(np.append(raster.event_bin, bin), np.append(raster.event_unit, unit))
        row = np.searchsorted(windows.start, bin, side="right") - 1
        place = bin - windows.start[row]
        for other in (less, more):
            assert other[row, place, : unit + 1] == pytest.approx(
                whole[row, place, : unit + 1], abs=1e-6
            )
            assert other[row, :place] == pytest.approx(whole[row, :place], abs=1e-6)
        later = np.abs(less[row] - whole[row]).reshape(-1)[place * 4 + unit + 1 :]
        assert later[: (windows.size[row] - place) * 4 - unit - 1].max(initial=1.0) > 1e-5


@pytest.mark.parametrize("kind", [SEEING, {**SEEING, **KINDS[3]}])
@torch.no_grad()
def test_windows_do_not_see_each_other_nor_padding(kind):
    network, raster, scaling, config = tiny(targets=("turn",), **kind)
    whole = batch_of(raster, scaling, config)
    state = network(whole)
    rows = Rows(whole["mask"], whole["flat"])
    decoded = network.decode(state, rows)
    padded = rows.padded(state)
    for which in ([3], [12, 0, 7], [8]):
        batch = batch_of(raster, scaling, config, which)
        own = network(batch)
        own_rows = Rows(batch["mask"], batch["flat"])
        for row, window in enumerate(which):
            n = int(own_rows.mask[row].sum())
            assert own_rows.padded(own)[row, :n] == pytest.approx(
                padded[window, :n].numpy(), abs=2e-5
            )
        assert network.decode(own, own_rows) == pytest.approx(decoded[which].numpy(), abs=2e-5)


@torch.no_grad()
def test_no_token_sees_a_later_one_and_all_see_the_past():
    network, raster, scaling, config = tiny()
    batch = batch_of(raster, scaling, config, [5])
    assert len(batch["unit"]) > 3
    state = network(batch)
    later = dict(batch)
    later["unit"] = batch["unit"].clone()
    later["unit"][2:] = 1 + (batch["unit"][2:] % 4)
    moved = network(later)
    assert torch.equal(moved[:2], state[:2])
    assert (moved[2:] - state[2:]).abs().amax(1).min() > 1e-4
    other = dict(batch)
    other["past_unit"] = batch["past_unit"].clone()
    other["past_unit"][-1] = 1 + int(batch["past_unit"][-1]) % 4
    assert (network(other) - state).abs().amax(1).min() > 1e-5


@torch.no_grad()
def test_places_in_the_movie_matter():
    """In the authors' network a movie is a bag of patches: turning it over changes nothing."""
    for extra in ({}, {k: v for k, v in KINDS[3].items() if k == "preset"}):
        small = KINDS[3] if extra else {}
        network, raster, scaling, config = tiny(**{**SEEING, **small})
        batch = batch_of(raster, scaling, config, [6, 7])
        state = network(batch)
        turned = {**batch, "frame": batch["frame"].flip(-2)}
        rolled = {**batch, "frame": batch["frame"].roll(2, -1)}  # a whole patch, so the same set
        # weights of the published start are small, and so is what a place says
        least = 1e-9 if extra else 1e-4
        assert (network(turned) - state).abs().max() > least
        assert (network(rolled) - state).abs().max() > least
        hidden = {**batch, "frame_seen": torch.zeros_like(batch["frame_seen"])}
        noise = {**hidden, "frame": torch.randn_like(batch["frame"])}
        assert torch.equal(network(hidden), network(noise))


@torch.no_grad()
def test_missing_covariates_are_not_looked_at():
    network, raster, scaling, config = tiny(**SEEING, missing_covariates="hide")
    batch = batch_of(raster, scaling, config, [4])
    seen = batch["covariate_seen"].clone()
    seen[:, :3] = False
    value = batch["covariate"].clone()
    value[:, :3] = 7.0
    hidden = network({**batch, "covariate_seen": seen})
    assert torch.equal(hidden, network({**batch, "covariate_seen": seen, "covariate": value}))
    assert (hidden - network(batch)).abs().max() > 1e-5
    signal = raster.signal.copy()
    signal[5] = np.nan
    lost = make_batch(
        replace(raster, signal=signal), cut_windows(raster, 3, 4), scaling, config, CPU
    )
    assert torch.isfinite(lost["covariate"]).all()
    assert not lost["covariate_seen"][1].all()


@pytest.mark.parametrize("causal", [True, False])
def test_attention_is_that_of_the_library(causal):
    torch.manual_seed(0)
    own = Attention(12, 3, 0.0)
    oracle = torch.nn.MultiheadAttention(12, 3, batch_first=True)
    with torch.no_grad():
        oracle.in_proj_weight.copy_(torch.cat([own.query.weight, own.source.weight]))
        oracle.in_proj_bias.copy_(torch.cat([own.query.bias, own.source.bias]))
        oracle.out_proj.weight.copy_(own.out.weight)
        oracle.out_proj.bias.copy_(own.out.bias)
    mask = torch.arange(5) < torch.tensor([3, 5, 1])[:, None]
    rows = Rows(mask, torch.nonzero(mask.flatten())[:, 0])
    x = torch.randn(9, 12)
    got = own(x, rows, x, None if causal else rows)
    padded = rows.padded(x)
    ahead = torch.ones(5, 5).triu(1).bool() if causal else None
    expected, weight = oracle(
        padded, padded, padded, key_padding_mask=~mask, attn_mask=ahead, need_weights=True
    )
    assert got.detach().numpy() == pytest.approx(rows.packed(expected).detach().numpy(), abs=1e-5)
    if not causal:
        assert rows.packed(own.weights(x, rows, x, rows)).detach().numpy() == pytest.approx(
            rows.packed(weight).detach().numpy(), abs=1e-5
        )


def test_a_published_block_is_written_out():
    """x + A(LN x, x, x), + MLP, then LN of the sum; ours has normal keys and no last LN."""
    torch.manual_seed(0)
    x = torch.randn(6, 8)
    rows = Rows(torch.ones(1, 6, dtype=torch.bool), torch.arange(6))
    for published in (True, False):
        block = Block(8, 2, 0.0, cross=False, published=published)
        normal = functional.layer_norm(x, (8,))
        seen = block.attention(normal, rows, x if published else normal, None)
        y = x + seen
        y = y + block.mlp(functional.layer_norm(y, (8,)))
        y = functional.layer_norm(y, (8,)) if published else y
        assert block(x, rows).detach().numpy() == pytest.approx(y.detach().numpy(), abs=1e-5)


def test_alignment_is_cross_entropy_in_both_directions():
    torch.manual_seed(0)
    a, b = torch.randn(5, 8), torch.randn(5, 8)
    alignment = Alignment(8, 2)
    with torch.no_grad():
        u, v = (alignment.project[i](x) for i, x in enumerate((a, b)))
        cosine = functional.cosine_similarity(u[:, None], v[None], dim=-1)
        p = (cosine / 0.5).softmax(1).diagonal().log().mean()
        q = (cosine / 0.5).softmax(0).diagonal().log().mean()
        assert float(alignment([a, b])) == pytest.approx(-float(p + q) / 2, abs=1e-5)


def test_labels_that_are_not_there_do_not_count():
    head = BehaviorHead(4, 2, 0, hidden=False)
    out = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    label = torch.tensor([[0.0, float("nan")], [float("nan"), 1.0]])
    assert float(head.loss(out, label)) == pytest.approx((1 + 9) / 2)
    classes = BehaviorHead(4, 1, 3, hidden=False)
    log_p = torch.tensor([[[0.2, 0.3, 0.5]], [[0.1, 0.1, 0.8]]]).log()
    assert float(classes.loss(log_p, torch.tensor([[1], [-1]]))) == pytest.approx(-np.log(0.3))
    nothing = head.loss(out, torch.full((2, 2), float("nan")))
    assert float(nothing) == 0.0
