"""What cycle reconstruction and cross-subject synthesis are worth: paired differences over seeds.

Usage: python tests/scale/bridge_ablation.py --network default published [--seeds 5] [--images 100]

Brains of a tenth of NSD's size, whose truth is known (tests/models/planted_brains.py): a bridge of
three subjects with 400 images each takes in a fourth one with few images. Each variant lacks one
part in both stages; all share data, seeds and held-out images. Differences are whole minus
variant, with their mean and 95 % t interval over seeds. A few minutes a seed on one core.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from scipy import stats

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "models"), str(HERE.parent / "batching")]

from planted_brains import as_subjects, levels, unit, world  # noqa: E402

from neuropipe.models.mindbridge.adapting import adapt_bridge  # noqa: E402
from neuropipe.models.mindbridge.batches import patterns_of, pooled, unit_codes  # noqa: E402
from neuropipe.models.mindbridge.bridging import fit_bridge  # noqa: E402
from neuropipe.models.mindbridge.config import Config  # noqa: E402
from neuropipe.training.checkpoint import Checkpoint  # noqa: E402

CPU = torch.device("cpu")
SOURCES, NEW, N_SOURCE = (1, 2, 5), 7, 400
METRICS = ("two-way", "image top-1", "brain top-1")
NETWORKS = {
    "default": {},
    "published": {
        "preset": "faithful", "common_size": 819, "hidden": 256, "training": {"epochs": 10},
        "adaptation": {"epochs": 60},
    },
}  # fmt: skip
WITHOUT = {
    "default": {
        "cycle loss": {"cycle_weight": 0.0},
        "cycle and own reconstruction": {"cycle_weight": 0.0, "reconstruction_weight": 0.0},
        "synthesised patterns": {"pseudo_weight": 0.0},
        "all of these": {"cycle_weight": 0.0, "reconstruction_weight": 0.0, "pseudo_weight": 0.0},
    },
    # the paper's pseudo-data act through the cycle loss alone
    "published": {
        "cycle loss, pseudo-data": {"cycle_weight": 0.0},
        "own reconstruction": {"reconstruction_weight": 0.0},
    },
}


def scores(drawn: dict, n_images: int, settings: dict, seed: int) -> tuple:
    """Return the new subject's held-out scores."""
    config, kept = Config(**settings), Checkpoint(None, "")
    numbers = dict.fromkeys(SOURCES, N_SOURCE)
    subjects, codes = as_subjects(drawn, numbers)
    data, known = [patterns_of(s, config, CPU) for s in subjects], unit_codes(codes, CPU)
    source = fit_bridge(data, known, config, seed=seed, stage="source", kept=kept)
    subjects, codes = as_subjects(drawn, {**numbers, NEW: n_images})
    *lent, new = (patterns_of(s, config, CPU) for s in subjects)
    fitted = adapt_bridge(
        source, new, lent, unit_codes(codes, CPU), config, seed=seed, stage="new", kept=kept
    )
    test = drawn[NEW]["test"]
    x = pooled(test.reshape(-1, test.shape[2]), config).reshape(len(test), 3, -1).mean(1)
    with torch.no_grad():
        guess = fitted.predict(x, str(NEW))["image"].numpy().astype(float)
    center = unit(drawn[NEW]["codes"][0]).mean(0)
    return levels(guess - center, unit(drawn["test"][0]) - center)


def main() -> None:
    """Run the variants and print the differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--images", type=int, default=100)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for network in asked.network:
        variants = {"whole": {}, **WITHOUT[network]}
        found = {name: [] for name in variants}
        for seed in range(asked.seeds):
            drawn = world(seed, n_train=N_SOURCE)
            for name, changed in variants.items():
                began = time.process_time()
                settings = {**NETWORKS[network], **changed}
                found[name].append(scores(drawn, asked.images, settings, seed))
                print(network, seed, name, np.round(found[name][-1], 3),
                      f"{time.process_time() - began:.0f} s", flush=True)  # fmt: skip
        whole = np.array(found.pop("whole"))
        print(f"\n{network}: whole", dict(zip(METRICS, whole.mean(0).round(3), strict=True)))
        for name, values in found.items():
            difference = whole - np.array(values)
            mean, error = difference.mean(0), stats.sem(difference, axis=0)
            reach = stats.t.ppf(0.975, len(difference) - 1) * error
            for metric, m, r in zip(METRICS, mean, reach, strict=True):
                print(f"{network}: with minus without {name}: {metric} {m:+.4f} "
                      f"[{m - r:+.4f}, {m + r:+.4f}]")  # fmt: skip


if __name__ == "__main__":
    main()
