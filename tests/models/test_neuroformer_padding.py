"""Batches of round sizes: few of them, and the same losses and gradients as without."""

import numpy as np
import pytest
import torch
import torch._dynamo.testing
from tiny_neuroformer import CPU, SEEING, tiny

from neuropipe.batching.tokens import cut_windows
from neuropipe.models.neuroformer import attention
from neuropipe.models.neuroformer.attention import Block
from neuropipe.models.neuroformer.batches import Loader, make_batch
from neuropipe.models.neuroformer.padding import LEAST, round_number
from neuropipe.models.neuroformer.training import train
from neuropipe.training import loop
from neuropipe.training.checkpoint import Checkpoint

PUBLISHED = {
    "preset": "faithful", "width": 16, "n_heads": 2, "layers_current": 1, "layers_frames": 1,
    "layers_stimulus": 1, "layers_covariates": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"heads": "independent"},
        {"covariates": ("speed",), "targets": ("turn",), "layers_current": 0},
        {"targets": ("speed",), "target_kind": "classes", "n_classes": 3, "objective": "behavior"},
        {**SEEING, **PUBLISHED},
    ],
)
def test_what_fills_a_batch_up_changes_no_loss_and_no_gradient(kind):
    network, raster, scaling, config = tiny(**kind)
    windows = cut_windows(raster, config.window_bins, config.history_bins)
    found = []
    for rounded in (False, True):
        batch = make_batch(raster, windows, scaling, config, CPU, rounded=rounded)
        network.zero_grad(set_to_none=True)
        terms = network.losses(batch, config.objective, config.behavior_weight)
        terms["loss"].backward()
        found.append(
            (
                {name: float(value.detach()) for name, value in terms.items()},
                {n: p.grad.numpy() for n, p in network.named_parameters() if p.grad is not None},
            )
        )
    assert len(batch["unit"]) % LEAST == 0
    assert not batch["counted"].all()
    (terms, grads), (filled, filled_grads) = found
    assert filled == pytest.approx(terms, rel=1e-5)
    assert grads.keys() == filled_grads.keys()
    assert sum(np.abs(g).sum() for g in grads.values()) > 0
    for name, grad in grads.items():
        error = np.abs(filled_grads[name] - grad).max()
        assert error <= 1e-5 * np.abs(grad).max() + 1e-8, name


def test_many_batches_have_few_sizes():
    _, raster, scaling, config = tiny(training={"batch_size": 4, "epochs": 1})
    number = []
    for rounded in (False, True):
        loader = Loader([raster], scaling, config, CPU, seed=0, rounded=rounded)
        batches = [batch for epoch in range(10) for batch in loader(epoch)]
        number.append(len({tuple((k, *v.shape) for k, v in batch.items()) for batch in batches}))
    assert number[1] <= 8 < 20 < number[0]


@pytest.mark.parametrize("parts", [4, 8])
def test_round_numbers(parts):
    numbers = [round_number(n, parts) for n in range(1, 5000)]
    assert all(n <= r for n, r in enumerate(numbers, 1))
    assert all(r <= n * (1 + 1 / parts) for n, r in enumerate(numbers, 1) if n >= 16 * parts)
    assert len(set(numbers)) < 80
    assert [round_number(n, 4) for n in (1, 16, 17, 128, 129, 1000)] == [16, 16, 32, 128, 160, 1024]


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # torch's own look at it
def test_blocks_are_traced_whole_and_once_for_all_sizes(monkeypatch):
    """As on a card, but without a compiler: torch traces the blocks and runs what it traced."""
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    traced = torch.compile(Block.whole, dynamic=True, fullgraph=True, backend=counter)
    monkeypatch.setattr(attention, "_compiled", lambda: traced)
    settings = {"dropout": 0.0, "training": {"batch_size": 4, "epochs": 1}}
    network, raster, scaling, config = tiny(**{**SEEING, **PUBLISHED, **settings})
    network.train()
    loader = Loader([raster], scaling, config, CPU, seed=0, rounded=True)
    drawn = [b for epoch in range(5) for b in loader(epoch) if "frame_seen" not in b]
    batches = {len(b["unit"]): b for b in drawn}
    assert len(batches) > 1
    traces = []
    for batch in batches.values():
        grads = []
        for compiled in (False, True):
            for module in network.modules():
                if isinstance(module, Block):
                    module.compiled = compiled
            network.zero_grad(set_to_none=True)
            network.losses(batch, "all", 1.0)["loss"].backward()
            grads.append({k: p.grad for k, p in network.named_parameters() if p.grad is not None})
        traces.append(counter.frame_count)
        for name, grad in grads[0].items():
            error = (grad - grads[1][name]).abs().max()
            assert error <= 1e-5 * grad.abs().max() + 1e-8, name
    assert traces == traces[:1] * len(traces)


@pytest.mark.gpu
def test_recorded_training_is_the_same_to_the_bit(monkeypatch):
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    found, replays = [], []
    inner = torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda g: (replays.append(1), inner(g)))
    for recorded in (True, False):
        if not recorded:
            monkeypatch.setattr(loop, "Recorded", lambda weights, run: run)
        settings = {"dropout": 0.2, "training": {"batch_size": 4, "epochs": 12}}
        network, raster, scaling, config = tiny(**{**SEEING, **PUBLISHED, **settings})
        history = train(
            network.to("cuda"), [raster], scaling, config, seed=0, kept=Checkpoint(None, "")
        )
        found.append((history.terms, network.state_dict()))
    assert replays
    assert found[0][0] == found[1][0]
    for name, value in found[0][1].items():
        assert torch.equal(value, found[1][1][name]), name
