"""A step of each stage of Du-IN at its published size: time, floor and memory.

Usage: python tests/scale/unit_step.py [--device cpu] [--repeats 10]

10 contacts at 1 kHz, windows of 4 s in batches of 64 (trials of 3 s in batches of 32), 61 words. A
step is what training does: loss, gradient, AdamW; data stay on the device. The first line of a
stage is as `fit_gradient` steps, on a card with its passes recorded; there further ones take TF32
and bfloat16 products, as they are, recorded, or with the loss compiled. The floor is the larger of
the time of its multiplications at the stated peak and that of moving weights, gradients and moments
at the stated bandwidth.
"""

import argparse
import json

import torch
from bridge_step import BANDWIDTH, PEAK, timed
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from neuropipe.models.du_in.batches import sizes_of
from neuropipe.models.du_in.config import Config
from neuropipe.models.du_in.model import Classifier, MaskedNet, UnitNet
from neuropipe.training.recorded import Recorded

CONTACTS, WORDS = 10, 61


def stages(device: str) -> dict:
    """Return a network and a call that gives its loss, for each stage."""
    sizes = sizes_of(Config(preset="faithful"), 1, CONTACTS, 100)
    torch.manual_seed(0)
    with torch.device(device):
        present = torch.ones(64, CONTACTS, dtype=torch.bool)
        x, subject = torch.randn(64, 4000, CONTACTS), torch.zeros(64, dtype=torch.long)
        trial, word = torch.randn(32, 3000, CONTACTS), torch.randint(WORDS, (32,))
        units, masked = UnitNet(sizes), MaskedNet(sizes, points=False)
        decoder = Classifier(sizes, 30, WORDS, quantised=False, sigmoid=False)
    with torch.no_grad():
        code = units.eval().codes(x, subject)
    return {
        "units": (
            units,
            lambda: units.loss(x, subject, present, quantised=True, weight=1.0)["loss"],
        ),
        "masked": (masked, lambda: masked.loss(x, subject, code)["loss"]),
        "decode": (decoder, lambda: decoder.loss(trial, subject[:32], word, 0.0)["loss"]),
    }


def step_of(net: nn.Module, loss, precision: str, how: str, kind: str):
    """Return a call that makes one step."""
    torch.backends.cuda.matmul.allow_tf32 = precision != "float32"
    torch.backends.cudnn.allow_tf32 = precision != "float32"
    net.train()
    optimizer = torch.optim.AdamW(net.parameters(), 1e-4, weight_decay=0.05, fused=kind == "cuda")
    inner = torch.compile(loss) if how == "compiled" else loss

    def run(batch: dict) -> dict:
        with torch.autocast(kind, torch.bfloat16, enabled=precision == "bfloat16"):
            found = inner()
        found.backward()
        return {"loss": found.detach()}

    one_pass = Recorded(list(net.parameters()), run) if how == "recorded" else run

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        one_pass({})
        optimizer.step()

    return step


def main() -> None:
    """Measure and print a line of JSON each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=10)
    asked = parser.parse_args()
    device, card = asked.device, asked.device != "cpu"
    if not card:
        torch.set_num_threads(1)
    for name in stages(device):
        net, loss = stages(device)[name]
        with FlopCounterMode(display=False) as counter:
            loss().backward()
        flops = float(counter.get_total_flops())
        weights = sum(p.numel() for p in net.parameters())
        n_bytes = 4.0 * weights * 10
        print(json.dumps({"stage": name, "parameters": weights, "tflop": flops / 1e12}), flush=True)
        ways = [("float32", "recorded" if card else "plain")]
        if card:
            ways += [("tf32", how) for how in ("plain", "recorded", "compiled")]
            ways += [("bfloat16", "recorded")]
        for precision, how in ways:
            net, loss = stages(device)[name]
            if card:
                torch.cuda.reset_peak_memory_stats()
            line = {"stage": name, "precision": precision, "how": how}
            try:
                step = step_of(net, loss, precision, how, torch.device(device).type)
                seconds = timed(step, device, asked.repeats)
            except torch._dynamo.exc.BackendCompilerFailed as error:
                print(json.dumps({**line, "failed": str(error)[:80]}), flush=True)
                continue
            line["step_ms"] = 1e3 * seconds
            if card:
                floor = max(flops / PEAK[precision], n_bytes / BANDWIDTH)
                peak = torch.cuda.max_memory_allocated() / 2**30
                line |= {"floor_ms": 1e3 * floor, "peak_gb": peak}
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
