"""What the report says of the numbers, in plain sentences."""

from __future__ import annotations

import numpy as np
import pandas as pd

from neuropipe.metrics import CHANCE, LESS_IS_BETTER
from neuropipe.report.study import Quality, RunReport, StudyReport

PREFERRED_METRICS = (
    "accuracy",
    "bits_per_spike",
    "explained_variance",
    "co_smoothing_bits_per_spike",
    "co_smoothing_r2",
    "two_way_image",
)
LEVELS = {
    "bits_per_spike": "0 is what each unit's mean rate in the training data reaches",
    "r2": "1 is all, 0 what the mean of the training data reaches",
    "log_likelihood_per_bin": "summed over units; only differences between estimators tell",
    "explained_variance": "1 is all of it",
    "two_way_image": "chance is 0.5",
    "two_way_text": "chance is 0.5",
    "retrieval_top1": "chance is 1 over the pool's size",
    "retrieval_top5": "chance is 5 over the pool's size",
    "decoding_r": "slow signals agree by chance, see how far below",
}  # by the end of a score's name: what its levels mean
FEW_SPIKES_PER_UNIT = 100
FEW_SCORES = 5
MUCH_MISSING = 0.2
MOST_ITEMS = 6
MANY_DIGITS = 1e7  # from here on a number is written with its power of ten
ENDINGS = {
    "won": "the model won",
    "lost": "the model lost",
    "ahead": "the model was ahead, on too few scores to say that it won",
    "behind": "the model was behind, on too few scores to say that it lost",
    "unclear": "the interval includes zero, so neither clearly won",
    "no interval": "too few folds for an interval",
}


NAMES = {
    "hmm_glm": "HMM-GLM",
    "homogeneous_rate": "constant rate",
    "poisson_glm": "Poisson GLM",
    "gaussian_glm": "GLM with a Gaussian prior",
    "poisson_hmm": "Poisson HMM",
    "ntf_connectome": "NTF connectome",
    "plain_cp": "plain CP",
    "mindbridge": "MindBridge",
    "mm_gpvae": "MM-GPVAE",
    "du_in": "Du-IN",
    "neuroformer": "Neuroformer",
    "ridge_decoder": "ridge",
    "reduced_rank": "reduced-rank regression",
    "mlp_decoder": "perceptron",
    "gru_decoder": "GRU",
    "lagged_correlation": "lagged correlation",
    "joint_cross_entropy": "cross-entropy of a token",
    "time_cross_entropy": "cross-entropy of a token's time",
    "unit_cross_entropy": "cross-entropy of a token's unit given its time",
    "decoding_r": "r of decoded behaviour",
    "decoding_r2": "R2 of decoded behaviour",
    "decoding_null_r": "r that 5% of circular shifts exceed",
    "decoding_p": "p of decoded behaviour",
    "du_in_from_scratch": "Du-IN from scratch",
    "du_in_unquantised": "Du-IN without codes",
    "band_power_lda": "LDA of band power",
    "band_power_logistic": "logistic regression of band power",
    "eegnet": "EEGNet",
    "eeg_conformer": "EEG Conformer",
    "top_5_accuracy": "accuracy of the five most probable classes",
    "chance_accuracy": "accuracy of the most frequent class",
    "class_log_likelihood": "log likelihood of classes",
    "unshared_gpvae": "GP-VAEs without sharing",
    "smoothed_factors": "smoothed factor analysis",
    "gpfa": "GPFA",
    "pca_regression": "PCA regression",
    "co_smoothing_bits_per_spike": "bits per spike of co-smoothing",
    "co_smoothing_r2": "R2 of co-smoothing",
    "neural_from_behavior_bits_per_spike": "bits per spike of neural activity from behaviour",
    "neural_from_behavior_r2": "R2 of neural activity from behaviour",
    "behavior_from_neural_r2": "R2 of behaviour from neural activity",
    "behavior_r2": "R2 of behaviour from both modalities",
    "subject_ridge": "ridge of each subject",
    "shared_response": "shared response model",
    "mean_embedding": "mean embedding",
    "shuffled_bridge": "MindBridge of shuffled brains",
    "two_way_image": "two-way identification of images",
    "two_way_text": "two-way identification of captions",
    "image_retrieval_top1": "images found by brains, first",
    "image_retrieval_top5": "images found by brains, among five",
    "brain_retrieval_top1": "brains found by images, first",
    "brain_retrieval_top5": "brains found by images, among five",
}
UNITS = {"s": "s", "ms": "ms", "hz": "Hz", "um": "µm", "mm": "mm", "uv": "µV"}


def spoken(name: str) -> str:
    """Return a name of the configuration as words."""
    return NAMES.get(name, name.replace("_", " "))


def heading(column: str) -> str:
    """Return the name of a column or setting as words, its unit in brackets."""
    name, _, unit = column.rpartition("_")
    return f"{spoken(name)} ({UNITS[unit]})" if name and unit in UNITS else spoken(column)


def number(value: object) -> str:
    """Return a value as a cell or a word of a sentence; a dash where there is none."""
    if isinstance(value, float | np.floating):
        if np.isnan(value):
            return "–"
        size = abs(float(value))
        text = f"{value:.0f}" if 1e4 <= size < MANY_DIGITS else f"{value:.4g}"
        return text.replace("-", "−")
    return "–" if value is None else str(value)


def _plural(count: int, thing: str) -> str:
    return f"{count} {thing}" + ("" if count == 1 else "s")


def main_scores(run: RunReport) -> pd.DataFrame:
    """Return the rows of the score that the report speaks of, by role."""
    metrics = list(run.scores["metric"])
    metric = next((name for name in (*PREFERRED_METRICS, *metrics) if name in metrics), None)
    return run.scores[run.scores["metric"] == metric].set_index("role")


def _interval(row: pd.Series, low: str, high: str) -> str:
    if not np.isfinite(row[low]):
        return ""
    return f" (95% interval {number(row[low])} to {number(row[high])})"


def amount(value: float, row: pd.Series) -> str:
    """Return a score with its units; a pure number with what it is."""
    metric, units = str(row["metric"]), str(row["units"])
    if units == "1":
        units = spoken(metric) if metric.endswith("_r2") else "of " + spoken(metric)
    elif metric.startswith("co_smoothing"):
        units += " of co-smoothing"
    return f"{number(value)} {units}"


def meaning(metric: str) -> str:
    """Return which way a score is better, and what its levels mean, as a sentence."""
    if metric in CHANCE:
        return "A level of chance, which nobody wins."
    way = "Lower is better" if metric in LESS_IS_BETTER else "Higher is better"
    level = next((said for ending, said in LEVELS.items() if metric.endswith(ending)), "")
    return f"{way}{'; ' if level else ''}{level}."


def score_tables(run: RunReport) -> list[tuple[str, str, pd.DataFrame]]:
    """Return, for each metric, its heading, what it means, and a table with intervals."""
    out = []
    for metric, rows in run.scores.groupby("metric", sort=False):
        units = str(rows["units"].iloc[0])
        heading_of = f"{spoken(str(metric))} ({'dimensionless' if units == '1' else units})"
        table = pd.DataFrame(
            {
                "estimator": rows["estimator"].map(spoken),
                "mean (95% interval)": _with_interval(rows, "mean", "ci_low", "ci_high"),
                "model minus estimator (95% interval)": _with_interval(
                    rows, "model_minus_estimator", "difference_ci_low", "difference_ci_high"
                ),
                "role": rows["role"],
                "scores": rows["n"],
            }
        )
        out.append((heading_of, meaning(str(metric)), table))
    return out


def _with_interval(rows: pd.DataFrame, mean: str, low: str, high: str) -> list[str]:
    return [
        number(m) + (f" ({number(a)} to {number(b)})" if np.isfinite(a) else "")
        for m, a, b in zip(rows[mean], rows[low], rows[high], strict=True)
    ]


def verdict(run: RunReport) -> str:
    """Return who predicted the held-out data best, by how much, and how sure that is."""
    scores = main_scores(run)
    model = f"On {run.dataset}, {spoken(run.model)}"
    if "model" not in scores.index:
        return f"{model} has no finite held-out score."
    own = scores.loc["model"]
    reached = (
        f"{model} reached {amount(own['mean'], own)}"
        f"{_interval(own, 'ci_low', 'ci_high')} on held-out data"
    )
    if "best baseline" not in scores.index:
        return f"{reached}; there is no baseline to compare it with."
    best = scores.loc["best baseline"]
    gain, low, high = (
        float(best[c]) for c in ("model_minus_estimator", "difference_ci_low", "difference_ci_high")
    )
    if not np.isfinite(gain):
        return f"{reached}; it shares no fold with its baselines."
    by = amount(abs(gain), best)
    baseline = f"the best baseline, {spoken(str(best['estimator']))}"
    direction = "more" if gain > 0 else "less"
    sentence = f"{reached}, {by} {direction} than {baseline}"
    if np.isfinite(low):
        sentence += f" (paired difference {number(low)} to {number(high)})"
    return f"{sentence}: {ENDINGS[outcome(run)]}."


def outcome(run: RunReport) -> str:
    """Return in a word how the model stands beside its best baseline."""
    scores = main_scores(run)
    if "model" not in scores.index:
        return "no score"
    if "best baseline" not in scores.index:
        return "no baseline"
    gain, low, high = (
        float(scores.loc["best baseline"][c])
        for c in ("model_minus_estimator", "difference_ci_low", "difference_ci_high")
    )
    if not np.isfinite(gain):
        return "no baseline"
    if not np.isfinite(low):
        return "no interval"
    if low <= 0 <= high:
        return "unclear"
    if scores.loc["best baseline"]["n_pairs"] < FEW_SCORES:
        return "ahead" if gain > 0 else "behind"
    return "won" if gain > 0 else "lost"


def convergence(run: RunReport) -> str:
    """Return whether the model's own fits converged."""
    flags = run.converged.get(run.model, ())
    if not flags:
        return "No fit was recorded."
    if all(flags):
        return "The only fit converged." if len(flags) == 1 else f"All {len(flags)} fits converged."
    return f"{sum(not f for f in flags)} of {_plural(len(flags), 'fit')} did not converge."


TOLD = {
    "won": "the model predicted held-out data better than every baseline",
    "lost": "a baseline predicted held-out data better",
    "ahead": "the model was ahead of every baseline, on too few scores to be sure",
    "behind": "a baseline was ahead, on too few scores to be sure",
    "unclear": "neither the model nor its best baseline was clearly better",
}


def _outcomes(found: list[str]) -> list[str]:
    """Return one sentence on how the models of all runs stand; none where nothing is to say."""
    counted = [(said, found.count(name)) for name, said in TOLD.items() if name in found]
    if not counted:
        return []
    if len(found) == 1:
        said = counted[0][0]
        return [f"{said[0].upper()}{said[1:]}."]
    return [f"Of {len(found)} runs, {'; '.join(f'{said} in {n}' for said, n in counted)}."]


def summary(study: StudyReport) -> str:
    """Return the study in a few sentences; each run has its own."""
    recordings = _plural(len(study.recordings), "recording")
    if study.runs:
        sentences = [f"This study analysed {recordings} in {_plural(len(study.runs), 'run')}."]
    else:
        sentences = [
            f"This study checked {recordings} and made what its steps say. No model was fitted: "
            "the configuration names no run. One that neuropipe init wrote says there why no model "
            "suits, and what is missing."
        ]
    if study.quality:
        found = [item.verdict for item in study.quality]
        counts = ", ".join(f"{found.count(v)} {v}" for v in ("PASS", "WARN", "FAIL") if v in found)
        sentences.append(f"Quality of the recordings: {counts}.")
    if study.runs:
        sentences += _outcomes([outcome(run) for run in study.runs])
    if study.skipped:
        left_out = "; ".join(f"{s.name} ({s.reason.rstrip('.')})" for s in study.skipped)
        sentences.append(f"Left out: {left_out}.")
    else:
        sentences.append("Nothing was left out.")
    return " ".join(sentences)


def remarks(item: Quality) -> list[str]:
    """Return what the checks of a recording found wrong, failures first, a sentence each."""
    rows = item.checks[item.checks["verdict"] != "PASS"].sort_values(
        "verdict", kind="stable", key=lambda v: v != "FAIL"
    )
    out = []
    for (verdict, node, check), found in rows.groupby(["verdict", "node", "check"], sort=False):
        items = found["item"].astype(str).tolist()
        reason = found["reason"].iloc[0]
        if len(items) > 1:
            named = ", ".join(items[:MOST_ITEMS]) + (" ..." if len(items) > MOST_ITEMS else "")
            reason = f"{len(items)} of them ({named}), the first: {reason}"
        else:
            reason = f"{items[0]}: {reason}"
        out.append(f"{verdict}: {node}, {heading(str(check))}, {reason}")
    return out


def not_shown(run: RunReport) -> list[str]:
    """Return the figures and tables that a run has nothing for, a sentence each with the reason."""
    figures = [(f.name, f.notice) for f in run.figures if f.notice]
    tables = [
        (t.name, f"no rows. {t.caption.partition(': ')[0].partition('. ')[0].rstrip('.')}.")
        for t in run.tables
        if not len(t.frame)
    ]
    return [f"{spoken(name).capitalize()}: {why}" for name, why in (*figures, *tables)]


def warnings(run: RunReport) -> list[str]:
    """Return what a reader must know before trusting a run, a sentence each."""
    out = []
    for estimator, flags in run.converged.items():
        unfinished = sum(not flag for flag in flags)
        if unfinished:
            out.append(
                f"Not converged: {spoken(estimator)}, {unfinished} of "
                f"{_plural(len(flags), 'fit')}; its scores may be too low and its parameters "
                "off. Raise the number of iterations."
            )
    out += _warnings_of_scores(run)
    for row in run.recordings.to_dict("records"):
        units, spikes = row.get("units", np.nan), row.get("spikes", np.nan)
        if units and spikes / units < FEW_SPIKES_PER_UNIT:
            out.append(
                f"Few spikes: session {row['session']} has {number(spikes / units)} spikes a "
                "unit; weights of such units are mostly prior."
            )
        if row.get("missing_share", 0.0) > MUCH_MISSING:
            out.append(
                f"Missing data: {100 * row['missing_share']:.0f}% of session {row['session']} "
                "was not recorded."
            )
    return out + list(run.warnings)


def _warnings_of_scores(run: RunReport) -> list[str]:
    scores = main_scores(run)
    if "model" not in scores.index:
        return [f"No score: {spoken(run.model)} has no finite held-out score."]
    out = []
    n_scores = int(scores.loc["model"]["n"])
    if n_scores < 2:
        out.append("Few folds: there is only one score, so no interval can be given.")
    elif n_scores < FEW_SCORES:
        out.append(f"Few folds: the intervals rest on {n_scores} scores; take them as rough.")
    if "best baseline" in scores.index:
        best = scores.loc["best baseline"]
        name = spoken(str(best["estimator"]))
        if outcome(run) == "lost":
            out.append(
                f"Baseline ahead: {name} predicts held-out data better than {spoken(run.model)}; "
                "the simpler account is the better one here."
            )
        elif best["model_minus_estimator"] < 0:
            out.append(
                f"Baseline not beaten: {name} predicts held-out data as well as "
                f"{spoken(run.model)} or better; keep to the simpler account until more data say "
                "otherwise."
            )
        elif best["difference_ci_low"] <= 0:
            out.append(f"No clear gain: the interval of the difference to {name} includes zero.")
    return out
