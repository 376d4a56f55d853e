"""Intracranial sessions of spoken words, each a sequence of planted 100 ms units, with their truth.

Units are bursts with a spatial pattern over the speech contacts; between words, and on all other
contacts, units follow each other at random. Bursts lie in pink noise and mains hum.
"""

from __future__ import annotations

import string
from typing import NamedTuple

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, model_validator

from neuropipe.runtime import generator
from neuropipe.schema import SCHEMA_VERSION, Recording

CONTACT_SPACING_MM = 3.5
# Below this the noise is flat, as amplifiers with a high-pass edge make it.
PINK_FROM_HZ = 2.0


class Plan(BaseModel):
    """What to draw; the defaults are a session of eight minutes, 56 MB."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_words: int = Field(16, ge=2, description="Words; the paper's subjects read 61.")
    n_repetitions: int = Field(24, ge=1, description="Times that each word is said.")
    n_runs: int = Field(4, ge=1, description="Runs; repetitions are dealt out over them.")
    n_channels: int = Field(30, ge=1)
    n_shafts: int = Field(3, ge=1, le=26)
    n_speech: int = Field(10, ge=1, description="Neighbouring contacts that carry the words.")
    n_bad: int = Field(1, ge=0, description="Contacts off the speech site, twenty times as noisy.")
    n_units: int = Field(16, ge=2, description="Kinds of units.")
    word_units: int = Field(8, ge=1, description="Units of a word.")
    unit_s: float = Field(0.1, gt=0)
    gap_units: int = Field(4, ge=0, description="Units between two words, drawn at random.")
    lead_units: int = Field(20, ge=1, description="Random units before and after a run's words.")
    jitter_s: float = Field(0.06, ge=0, description="A word starts up to this off its cue.")
    lowest_hz: float = Field(8.0, gt=0)
    highest_hz: float = Field(60.0, gt=0, description="Edges of the units' frequencies.")
    snr: float = Field(
        0.48,
        ge=0,
        description="Power of the units over power of the pink noise, speech contacts, expected; "
        "the default is snr 1 of the levels in the recipe.",
    )
    noise_v: float = Field(50e-6, gt=0, description="Standard deviation of the pink noise.")
    line_v: float = Field(10e-6, ge=0, description="Amplitude of mains hum, mean over channels.")
    line_frequency_hz: float = Field(50.0, gt=0)
    sampling_rate_hz: float = Field(1000.0, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> Plan:
        if self.n_speech + self.n_bad > self.n_channels:
            raise ValueError(
                f"n_speech {self.n_speech} and n_bad {self.n_bad} do not fit into n_channels "
                f"{self.n_channels}; raise n_channels"
            )
        if self.n_shafts > self.n_channels or self.n_runs > self.n_repetitions:
            raise ValueError("expected n_shafts up to n_channels and n_runs up to n_repetitions")
        if self.jitter_s > self.lead_units * self.unit_s:
            raise ValueError("jitter_s is longer than the lead of a run; raise lead_units")
        if self.n_units**self.word_units < 4 * self.n_words:
            raise ValueError("too few units for words that differ; raise n_units or word_units")
        if not self.lowest_hz < self.highest_hz < self.sampling_rate_hz / 2:
            raise ValueError("expected lowest_hz < highest_hz < sampling_rate_hz / 2")
        return self


class Bank(NamedTuple):
    """Planted waveforms: ``waveform (unit, channel, sample)`` and ``frequency_hz (unit)``."""

    waveform: np.ndarray
    frequency_hz: np.ndarray


class Script(NamedTuple):
    """Who says what when, in samples and units.

    Attributes
    ----------
    n_samples : (run,)
    token_unit : list over runs of (token,)
        Unit of every slot of the speech contacts.
    token_start : list over runs of (token,), samples from the run's start
    in_word : list over runs of (token,) bool
    cue, word : list over runs of (trial,)
        Slot of the trial's cue, and which word.
    """

    n_samples: np.ndarray
    token_unit: list[np.ndarray]
    token_start: list[np.ndarray]
    in_word: list[np.ndarray]
    cue: list[np.ndarray]
    word: list[np.ndarray]


def draw_bank(plan: Plan, channels: np.ndarray, rng: np.random.Generator) -> Bank:
    """Draw one bank of units on some channels, of power 1 on average; other channels stay 0."""
    n_samples = round(plan.unit_s * plan.sampling_rate_hz)
    shape = plan.n_units, len(channels)
    amplitude = rng.normal(size=shape)
    frequency = rng.uniform(plan.lowest_hz, plan.highest_hz, plan.n_units)
    phase = rng.uniform(0, 2 * np.pi, shape)
    t = np.arange(n_samples) / plan.sampling_rate_hz
    wave = np.sin(2 * np.pi * frequency[:, None, None] * t + phase[..., None])
    burst = amplitude[..., None] * wave * np.hanning(n_samples)
    waveform = np.zeros((plan.n_units, plan.n_channels, n_samples))
    waveform[:, channels] = burst / np.sqrt((burst**2).mean()) if len(channels) else burst
    return Bank(waveform, frequency)


def _words(plan: Plan, rng: np.random.Generator) -> np.ndarray:
    """Draw (word, position) sequences of units, no two alike."""
    while True:
        words = rng.integers(plan.n_units, size=(plan.n_words, plan.word_units))
        if len(np.unique(words, axis=0)) == plan.n_words:
            return words


def draw_script(plan: Plan, words: np.ndarray, rng: np.random.Generator) -> Script:
    """Draw the order of the words, each block all of them once, and the units between."""
    size = round(plan.unit_s * plan.sampling_rate_hz)
    jitter = round(plan.jitter_s * plan.sampling_rate_hz)
    script = Script(np.zeros(plan.n_runs, dtype=int), [], [], [], [], [])
    for run, blocks in enumerate(np.array_split(np.arange(plan.n_repetitions), plan.n_runs)):
        said = np.concatenate([rng.permutation(plan.n_words) for _ in blocks])
        cue = plan.lead_units + np.arange(len(said)) * (plan.word_units + plan.gap_units)
        n_tokens = cue[-1] + plan.word_units + plan.lead_units
        unit = rng.integers(plan.n_units, size=n_tokens)
        start = np.arange(n_tokens) * size
        slots = cue[:, None] + np.arange(plan.word_units)
        unit[slots] = words[said]
        start[slots] += rng.integers(-jitter, jitter + 1, size=len(said))[:, None]
        in_word = np.zeros(n_tokens, dtype=bool)
        in_word[slots] = True
        script.n_samples[run] = n_tokens * size
        for rows, values in zip(script[1:], (unit, start, in_word, cue, said), strict=True):
            rows.append(values)
    return script


def pink_noise(n_samples: int, rate_hz: float, rng: np.random.Generator) -> np.ndarray:
    """Draw (sample,) noise of standard deviation 1 whose power falls as 1/f above 2 Hz."""
    frequency = np.fft.rfftfreq(n_samples, 1 / rate_hz)
    spectrum = rng.normal(size=(2, len(frequency))) / np.sqrt(np.maximum(frequency, PINK_FROM_HZ))
    spectrum[:, 0] = 0
    noise = np.fft.irfft(spectrum[0] + 1j * spectrum[1], n_samples)
    return noise / noise.std()


def stream(bank: Bank, unit: np.ndarray, start: np.ndarray, n_samples: int) -> np.ndarray:
    """Lay units end to end at their starts: (sample, channel); where two overlap they add up."""
    size = bank.waveform.shape[2]
    signal = np.zeros((n_samples, bank.waveform.shape[1]), dtype=np.float32)
    waves = bank.waveform.transpose(0, 2, 1).astype(np.float32)
    for u, at in zip(unit, start, strict=True):
        signal[at : at + size] += waves[u]
    return signal


def simulate(plan: Plan, seed: int) -> tuple[Recording, xr.Dataset]:
    """Draw one session.

    Parameters
    ----------
    plan : Plan
        Sizes and strengths.
    seed : int
        Of all draws.

    Returns
    -------
    recording : DataTree
        Nodes `ieeg`, `runs`, `intervals/events`. An event is the cue of a word, its `trial_type`
        the word; the word itself starts up to `jitter_s` off it.
    truth : Dataset
        ``unit_waveform (unit, channel, lag)`` V as it lies in the signal,
        ``word_unit (word, position)``, ``token_unit (token)`` and ``token_start_time (token)`` of
        every slot on the speech contacts, ``token_in_word``, ``onset_time (trial)`` with the
        jitter, ``word_index (trial)``, ``is_speech`` and ``is_bad (channel)``.

    Notes
    -----
    Source: our own plan, shaped after the task of Du-IN (Zheng et al., NeurIPS 2024): words read
    aloud, some contacts in speech areas, tokens of 100 ms. Memory: about twice the voltage.
    """
    rng = generator(seed, "units")
    first = int(rng.integers(plan.n_channels - plan.n_speech + 1))
    is_speech = np.zeros(plan.n_channels, dtype=bool)
    is_speech[first : first + plan.n_speech] = True
    is_bad = np.zeros(plan.n_channels, dtype=bool)
    is_bad[rng.choice(np.flatnonzero(~is_speech), plan.n_bad, replace=False)] = True
    speech = draw_bank(plan, np.flatnonzero(is_speech), rng)
    other = draw_bank(plan, np.flatnonzero(~is_speech), rng)
    words = _words(plan, rng)
    script = draw_script(plan, words, generator(seed, "script"))

    gain = plan.noise_v * np.sqrt(plan.snr)
    rng = generator(seed, "noise")
    hum = plan.line_v * rng.uniform(0.5, 1.5, plan.n_channels)
    noise = np.where(is_bad, 20.0, 1.0) * plan.noise_v
    begun = np.cumsum([0, *script.n_samples])
    voltage = np.empty((begun[-1], plan.n_channels), dtype=np.float32)
    rate = plan.sampling_rate_hz
    for run, n_samples in enumerate(script.n_samples):
        part = voltage[begun[run] : begun[run + 1]]
        part[:] = gain * stream(speech, script.token_unit[run], script.token_start[run], n_samples)
        slots = np.arange(len(script.token_unit[run]))
        own = rng.integers(plan.n_units, size=len(slots))
        part += gain * stream(other, own, slots * speech.waveform.shape[2], n_samples)
        clock = np.arange(begun[run], begun[run + 1]) / rate
        mains = np.sin(2 * np.pi * plan.line_frequency_hz * clock)
        for channel in range(plan.n_channels):
            part[:, channel] += noise[channel] * pink_noise(n_samples, rate, rng)
            part[:, channel] += hum[channel] * mains
    run_start = begun / rate
    ieeg = _contacts(plan, is_speech, is_bad, generator(seed, "contacts")).assign(
        voltage=(("time", "channel"), voltage, {"units": "V"})
    )
    ieeg = ieeg.assign_coords(time=("time", np.arange(begun[-1]) / rate, {"units": "s"}))
    labels = np.array([f"{run + 1:02d}" for run in range(plan.n_runs)], dtype=object)
    names = np.array([f"word{word + 1:02d}" for word in range(plan.n_words)], dtype=object)
    said = np.concatenate(script.word)
    run_of = np.repeat(np.arange(plan.n_runs), [len(cue) for cue in script.cue])
    cue_time = np.concatenate(script.cue) * speech.waveform.shape[2] / rate + run_start[run_of]
    length = plan.word_units * speech.waveform.shape[2] / rate
    nodes = {
        "/": xr.Dataset(
            attrs={
                "dataset": "planted_du_in",
                "subject": "planted",
                "session": f"planted-{seed}",
                "source": "simulated",
                "sha256": "",
                "history": "[]",
                "schema_version": SCHEMA_VERSION,
            }
        ),
        "/ieeg": ieeg,
        "/runs": xr.Dataset(
            {
                "run_label": ("run", labels, {"units": ""}),
                "start_time": ("run", run_start[:-1], {"units": "s"}),
                "stop_time": ("run", run_start[1:], {"units": "s"}),
            },
            attrs={"clock": "runs laid end to end"},
        ),
        "/intervals/events": xr.Dataset(
            {
                "start_time": ("interval", cue_time, {"units": "s"}),
                "stop_time": ("interval", cue_time + length, {"units": "s"}),
                "trial_type": ("interval", names[said], {"units": ""}),
                "run_label": ("interval", labels[run_of], {"units": ""}),
            }
        ),
    }
    token_run = np.repeat(np.arange(plan.n_runs), [len(unit) for unit in script.token_unit])
    token_start = np.concatenate(script.token_start) / rate + run_start[token_run]
    onset = np.concatenate([s[c] for s, c in zip(script.token_start, script.cue, strict=True)])
    truth = xr.Dataset(
        {
            "unit_waveform": (("unit", "channel", "lag"), gain * speech.waveform, {"units": "V"}),
            "unit_frequency": ("unit", speech.frequency_hz, {"units": "Hz"}),
            "word_unit": (("word", "position"), words, {"units": "1"}),
            "token_unit": ("token", np.concatenate(script.token_unit), {"units": "1"}),
            "token_start_time": ("token", token_start, {"units": "s"}),
            "token_in_word": ("token", np.concatenate(script.in_word), {"units": "1"}),
            "onset_time": ("trial", onset / rate + run_start[run_of], {"units": "s"}),
            "word_index": ("trial", said, {"units": "1"}),
            "is_speech": ("channel", is_speech, {"units": "1"}),
            "is_bad": ("channel", is_bad, {"units": "1"}),
            "line_amplitude": ("channel", hum, {"units": "V"}),
        },
        {
            "channel": ieeg["channel"].variable,
            "word": ("word", names, {"units": ""}),
            "lag": ("lag", np.arange(speech.waveform.shape[2]) / rate, {"units": "s"}),
        },
        {"seed": seed, **plan.model_dump()},
    )
    return xr.DataTree.from_dict(nodes), truth


def _contacts(
    plan: Plan, is_speech: np.ndarray, is_bad: np.ndarray, rng: np.random.Generator
) -> xr.Dataset:
    """Place contacts on straight shafts that point inwards, named A1, A2, ... from the tip."""
    groups = np.array_split(np.arange(plan.n_channels), plan.n_shafts)
    place = np.empty((plan.n_channels, 3))
    for group in groups:
        entry = np.array([-55.0, rng.uniform(-40, 20), rng.uniform(-10, 40)])
        slant = np.array([1.0, *rng.normal(0, 0.15, 2)])
        depth = CONTACT_SPACING_MM * np.arange(len(group))[::-1]
        place[group] = entry + depth[:, None] * slant / np.linalg.norm(slant)
    shaft = [string.ascii_uppercase[i] for i, group in enumerate(groups) for _ in group]
    names = [f"{s}{i + 1}" for s, group in zip("".join(dict.fromkeys(shaft)), groups, strict=True)
             for i in range(len(group))]  # fmt: skip
    columns = {
        "channel": names,
        "shaft": shaft,
        "region": np.where(is_speech, "ventral sensorimotor cortex", "insula"),
        "channel_type": ["SEEG"] * plan.n_channels,
        "status": np.where(is_bad, "bad", "good"),
    }
    text = {k: ("channel", np.array(v, dtype=object), {"units": ""}) for k, v in columns.items()}
    axes = {a: ("channel", place[:, i], {"units": "mm"}) for i, a in enumerate("xyz")}
    return xr.Dataset(
        coords={**text, **axes},
        attrs={
            "sampling_rate_hz": plan.sampling_rate_hz,
            "power_line_frequency_hz": plan.line_frequency_hz,
            "reference": "scalp",
            "coordinate_system": "MNI152NLin2009cAsym",
        },
    )
