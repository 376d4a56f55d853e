"""Cost of the Neuroformer against neurons, window and history: batches, steps, drawing.

Usage: python tests/scale/token_cost.py [--device cpu] [--neurons 30 300 2000] [--rate-hz 3.0]
           [--window 5] [--history 15] [--batch 64] [--published] [--movie] [--patch 5 5]
           [--precision tf32] [--compiled]

A row for each combination, in the default network (``--published``: the paper's sizes and blocks):
milliseconds to make a batch, median, and to take a step on it, mean of a few; tokens a second
that are drawn, for one stream and for many side by side, when every stream draws as many spikes
a window as were recorded, the past's keys included. Units fire independently; bins are 10 ms.
Times are those of the CPU, one core, or on the clock where the device is a card; there steps and
drawing are replayed from recorded graphs, and once more run without them. ``--movie`` shows each
window three frames of 30 x 100 pixels. The paper's lateral recording, with about its spikes:
``--published --movie --patch 5 5 --neurons 2023 --rate-hz 0.2 --history 5 --batch 160``.
"""

import argparse
import itertools
import statistics
import sys
import time

import numpy as np
import torch
import xarray as xr

from neuropipe.models.neuroformer.attention import Block
from neuropipe.models.neuroformer.batches import Loader, make_batch
from neuropipe.models.neuroformer.config import Config
from neuropipe.models.neuroformer.decoding import Sampler
from neuropipe.models.neuroformer.model import Network
from neuropipe.models.neuroformer.scaling import read_training, sizes_of
from neuropipe.models.neuroformer.training import initialise
from neuropipe.runtime import generator
from neuropipe.training.precision import bfloat16_products, tf32_products
from neuropipe.training.recorded import WARM, Recorded

BIN_S = 0.01
HEADER = (
    "neurons", "window", "history", "spikes/window", "past/window", "weights", "ms a batch",
    "ms a step", "GiB", "batch/step", "spikes/s trained", "tokens/s, one", "tokens/s, many",
    "without a graph: ms a step", "tokens/s, one", "many",
)  # fmt: skip


def clock(device):
    """Return seconds so far: of this process, or on the clock once a card is idle."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def recording(n_units, n_bins, rate_hz, movie):
    """Return a session of independent units, with a movie at 20 Hz or without."""
    rng = np.random.default_rng(0)
    second, one = {"units": "s"}, {"units": "1"}
    counts = (rng.random((n_bins, n_units), dtype=np.float32) < rate_hz * BIN_S).astype(np.uint16)
    time_s = ("time", (np.arange(n_bins) + 0.5) * BIN_S, second)
    nodes = {
        "/": xr.Dataset(attrs={"subject": "s", "session": "made"}),
        "/counts": xr.Dataset(
            {"spike_count": (("time", "unit"), counts, {**one, "bin_width_s": BIN_S})},
            {"time": time_s, "unit": ("unit", np.arange(n_units), one)},
        ),
    }
    if movie:
        onset = np.arange(0, n_bins * BIN_S, 0.05)
        pixel = rng.random((len(onset), 30, 100), dtype=np.float32)
        nodes["/stimulus/movie"] = xr.Dataset(
            {"frame": (("frame", "y", "x"), pixel, one), "frame_time": ("frame", onset, second)}
        )
    return xr.DataTree.from_dict(nodes)


class Unrecorded(Sampler):
    """A sampler that runs each step as it is."""

    def _record(self):
        self.graph = self

    def replay(self):
        self.taken = self._step()


def drawing_rate(kind, network, raster, scaling, config, n_streams, n_spikes, device):
    """Return tokens a second that so many streams draw."""
    loader = Loader([raster], scaling, config, device, seed=1)
    windows = loader._windows(raster, 0)
    at = np.arange(n_streams) % (len(windows) // 2) + len(windows) // 2  # their past is whole
    part = windows.take(at)
    batch = make_batch(raster, part, scaling, config, device)
    batch["window_size"] = torch.as_tensor(part.size).to(device)
    sampler = kind(network, n_spikes + 1)
    uniform = torch.rand(n_spikes + 1, n_streams, 2, device=device, dtype=torch.float64)
    bins = torch.linspace(0, config.window_bins - 1, n_spikes + 1, device=device).long()
    units = torch.zeros(n_streams, dtype=torch.int64, device=device)

    @torch.no_grad()
    def window():
        sampler.open(batch)
        for step in range(n_spikes + 1):
            sampler(bins[step].expand(n_streams), units if step else units - 1, uniform[step])

    window()
    took = []
    while len(took) < 2 or (sum(took) < 0.5 and len(took) < 200):
        began = clock(device)
        window()
        took.append(clock(device) - began)
    return n_streams * (n_spikes + 1) / statistics.median(took)


def step_ms(o, network, batches, device, *, recorded):
    """Return the mean time of steps in a row, and the peak of a card's memory in GiB."""
    weights = list(network.parameters())
    optimizer = torch.optim.AdamW(weights, lr=1e-4, fused=device.type == "cuda")

    def run(batch):
        with tf32_products(o.precision == "tf32"):
            with bfloat16_products(o.precision == "bfloat16", device.type):
                loss = network.losses(batch, "all", 1.0)["loss"]
            loss.backward()
        return {"loss": loss.detach()}

    run = Recorded(weights, run) if recorded else run
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    # a kind of batch runs as it is at first, so that only the last round is timed
    rounds = WARM + 2 if recorded else 2
    for _ in range(rounds):
        began = clock(device)
        for batch in batches:
            optimizer.zero_grad(set_to_none=True)
            run(batch)
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
    took = 1e3 * (clock(device) - began) / len(batches)
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else float("nan")
    return took, peak


def row(o, n_units, window, history, device):
    """Measure one combination."""
    stimulus = {"stimulus": "stimulus/movie", "n_frames": 3} if o.movie else {}
    stimulus |= {"patch": tuple(o.patch)} if o.movie and o.patch else {}
    config = Config(
        preset="faithful" if o.published else "default", window_bins=window, history_bins=history,
        min_spikes=1, validation_share=0.0, training={"batch_size": o.batch}, **stimulus,
    )  # fmt: skip
    n_batches = o.steps + 2
    n_bins = (n_batches * o.batch + 2) * window + history
    rasters, scaling = read_training([recording(n_units, n_bins, o.rate_hz, o.movie)], config)
    network = Network(config.form, sizes_of(scaling, config))
    initialise(network, scaling, generator(0, "init"))
    network.to(device).train()
    for module in network.modules():
        if isinstance(module, Block):
            module.compiled = o.compiled
    on_card = device.type == "cuda"
    loader = Loader(rasters, scaling, config, device, seed=0, rounded=on_card)
    batches, making = [], []
    found = iter(loader(0))
    for _ in range(min(n_batches, loader.n_batches)):
        began = clock(device)
        batches.append(next(found))
        making.append(1e3 * (clock(device) - began))
    # windows end once, so their other tokens are spikes
    counted = [int(b["counted"].sum()) if on_card else len(b["unit"]) for b in batches]
    spikes = [n - o.batch for n in counted]
    past = [int(b["past_mask"].sum()) - o.batch for b in batches]
    plain, peak = step_ms(o, network, batches, device, recorded=False)
    step = plain
    if on_card:
        step, peak = step_ms(o, network, batches, device, recorded=True)
    making = statistics.median(making[1:])
    n_spikes = max(round(statistics.mean(spikes) / o.batch), 1)
    network.eval()
    rates = []
    for kind in (Sampler, Unrecorded)[: 2 if on_card else 1]:
        rates += [plain] if kind is Unrecorded else []
        rates += [
            drawing_rate(kind, network, rasters[0], scaling, config, n, n_spikes, device)
            for n in (1, o.streams)
        ]
    n_weights = sum(p.numel() for p in network.parameters())
    return (
        n_units, window, history, statistics.mean(spikes) / o.batch,
        statistics.mean(past) / o.batch, n_weights, making, step, peak, making / step,
        1e3 * statistics.mean(spikes) / (making + step), *rates,
    )  # fmt: skip


def main():
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    for name, default in (("neurons", [30, 300, 2000]), ("window", [5]), ("history", [15])):
        parser.add_argument(f"--{name}", type=int, nargs="+", default=default)
    parser.add_argument("--rate-hz", type=float, default=3.0)
    for name, default in (("batch", 64), ("steps", 5), ("streams", 256)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--precision", default="float32", help="of a step: tf32, bfloat16")
    parser.add_argument("--patch", type=int, nargs=2, help="pixels of a patch of the movie")
    for name in ("published", "movie", "compiled"):
        parser.add_argument(f"--{name}", action="store_true")
    o = parser.parse_args()
    torch.set_num_threads(1)
    sys.stdout.write("| " + " | ".join(HEADER) + " |\n| " + "--- | " * len(HEADER) + "\n")
    for sizes in itertools.product(o.neurons, o.window, o.history):
        values = row(o, *sizes, torch.device(o.device))
        shown = (f"{v:.4g}" if isinstance(v, float) else str(v) for v in values)
        sys.stdout.write("| " + " | ".join(shown) + " |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
