"""Which models suit what a data set holds, with a first run of each, and why the others do not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from neuropipe.drafts.contents import Contents, Intervals
from neuropipe.encoders import MINILM

BIN_S = 0.05  # of counts: several spikes of a busy unit, short beside states and latents
FEWEST_TRIALS, TRIAL_S = 12, (0.2, 60.0)
FEWEST_OF_A_CLASS = 10
FOLDS = 3
SHUFFLES = 19  # the fewest that can show p of 0.05
WINDOWS_PER_RECORDING = 24  # that a recording without trials is cut to
SHORTEST_S = 30.0  # of a recording that states or latents can be learned from
MAINS_HZ = 50.0  # where a recording does not say
LOW_EDGES_HZ = (0.5, 1.0, 2.0)  # of the filter of voltages, the first that a run is long enough for
KERNEL_CYCLES = 3.3  # length of a zero-phase FIR kernel in periods of its narrowest transition
NOTCH_HZ = 0.5  # transition of a notch
FEWEST_CONDITIONS = 3  # names that retrieval can choose among
FEWEST_RUNS, MOST_RUN_FOLDS = 4, 6


@dataclass(frozen=True)
class Advice:
    """A model, whether it suits a data set, why, and the run that would try it.

    Attributes
    ----------
    model : str
    suits : bool
    why : str
        One sentence.
    run : mapping
        Block `runs.<name>` without its data set; empty where the model does not suit.
    also : str
        What a reader of the run should weigh, empty for nothing.
    """

    model: str
    suits: bool
    why: str
    run: Mapping[str, Any] = field(default_factory=dict)
    also: str = ""


def trials_of(contents: Contents) -> Intervals | None:
    """Return the table that serves best as trials: enough of them, and most of the recording."""
    fitting = [
        t for t in contents.tables
        if t.n >= FEWEST_TRIALS and TRIAL_S[0] <= t.length_s <= TRIAL_S[1]
    ]  # fmt: skip
    own = [t for t in fitting if t.name == "trials"]
    return max(own or fitting, key=lambda t: t.covered_s, default=None)


def steps_of(contents: Contents) -> list[dict[str, Any]]:
    """Return the steps that make a data set ready for the models that may suit it."""
    steps: list[dict[str, Any]] = []
    trials = trials_of(contents)
    if "spikes" in contents.nodes:
        steps.append({"step": "bin_spikes", "bin_width_s": BIN_S, "start_s": 0.0})
        if contents.signals:
            steps.append({"step": "resample_behavior", "signals": list(contents.signals)})
    if "ieeg" in contents.nodes:
        steps.append({"step": "filter_signal", **_filter(contents)})
        scheme = "bipolar" if "shafts" in contents.notes else "average"
        steps.append({"step": "rereference", "scheme": scheme})
    if "bold" in contents.nodes:
        step: dict[str, Any] = {"step": "clean_bold", "high_pass_hz": 0.01}
        steps.append(step | ({"confounds": "motion6"} if "confounds" in contents.nodes else {}))
    if trials is not None and trials.name != "trials" and {"spikes", "ieeg"} & contents.nodes:
        steps.append({"step": "cut_trials", "table": trials.name})
    named = named_conditions(contents)
    nuisance = {"confounds": "motion6"} if "confounds" in contents.nodes else {}
    if "bold" in contents.nodes and _embedded(contents) and trials is not None:
        steps = [{"step": "single_trial", "method": "lss", "table": trials.name, **nuisance}]
    elif named is not None:
        table, column = named
        steps = [
            {"step": "select_voxels", "min_variance": 0.0},
            {"step": "single_trial", "method": "lsa", "table": table.name, **nuisance},
            {"step": "embed_names", "table": table.name, "column": column,
             "extractor": "minilm" if all(map(find_spec, MINILM)) else "one_hot"},
        ]  # fmt: skip
    return steps


def named_conditions(contents: Contents) -> tuple[Intervals, str] | None:
    """Return the table and the column that names what each trial of a BOLD series showed.

    None where stimuli have features of their own, where no column names a few conditions that
    each come once a run or more, or where there are no runs to hold out.
    """
    trials = trials_of(contents)
    if "bold" not in contents.nodes or _embedded(contents) or trials is None:
        return None
    fitting = [
        column
        for column, counts in trials.classes.items()
        if column != "run_label"
        and len(counts) >= FEWEST_CONDITIONS
        and min(counts.values()) >= max(FEWEST_OF_A_CLASS, contents.runs)
    ]
    if not fitting or contents.runs < FEWEST_RUNS:
        return None
    return trials, "trial_type" if "trial_type" in fitting else fitting[0]


def advise(contents: Contents) -> list[Advice]:
    """Return what to do with each model, those that suit first.

    Parameters
    ----------
    contents : of one data set
    """
    found = [rule(contents) for rule in RULES.values()]
    return sorted(found, key=lambda advice: not advice.suits)


def _filter(contents: Contents) -> dict[str, Any]:
    """Return a filter of voltages whose kernels fit into the shortest run.

    The lower edge is the first whose kernel fits twice; that of a notch is as long as one of
    0.5 Hz, so that a run shorter than it gets a recursive filter, which has no kernel.
    """
    run_s = contents.shortest_run_s
    fitting = [edge for edge in LOW_EDGES_HZ if not 2 * KERNEL_CYCLES / edge > run_s]
    high_hz = _round(0.4 * contents.rates_hz.get("ieeg", 1000.0), 200)
    mains_hz = contents.mains_hz if math.isfinite(contents.mains_hz) else MAINS_HZ
    multiples = range(1, math.ceil(high_hz / mains_hz))
    found: dict[str, Any] = {
        "low_hz": (fitting or LOW_EDGES_HZ[-1:])[0],
        "high_hz": high_hz,
        "notch_hz": [mains_hz * n for n in multiples],
    }
    return found | ({"method": "iir"} if run_s < KERNEL_CYCLES / NOTCH_HZ else {})


def _round(value: float, most: float) -> float:
    return float(min(most, math.floor(value)))


def _embedded(contents: Contents) -> bool:
    return "embedding" in contents.nodes


def _split(contents: Contents, folds: int = FOLDS) -> dict[str, Any]:
    """Return how held-out data are chosen: by trial where there are any, else by block."""
    if trials_of(contents) is not None:
        return {"by": "trial", "folds": folds}
    window = contents.duration_s / WINDOWS_PER_RECORDING
    window = min(60.0, float(f"{window:.1g}")) if window >= 1 else round(window, 2)
    buffer = round(min(2.0, window / 4), 2)
    return {"by": "block", "folds": folds, "buffer_s": buffer, "blocks_per_fold": 3,
            "window_s": window}  # fmt: skip


def _no_spikes(contents: Contents) -> str:
    """Return why a model of counts has nothing to work on; empty where it has."""
    if not {"spikes", "counts"} & contents.nodes:
        return "it needs sorted spikes (node spikes), and there are none"
    if not contents.duration_s >= SHORTEST_S:
        return f"it needs minutes of spikes, and there are {contents.duration_s:.3g} s"
    return ""


def _hmm_glm(contents: Contents) -> Advice:
    missing = _no_spikes(contents)
    if missing:
        return Advice("hmm_glm", False, missing)
    units = contents.sizes.get("units", {}).get("unit", 0)
    run = {
        "seed": 1,
        "parameters": {"n_states": 3, "n_restarts": 4},
        "split": _split(contents),
        "baselines": ["homogeneous_rate", "poisson_glm", "gaussian_glm", "poisson_hmm"],
    }
    also = "several numbers of states, such as [1, 2, 3], are compared inside the training data"
    return Advice(
        "hmm_glm", True, f"spikes of {units} units: states and who drives whom", run, also
    )


def _mm_gpvae(contents: Contents) -> Advice:
    missing = _no_spikes(contents)
    if missing:
        return Advice("mm_gpvae", False, missing)
    if not contents.signals:
        return Advice(
            "mm_gpvae", False,
            "it divides latents between spikes and behaviour, and there is no node behavior/* "
            "beside the spikes (`modalities: neural` would make it a GP-VAE of spikes alone)",
        )  # fmt: skip
    run = {
        "seed": 1,
        "parameters": {"n_shared": 2, "n_neural": 2, "n_behavior": 1},
        "split": _split(contents),
        "baselines": ["unshared_gpvae", "smoothed_factors", "pca_regression"],
    }
    also = "try_latents compares other numbers of latents inside the training data"
    return Advice("mm_gpvae", True, f"spikes beside {', '.join(contents.signals)}", run, also)


def _neuroformer(contents: Contents) -> Advice:
    missing = _no_spikes(contents)
    if missing:
        return Advice("neuroformer", False, missing)
    parameters: dict[str, Any] = {"width": 48, "training": {"epochs": 10}}
    if contents.signals:
        parameters["targets"] = [c for names in contents.signals.values() for c in names]
    run = {
        "seed": 1,
        "parameters": parameters,
        "split": _split(contents, 2),
        "baselines": ["homogeneous_rate", "poisson_glm", "lagged_correlation"]
        + (["ridge_decoder"] if contents.signals else []),
    }
    also = "a network: the slowest of these without a GPU"
    return Advice("neuroformer", True, "spikes, one after the other", run, also)


def _ntf_connectome(contents: Contents) -> Advice:
    series = [*contents.of("calcium"), *contents.of("regions")]
    if not series and "spikes" not in contents.nodes:
        why = "it needs traces (node calcium/*, or regions, or counts), and there are none"
        if "bold" in contents.nodes:
            why += "; step average_regions with an atlas makes regions of a BOLD series"
        return Advice("ntf_connectome", False, why)
    parameters: dict[str, Any] = {
        "rank": 6, "n_restarts": 4, "n_shuffles": SHUFFLES, "missing": "drop",
        "observations": series[0] if series else "counts",
    }  # fmt: skip
    if contents.subjects > 1 and not trials_of(contents):
        parameters["clock"] = "own"
    split = {k: v for k, v in _split(contents).items() if k != "by"}
    if "window_s" not in split:
        split = {"folds": FOLDS, "buffer_s": 2.0, "blocks_per_fold": 3}
    run = {
        "seed": 1,
        "parameters": parameters,
        "split": {"by": "block", **split},
        "baselines": ["plain_cp", "static_correlation", "windowed_correlation"],
    }
    if not series:
        run["split"] = _split(contents)
    animals = f"{contents.subjects} animal{'' if contents.subjects == 1 else 's'}"
    also = (
        "" if contents.subjects > 1 else "made for several animals; of one it tells patterns only"
    )
    return Advice("ntf_connectome", True, f"traces of {animals}: groups over time", run, also)


def _mindbridge(contents: Contents) -> Advice:
    if not {"bold", "betas"} & contents.nodes:
        return Advice("mindbridge", False, "it needs fMRI (node bold or betas), and there is none")
    if named_conditions(contents) is not None:
        return _named_mindbridge(contents)
    if not _embedded(contents):
        return Advice(
            "mindbridge", False,
            "it needs features of each stimulus that was seen (node embedding): name a file of "
            "them under `options: embedding:` of the manifest; `neuropipe embed` makes one from "
            "pictures, captions or names of conditions",
        )  # fmt: skip
    run = {
        "seed": 1,
        "parameters": {"common_size": 64, "hidden": 64},
        "split": {"by": "stimulus", "folds": 2},
        "baselines": ["subject_ridge", "shared_response", "hyperalignment", "mean_embedding"],
    }
    also = "" if contents.subjects > 1 else "made for several subjects; one gives no bridge"
    return Advice("mindbridge", True, f"BOLD and features of stimuli, {contents.subjects} subjects",
                  run, also)  # fmt: skip


def _named_mindbridge(contents: Contents) -> Advice:
    """Return the run that learns conditions by their names, held out by run."""
    named = named_conditions(contents)
    assert named is not None
    table, column = named
    n = len(table.classes[column])
    run = {
        "seed": 1,
        "parameters": {"mode": "bridge" if contents.subjects > 1 else "single", "column": column,
                       "shared_stimuli": "allow", "samples": "trial", "pool_size": n,
                       "common_size": 64, "hidden": 64, "missing": "drop"},
        "split": {"by": "run", "folds": min(contents.runs, MOST_RUN_FOLDS)},
        "baselines": ["subject_ridge", "mean_embedding", "shuffled_bridge"],
    }  # fmt: skip
    why = f"BOLD and {n} named conditions ({column}) in {contents.runs} runs"
    also = "features of the pictures themselves say more than names: `options: embedding:`"
    if contents.subjects == 1:
        also += "; made for several subjects, one gives no bridge"
    return Advice("mindbridge", True, why, run, also)


def _du_in(contents: Contents) -> Advice:
    if "ieeg" not in contents.nodes:
        return Advice("du_in", False, "it needs intracranial voltages (node ieeg), there are none")
    labelled = [
        (table, column, counts)
        for table in contents.tables
        if TRIAL_S[0] <= table.length_s <= TRIAL_S[1]
        for column, counts in table.classes.items()
        if min(counts.values()) >= FEWEST_OF_A_CLASS and column != "run_label"
    ]
    if not labelled:
        told = (
            "; ".join(f"{t.name} has {t.n} of {t.length_s:.2g} s" for t in contents.tables)
            or "there is no table of events"
        )
        return Advice(
            "du_in", False,
            f"it needs labelled trials, at least {FEWEST_OF_A_CLASS} of each of two classes and "
            f"{TRIAL_S[0]} s long; {told}",
        )  # fmt: skip
    table, column, counts = max(labelled, key=lambda one: one[0].n)
    run = {
        "seed": 1,
        "parameters": {"labels": column, "n_channels": 10, "n_layers": 2, "n_heads": 4,
                       "head_dim": 16, "n_inner": 160},
        "split": {"by": "trial", "folds": 2},
        "baselines": ["du_in_from_scratch", "band_power_lda"],
    }  # fmt: skip
    return Advice("du_in", True, f"{table.n} trials of {len(counts)} classes ({column})", run,
                  "a network of three stages: hours without a GPU")  # fmt: skip


RULES: dict[str, Callable[[Contents], Advice]] = {
    "hmm_glm": _hmm_glm,
    "ntf_connectome": _ntf_connectome,
    "mm_gpvae": _mm_gpvae,
    "neuroformer": _neuroformer,
    "mindbridge": _mindbridge,
    "du_in": _du_in,
}
