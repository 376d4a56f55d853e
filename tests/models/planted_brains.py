"""Brains that saw images of one planted world, as arrays and as sessions of named stimuli."""

import math

import numpy as np
from shown_sessions import shown

from neuropipe.batching.stimuli import Codes, Subject
from neuropipe.retrieval import cosines, retrieval_accuracy, two_way_identification

VOXELS = {1: 15724, 2: 14278, 5: 13039, 7: 12682}  # of NSD


def world(
    seed=0, subjects=(1, 2, 5, 7), n_train=2000, n_test=300, snr=0.05, topographic=0.7,
    shrunk=10, n_image=17 * 64, n_text=8 * 64,
):  # fmt: skip
    """Targets and z-scored patterns of subjects with a share of NSD's voxels, a tenth by default.

    Image and text codes of 96 latents; 240 shared rectified channels, which
    each subject's voxels mix smoothly and privately; 3 repeats; own training, shared test images.
    """
    k, m = 96, 240
    r = np.random.default_rng(seed)
    spectrum = np.arange(1, k + 1) ** -0.5
    image, bend = (r.normal(size=(n_image, k)) / math.sqrt(k) for _ in range(2))
    text = r.normal(size=(n_text, k)) / math.sqrt(k)
    text[:, k // 2 :] = 0
    image_offset, text_offset = r.normal(size=n_image) * 0.6, r.normal(size=n_text) * 0.6
    heard = r.normal(size=(m, k)) * spectrum

    def codes(z):
        i = z @ image.T + 0.7 * np.tanh(1.5 * z @ bend.T) + image_offset
        return i.astype(np.float32), (z @ text.T + text_offset).astype(np.float32)

    z_test = r.normal(size=(n_test, k))
    out = {"test": codes(z_test)}
    for s in subjects:
        q = np.random.default_rng(seed * 97 + s)
        n_voxels = VOXELS[s] // shrunk
        place, center, warp = np.sort(q.uniform(0, m, n_voxels)), np.arange(m), q.permutation(m)
        smooth = np.exp(-0.5 * ((place[:, None] - center) / 2.0) ** 2)
        mix = topographic * smooth[:, warp] / np.linalg.norm(smooth, axis=1, keepdims=True)
        mix = mix + (1 - topographic) * q.normal(size=(n_voxels, m)) / math.sqrt(m)
        gain, z = q.lognormal(0, 0.4, n_voxels), q.normal(size=(n_train, k))
        loading = q.normal(size=(n_voxels, 12)) / math.sqrt(12)
        driven = np.maximum(z @ heard.T, 0) @ mix.T
        mean, sd = driven.mean(0), driven.std(0) + 1e-6
        parts = []
        for latent in (z, z_test):
            signal = (np.maximum(latent @ heard.T, 0) @ mix.T - mean) / sd
            noise = q.normal(size=(len(latent), 3, n_voxels)) * 0.8
            noise = noise + q.normal(size=(len(latent), 3, 12)) @ loading.T * 0.6
            parts.append((math.sqrt(snr) * gain * signal)[:, None] + noise)
        train, test = parts
        at, scale = train.mean((0, 1)), train.std((0, 1))
        out[s] = {
            "train": ((train - at) / scale).astype(np.float32),
            "test": ((test - at) / scale).astype(np.float32),
            "codes": codes(z),
        }
    return out


def as_subjects(drawn, numbers):
    """The first training images of some subjects, {subject: n}, as the model's door gives them."""
    image = np.concatenate([drawn[s]["codes"][0][:n] for s, n in numbers.items()])
    text = np.concatenate([drawn[s]["codes"][1][:n] for s, n in numbers.items()])
    subjects, at = [], 0
    for s, n in numbers.items():
        x = drawn[s]["train"][:n]
        rows = np.repeat(np.arange(at, at + n), 3)
        subjects.append(Subject(str(s), rows, x.reshape(3 * n, -1), None))
        at += n
    return subjects, Codes(tuple(map(str, range(len(image)))), image, text)


def sessions(n_own=60, n_shared=20, voxels=(40, 30, 25), noise=1.0, seed=0, n_features=16,
             text=True):  # fmt: skip
    """Small sessions of several subjects: own stimuli once, shared ones twice."""
    rng = np.random.default_rng(seed)
    names = [f"shared{i}" for i in range(n_shared)]
    latent = {n: rng.normal(size=6) for n in names}
    image, words = rng.normal(size=(6, n_features)), rng.normal(size=(6, 7))
    offset = rng.normal(size=n_features)
    out = []
    for s, n_voxels in enumerate(voxels, 1):
        own = [f"own{s}-{i}" for i in range(n_own)]
        latent |= {n: rng.normal(size=6) for n in own}
        order = rng.permutation(np.array([*names, *names, *own], dtype=object))
        codes = {n: z @ image + 0.5 * np.tanh(z @ image) + offset for n, z in latent.items()}
        said = {n: z @ words + 1 for n, z in latent.items()}
        out.append(
            shown(order, n_voxels, seed=s, subject=f"s{s}", signal=0.5 / noise,
                  codes={n: codes[n] for n in set(order)},
                  text={n: said[n] for n in set(order)} if text else None)
        )  # fmt: skip
    return out


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def ridge_levels(drawn, s, n):
    """Ridge on mean patterns of all voxels, its penalty by two-way on a fifth held out."""
    x, y = drawn[s]["train"][:n].mean(1), unit(drawn[s]["codes"][0][:n])
    center, h = y.mean(0), int(0.8 * n)

    def guess(train, test, target, alpha):
        gram = train @ train.T + alpha * np.eye(len(train), dtype=np.float32)
        return (test @ train.T) @ np.linalg.solve(gram, target - center)

    alphas = (100.0, 300.0, 1000.0, 3000.0, 10000.0, 30000.0)
    tried = [
        two_way_identification(cosines(guess(x[:h], x[h:], y[:h], a), y[h:] - center))
        for a in alphas
    ]
    best = alphas[int(np.argmax(tried))]
    p = guess(x, drawn[s]["test"].mean(1), y, best)
    return levels(p, unit(drawn["test"][0]) - center)


def levels(guess, true):
    """Two-way identification and the first of all test images, both ways."""
    s = cosines(guess, true)
    return (
        two_way_identification(s), retrieval_accuracy(s, 1, len(s)),
        retrieval_accuracy(s.T, 1, len(s)),
    )  # fmt: skip
