"""A step of MindBridge at its published size: time, floor and memory.

Usage: python tests/scale/bridge_step.py --device cuda              # 693.6 million numbers, 4 x 50
       python tests/scale/bridge_step.py --device cpu --scale 10    # a tenth of every width

A step is what training does: the objective of four subjects with 50 images each, its gradient, the
norm clipped at 1, AdamW. Patterns, already pooled, and targets are random and stay on the device,
as cached targets would. The first line is as `fit_gradient` steps; the others take TF32 or
bfloat16 products, a fused AdamW, and compile the objective. The floor is the larger of the time of
its multiplications at the stated peak and the time of moving weights, gradients, moments and
targets at the stated bandwidth.
``losses`` times SoftCLIP and MSE alone, from Gram matrices as here, and with both tensors copied
and normalised as the authors' code does.
"""

import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F

from neuropipe.models.mindbridge.config import Config
from neuropipe.models.mindbridge.losses import cosines, soft_clip, unit_mse
from neuropipe.models.mindbridge.model import Bridge, Form, n_parameters
from neuropipe.models.mindbridge.objective import objective

VOXELS = (15724, 14278, 13039, 12682)  # NSD's subjects 1, 2, 5, 7
BATCH = 50
WIDTHS = {"common": 8192, "hidden": 2048, "adapter": 128, "image": 257 * 768, "text": 77 * 768}
# Dense peaks of an H200 (without sparsity) and its memory, from its data sheet.
PEAK = {"float32": 67e12, "tf32": 494e12, "bfloat16": 989e12}
BANDWIDTH = 4.8e12


def clock(device: str) -> float:
    """Return seconds of this process on CPU, or on the clock once a card is idle."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def timed(call, device: str, repeats: int) -> float:
    """Return the median seconds of a call, after three that warm up."""
    for _ in range(3 if device != "cpu" else 1):
        call()
    found = []
    for _ in range(repeats):
        began = clock(device)
        call()
        found.append(clock(device) - began)
    return statistics.median(found)


def made(scale: int, device: str) -> tuple[Bridge, dict]:
    """Return the network and a batch."""
    w = {name: n // scale for name, n in WIDTHS.items()}
    form = Form(
        "max", w["common"], w["hidden"], w["adapter"], 4, 0.5, 0.15, w["image"], w["text"], None,
        True, False,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(device):
        bridge = Bridge(form, VOXELS).train()
        batch = {f"x{s}": torch.randn(BATCH, w["common"]) for s in range(len(VOXELS))}
        for head in ("image", "text"):
            batch[head] = F.normalize(torch.randn(BATCH * len(VOXELS), w[head]), dim=1)
    return bridge, {**batch, "pair": torch.tensor([0, 1]), "epoch": torch.tensor(0)}


def multiplications(bridge: Bridge, batch: dict) -> float:
    """Return the floating-point operations of a step's products, counted by torch."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        loss = objective(bridge, Config(preset="faithful"), 600, range(len(VOXELS)))(batch)
        loss["loss"].backward()
    bridge.zero_grad(set_to_none=True)
    return float(counter.get_total_flops())


def moved(bridge: Bridge, batch: dict) -> float:
    """Return bytes: weights read forth and back and written, gradients and moments, targets."""
    weights = 4.0 * n_parameters(bridge)
    targets = sum(4.0 * batch[head].numel() for head in ("image", "text"))
    return weights * (2 + 1 + 1 + 2 + 4) + 3 * targets


def step_of(bridge: Bridge, batch: dict, precision: str, fused: bool, compiled: bool):
    """Return a call that makes one step."""
    torch.backends.cuda.matmul.allow_tf32 = precision != "float32"
    optimizer = torch.optim.AdamW(bridge.parameters(), 1.5e-4, weight_decay=0.01, fused=fused)
    loss = objective(bridge, Config(preset="faithful"), 600, range(len(VOXELS)))
    if compiled:
        loss = torch.compile(loss)
    kind = batch["image"].device.type

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(kind, torch.bfloat16, enabled=precision == "bfloat16"):
            found = loss(batch)["loss"]
        found.backward()
        torch.nn.utils.clip_grad_norm_(bridge.parameters(), 1.0)
        optimizer.step()

    return step


def copied(p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Return both losses of one head as they are written down."""
    p, t = F.normalize(p, dim=1), F.normalize(t, dim=1)
    wanted = F.softmax(t @ t.T / 0.005, dim=1)
    both = (F.log_softmax(p @ t.T / 0.005, 1), F.log_softmax(t @ p.T / 0.005, 1))
    clip = -sum((wanted * one).sum(1).mean() for one in both) / 2
    return clip + 1e4 * F.mse_loss(p, t)


def from_gram(p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Return both losses of one head from two Gram matrices."""
    pt, tt = cosines(p, t)
    return soft_clip(pt, tt, 0.005) + 1e4 * unit_mse(pt, p.shape[1])


def losses(batch: dict, device: str, repeats: int) -> dict:
    """Return seconds and, on a card, peak MB beyond the inputs of both ways, with gradients."""
    out = {}
    t = batch["image"]
    p = torch.randn_like(t).requires_grad_()
    for name, way in (("gram", from_gram), ("copied", copied)):

        def call(way=way) -> None:
            p.grad = None
            way(p, t).backward()

        out[f"{name}_s"] = timed(call, device, repeats)
        if device != "cpu":
            p.grad = None
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            call()
            out[f"{name}_mb"] = (torch.cuda.max_memory_allocated() - before) / 2**20
    with torch.no_grad():
        out["difference"] = float((from_gram(p, t) - copied(p, t)).abs())
    return out


def main() -> None:
    """Measure and print a line of JSON each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--scale", type=int, default=1, help="Every width is divided by it.")
    parser.add_argument("--repeats", type=int, default=10)
    asked = parser.parse_args()
    device, card = asked.device, asked.device != "cpu"
    if not card:
        torch.set_num_threads(1)
    bridge, batch = made(asked.scale, device)
    flops, n_bytes = multiplications(bridge, batch), moved(bridge, batch)
    about = {"parameters": n_parameters(bridge), "tflop": flops / 1e12, "gb_moved": n_bytes / 1e9}
    print(json.dumps({"device": torch.cuda.get_device_name() if card else "one core",
                      "scale": asked.scale, **about}), flush=True)  # fmt: skip
    print(json.dumps({"losses": losses(batch, device, asked.repeats)}), flush=True)
    ways = [("float32", False, False)]
    if card:
        ways += [(kind, True, compiled) for kind in ("tf32", "bfloat16") for compiled in (0, 1)]
    for precision, fused, compiled in ways:
        del bridge
        bridge, _ = made(asked.scale, device)
        if card:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        seconds = timed(step_of(bridge, batch, precision, fused, compiled), device, asked.repeats)
        line = {"precision": precision, "fused": fused, "compiled": bool(compiled),
                "step_ms": 1e3 * seconds}  # fmt: skip
        if card:
            floor = max(flops / PEAK[precision], n_bytes / BANDWIDTH)
            line |= {"floor_ms": 1e3 * floor, "of_floor": floor / seconds,
                     "peak_gb": torch.cuda.max_memory_allocated() / 2**30}  # fmt: skip
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
