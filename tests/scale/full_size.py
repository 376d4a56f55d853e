"""Every model at its published size on planted data: a line of JSON with its levels and its time.

Usage: python tests/scale/full_size.py MODEL [--device cuda] [--seed 0] [--tiny]

MODEL is one of the functions below; its docstring says what is planted and what is asked. Seconds
are of the clock, drawing the data apart; on a card products of the large networks are TF32.
``--tiny`` shrinks everything until it runs on one core in a minute, to see that it runs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
sys.path.insert(0, str(Path(__file__).parents[1] / "batching"))


class Clock:
    """Seconds since it was made, once the device is idle, and the peak of its memory."""

    def __init__(self, device: str) -> None:
        self.card = device != "cpu"
        if self.card:
            torch.cuda.reset_peak_memory_stats()
        self.began = self.now()

    def now(self) -> float:
        """Return the time."""
        if self.card:
            torch.cuda.synchronize()
        return time.perf_counter()

    def read(self) -> dict[str, float]:
        """Return both."""
        peak = {"peak_gib": torch.cuda.max_memory_allocated() / 2**30} if self.card else {}
        return {"seconds": self.now() - self.began, **peak}


def hmm_glm(device: str, seed: int, tiny: bool):
    """30 sequences of 2000 bins, 20 neurons, 5 states: T2 (gap .02, r .98) and T3 (gap .015)."""
    from planted import compare, plant

    from neuropipe.models.hmm_glm.config import Config
    from neuropipe.models.hmm_glm.model import Batch, Parameters
    from neuropipe.models.hmm_glm.search import search
    from neuropipe.training.checkpoint import Checkpoint

    planted = plant(seed, 2 if tiny else 30, 2 if tiny else 10)
    dtype = torch.float64 if device == "cpu" else torch.float32
    train = planted.train
    train = Batch(
        train.features.to(device, dtype), train.counts.to(device, dtype),
        train.observed.to(device), train.lengths.to(device),
    )  # fmt: skip
    for prior in ("none",) if tiny else ("none", "gaussian", "one_hot"):
        clock = Clock(device)
        config = Config(prior=prior, link="sigmoid", share_bias=True)
        found = search(train, 5, config, seed=seed, checkpoint=Checkpoint(None, ""))
        took = clock.read()
        found.parameters = Parameters(*(p.cpu().double() for p in found.parameters))
        yield {"prior": prior, **compare(planted, found), **took}


def mm_gpvae(device: str, seed: int, tiny: bool):
    """1,000 trials of the toy: each latent one-to-one >= .95, length scales 9 to 11 bins, 20 s."""
    from planted_latents import WIDTH_S, Planted

    from neuropipe.models.mm_gpvae.estimator import MMGPVAE

    planted = Planted(seed, 40 if tiny else 800, 10 if tiny else 200)
    clock = Clock(device)
    model = MMGPVAE(**({"training": {"epochs": 5}} if tiny else {}))
    model.fit([planted.train], seed=seed, device=device)
    took = clock.read()
    levels = {k: v[1] for k, v in planted.recovery(model).items()}
    length = model.parameters_["length_scale"].values / WIDTH_S
    yield {**levels, "length_bins": length.round(2).tolist(), **took}


def mm_gpvae_images(device: str, seed: int, tiny: bool):
    """Turning digits, convolutions, 8,400 steps: shared .98, neural .97, zoom .75, image .75, 30 s.

    The published objective on the published schedule comes second, for the comparison.
    """
    from planted_latents import WIDTH_S, affine_r2, session, trials
    from rotating_digits import digits

    from neuropipe.models.mm_gpvae.estimator import MMGPVAE

    n, cut = (20, 15) if tiny else (300, 240)
    drawn = digits(n_trials=n, seed=32 + seed)
    frames = drawn["frame"].reshape(-1, 1296)
    recording = session(drawn["count"].reshape(-1, 100), frames)
    train, test = (trials(recording, [60] * n, a, b) for a, b in ((0, cut), (cut, None)))
    seen = trials(recording, [60] * n, 0, min(cut, 60))
    own = {"image_shape": (36, 36), "behavior_encoder": "conv", "behavior_decoder": "conv"}
    published = {"preset": "faithful", "image_shape": (36, 36)}
    for name, settings, epochs in (("default", own, 60), ("default", own, 700),
                                   ("faithful", published, 700)):  # fmt: skip
        clock = Clock(device)
        model = MMGPVAE(**settings, training={"epochs": 1 if tiny else epochs})
        model.fit([train], seed=seed, device=device)
        took = clock.read()
        found = [model.transform(r) for r in (seen, test)]
        latents = [f["latent"].values.astype(float) for f in found]
        levels = {
            k: affine_r2(latents, (drawn[k][: min(cut, 60)].ravel(), drawn[k][cut:].ravel()),
                         [0, 1, 2])
            for k in ("shared", "neural", "zoom")
        }  # fmt: skip
        image, data = found[1]["behavior"].values, frames[cut * 60 :]
        levels["image"] = 1 - ((data - image) ** 2).sum() / ((data - data.mean()) ** 2).sum()
        length = model.parameters_["length_scale"].values / WIDTH_S
        yield {"preset": name, "epochs": epochs, **levels, "length_bins": length.round(2).tolist(),
               **took}  # fmt: skip


def neuroformer(device: str, seed: int, tiny: bool, n_units: int = 30, epochs: int = 10):
    """2,000 s of 30 units: joint explainable share >= .95, hubs' edges >= .95."""
    from planted_spikes import edges_found, session, sides, token_floor

    from neuropipe.models.neuroformer.estimator import Neuroformer

    plan = {"duration_s": 60.0 if tiny else 2000.0, "n_units": n_units}
    recording, truth = session(seed, **plan)
    train, held = sides(recording)
    clock = Clock(device)
    model = Neuroformer(
        history_bins=5, stimulus="stimulus/bar", patch=(12, 4), width=64, dropout=0.0,
        connectivity=("readout",),
        training={"epochs": 1 if tiny else epochs, "precision": "tf32"},
    )  # fmt: skip
    model.fit([train], seed=seed, device=device)
    took = clock.read()
    n_windows = int((held["windows"]["stop_time"] - held["windows"]["start_time"]).sum() / 0.05)
    floor, oracle = token_floor(held, truth, n_windows)
    scores = model.score(held)
    share = (floor - scores["joint_cross_entropy"]) / (floor - oracle)
    edges = edges_found(model.parameters_["connectivity"].values, truth["weight"].values)
    yield {"units": n_units, "explainable_share": share, "edges": edges,
           "bits_per_spike": scores["bits_per_spike"], "unigram": floor, "oracle": oracle,
           **took}  # fmt: skip


def neuroformer_wide(device: str, seed: int, tiny: bool):
    """500 units, 2,000 s: joint explainable share >= .85."""
    yield from neuroformer(device, seed, tiny, 60 if tiny else 500, 3)


def mindbridge(device: str, seed: int, tiny: bool):
    """NSD's voxels, 257 x 768 and 77 x 768 targets: two-way >= .99 and top-1 of 300 >= .60.

    Four subjects by the published objective and by the default model, and one subject alone.
    """
    from planted_brains import as_subjects, levels, unit, world

    from neuropipe.models.mindbridge.batches import patterns_of, pooled, unit_codes
    from neuropipe.models.mindbridge.bridging import fit_bridge
    from neuropipe.models.mindbridge.config import Config
    from neuropipe.training.checkpoint import Checkpoint

    n = 60 if tiny else 2000
    size = {} if tiny else {"shrunk": 1, "n_image": 257 * 768, "n_text": 77 * 768}
    drawn = world(seed, n_train=n, n_test=50 if tiny else 300, **size)
    where = torch.device(device)
    small = {"common_size": 819, "hidden": 256} if tiny else {}
    epochs = 2 if tiny else 60
    faithful, tf32 = {"preset": "faithful", **small}, {"precision": "tf32", "epochs": epochs}
    for name, numbers, config in (
        ("published, four subjects", dict.fromkeys((1, 2, 5, 7), n),
         Config(**faithful, training=tf32)),
        ("default, four subjects", dict.fromkeys((1, 2, 5, 7), n),
         Config(training=tf32)),
        ("published, one subject", {7: n},
         Config(**faithful, mode="single", training={**tf32, "learning_rate": 3e-4})),
    ):  # fmt: skip
        subjects, codes = as_subjects(drawn, numbers)
        data = [patterns_of(s, config, where) for s in subjects]
        codes = unit_codes(codes, where)
        clock = Clock(device)
        fitted = fit_bridge(data, codes, config, seed=seed, stage="levels",
                            kept=Checkpoint(None, ""))  # fmt: skip
        took = clock.read()
        test = drawn[7]["test"]
        x = pooled(test.reshape(-1, test.shape[2]), config).reshape(len(test), 3, -1).mean(1)
        with torch.no_grad():
            guess = fitted.predict(x.to(where), "7")["image"].cpu().numpy().astype(float)
        center = unit(drawn[7]["codes"][0]).mean(0)
        two_way, top1, back1 = levels(guess - center, unit(drawn["test"][0]) - center)
        yield {"fit": name, "two_way": two_way, "top1": top1, "back1": back1, **took}
        del fitted, data, codes


def du_in(device: str, seed: int, tiny: bool):
    """61 words 48 times, 10 contacts, published widths: words >= .95, hidden codes inside words.

    64 codes, and the paper's 2,048, of which each of the 16 planted units has many: purity then
    says more than NMI, and which of its codes a unit takes cannot be told. Onsets are jittered in
    the last line.
    """
    from planted_words import SMALL, likeness, only, sides, words

    from neuropipe.models.du_in.estimator import DuIN, DuINFromScratch
    from neuropipe.models.du_in.stages import fit_masked, fit_units

    plan = {
        "n_words": 16 if tiny else 61, "n_repetitions": 8 if tiny else 48, "n_runs": 4,
        "n_channels": 30, "n_speech": 10, "n_units": 16, "word_units": 8, "lead_units": 20,
        "gap_units": 4,
    }  # fmt: skip

    def stage(epochs: int, rate: float, batch_size: int = 64) -> dict:
        epochs = 1 if tiny else epochs
        return {"epochs": epochs, "batch_size": batch_size, "learning_rate": rate,
                "precision": "tf32"}  # fmt: skip

    def inside(model: DuIN, truth, recording, kept: Path) -> float:
        """Share of hidden codes inside words that are told, validating windows."""
        _, found, fit = model.prepared([recording], seed=seed, device=device, checkpoint=kept)
        units = fit_units(fit)
        net, index, right = fit_masked(fit, units), fit.validating, []
        for n in range(len(index)):
            batch = fit.bank.windows(index.start[n : n + 1], index.subject[n : n + 1], fit.length)
            middle = found[0].seconds(index.start[n]) + 0.1 * np.arange(fit.length // 100) + 0.05
            slot = np.searchsorted(truth["token_start_time"].values, middle, side="right") - 1
            mask = torch.arange(len(middle), device=device).remainder(2).bool()[None]
            with torch.no_grad():
                want = units.codes(batch["x"], batch["subject"])
                got = net(batch["x"], batch["subject"], mask).argmax(-1)
            right += (got == want)[0].cpu().numpy()[truth["token_in_word"].values[slot]].tolist()
        return float(np.mean(right))

    size = SMALL if tiny else {"n_exchanges": 0}
    for n_codes in (64, 2048):
        recording, truth = words(seed, **plan, snr=1.92, jitter_s=0.0)
        train, held = sides(only(recording, truth["is_speech"].values), folds=4)
        model = DuIN(**{
            **size, "n_codes": n_codes, "crop": "patch", "warm_epochs": 1 if tiny else 30,
            "units": stage(40, 3e-4), "masked": stage(250, 3e-4), "masked_start": "units",
            "decode": stage(30, 3e-4, 32),
        })  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            kept = Path(folder) / "fit.pt"
            clock = Clock(device)
            model.fit([train], seed=seed, device=device, checkpoint=kept)
            took = clock.read()
            hidden = inside(model, truth, train, kept)
        out = model.transform(held)
        middle = out["token_time"].values.ravel()
        slot = np.searchsorted(truth["token_start_time"].values, middle, side="right") - 1
        found, purity = likeness(out["code"].values.ravel(), truth["token_unit"].values[slot])
        p = model.parameters_
        yield {"codes": n_codes, "nmi": found, "purity": purity,
               "perplexity": float(p["code_perplexity"]), "hidden_codes_in_words": hidden,
               "hidden_codes": float(p["masked_accuracy"]),
               "words": model.score(held)["accuracy"], **took}  # fmt: skip
    recording, truth = words(seed, **plan, snr=0.48)
    train, held = sides(only(recording, truth["is_speech"].values), folds=4)
    clock = Clock(device)
    model = DuINFromScratch(**{**size, "decode": stage(30, 3e-4, 32)})
    model.fit([train], seed=seed, device=device)
    yield {"jittered_words_from_scratch": model.score(held)["accuracy"], **clock.read()}


def ntf_connectome(device: str, seed: int, tiny: bool):
    """21 animals, 960 times, 189 neurons, rank 16: pairs >= .97, windows >= .62, animals >= .82."""
    from planted_groups import animals, found_by

    from neuropipe.models.ntf_connectome.estimator import NTFConnectome

    plan = {} if tiny else {"n_animals": 21, "n_windows": 960, "n_units": 189, "n_groups": 8,
                            "common_events": 24}  # fmt: skip
    recordings, truth = animals(seed, **plan)
    clock = Clock(device)
    model = NTFConnectome(rank=16, communities="none", tolerance=1e-5)
    p = model.fit(recordings, seed=seed, device=device).parameters_
    took = clock.read()
    yield {**found_by(p, truth), "explained_variance": float(p["explained_variance"]), **took}


MODELS = {
    f.__name__: f
    for f in (hmm_glm, mm_gpvae, mm_gpvae_images, neuroformer, neuroformer_wide, mindbridge, du_in,
              ntf_connectome)
}  # fmt: skip


def main() -> None:
    """Fit one model and print its lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=list(MODELS))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tiny", action="store_true")
    o = parser.parse_args()
    torch.set_num_threads(2)
    warnings.simplefilter("ignore")
    for line in MODELS[o.model](o.device, o.seed, o.tiny):
        shown = {
            k: round(float(v), 4) if isinstance(v, float | np.floating) else v
            for k, v in line.items()
        }
        print(json.dumps({"model": o.model, "seed": o.seed, **shown}), flush=True)


if __name__ == "__main__":
    main()
