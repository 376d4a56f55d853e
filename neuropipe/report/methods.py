"""Methods in words and the references of what a study truly used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from neuropipe.report.references import REFERENCES
from neuropipe.report.study import DataSource, RunReport, StudyReport
from neuropipe.report.words import spoken

READERS = {
    "nwb": (("rubel2022nwb",), "Recordings were read from NWB files (Rübel et al. 2022)."),
    "bold": (
        ("gorgolewski2016bids", "abraham2014nilearn"),
        "BOLD series were read from BIDS (Gorgolewski et al. 2016) with nibabel; masks and "
        "cleaning, where steps name them, follow nilearn (Abraham et al. 2014).",
    ),
    "ieeg": (
        ("holdgraf2019ieegbids", "gramfort2013mne"),
        "Intracranial recordings were read from BIDS (Holdgraf et al. 2019); filters, where "
        "steps name them, are MNE-Python's designs (Gramfort et al. 2013).",
    ),
}
MODELS = {
    "hmm_glm": (
        "li2024onehot",
        "In HMM-GLM a hidden state follows a Markov chain, and in each state the count of a unit "
        "depends on the past counts of all units through that state's own weights. State "
        "probabilities come from forward and backward recursions, paths from the Viterbi "
        "recursion, and parameters from expectation maximisation over all training windows "
        "(Li et al. 2024; the setting `prior` names what ties the weights of the states).",
    ),
    "ntf_connectome": (
        "dyballa2024dynamic",
        "The NTF connectome gives every pair of neurons an affinity at each time in each animal, "
        "large where both traces change together, and splits the tensor of times, animals and "
        "pairs into non-negative components, each a pattern of pairs, a course of activation and "
        "a loading of every animal; communities are found in the graph of each pattern (Dyballa "
        "et al. 2024). The authors' exact affinity is not public; the setting `affinity` names "
        "the form that was used. Neurons are matched over animals by name, and what an animal "
        "does not show is missing, not zero. Of several random starts the best was kept. For "
        "scores, patterns and loadings are held and the activations of the held-out windows are "
        "refitted there, for the model and its baselines alike, so the explained variance tells "
        "whether patterns carry over to new data; it also rises with the number of patterns.",
    ),
    "mm_gpvae": (
        "gondur2024multimodal",
        "MM-GPVAE explains neural activity and behaviour by smooth latents, some shared and some "
        "of one of them alone: each latent is a Gaussian process, log rates are linear in shared "
        "and neural latents, behaviour is a network of shared and behaviour latents with noise "
        "(Gondur et al. 2024). All is learned by raising one lower bound on the evidence; unlike "
        "the authors' code, the bound is a true one and length scales and noise are learned. How "
        "much behaviour's likelihood counts beside that of the neural activity stands in the "
        "parameters (`modality_weight`). Co-smoothing tells each fifth of the units from the other "
        "units, in turn (Pei et al. 2021); each modality is told from the other by leaving it out. "
        "Bits per spike are over each unit's mean training rate, R2 is about the training mean.",
    ),
    "du_in": (
        "zheng2024duin",
        "Du-IN turns patches of intracranial voltages into tokens and tokens into the nearest of a "
        "set of codes, learned by rebuilding the voltages; it then learns to predict the codes of "
        "hidden patches from the others, and last to tell labelled trials apart (Zheng et al. "
        "2024). The first two stages need no labels. Unlike the authors' code, patches are "
        "filtered nonlinearly, codes are placed once the tokens have settled and come back when "
        "they fall out of use, no sigmoid stands before the classes, and the epoch of each stage "
        "is chosen on a part of the training data alone (`preset: faithful` undoes the first two). "
        "Contacts, where the setting `n_channels` says how many, are chosen by the band power of "
        "training trials, for the model and its baselines alike. What a contact contributes is "
        "the rise of the log chance of its trial's class when another trial is given its signal, "
        "among trials that were not fitted; "
        "p-values come from shuffled classes.",
    ),
    "neuroformer": (
        "antoniades2024neuroformer",
        "Neuroformer reads spikes as tokens, each a unit and a bin, and says which comes next "
        "from those of the window so far, the past before it, the stimulus and covariates; "
        "behaviour is read off the same state (Antoniades et al. 2024). Unlike in the paper, the "
        "unit is predicted given the time (`heads`), streams are aligned before they are fused, "
        "and patches of a movie have positions. Neither windows nor their past reach over the "
        "edge of a fold's stretch. Bits per spike are of the counts of all bins, each given all "
        "spikes before; a token's cross-entropy is that of its time and of its unit given the "
        "time. Decoded behaviour stands beside circular shifts, since slow signals agree by "
        "chance. Who drives whom is read out of the network: the change of a unit's log chance "
        "for a spike of the source in the bin before, by ridge regression over the training "
        "windows.",
    ),
    "mindbridge": (
        "wang2024mindbridge",
        "MindBridge brings the voxels of every subject to one code, from which a part that all "
        "share predicts the embedding of the image, and of its caption where there is one; a "
        "builder of each subject leads back, so that one brain's activity becomes another's "
        "(Wang et al. 2024). Unlike in the paper, a linear map of each subject stands in for the "
        "pooling of voxels unless `aggregation` says otherwise. It starts from the better of ridge "
        "regression and of an encoding model that is inverted by Bayes' rule, whose prior is what "
        "the other brains respond to; SoftCLIP on embeddings about their training mean then goes "
        "on, for as many epochs as held-out stimuli of the training data asked for. Trials of one "
        "stimulus were averaged before they were decoded, and no stimulus of the training data, of "
        "any subject, is scored. Retrieval is the mean over all pools of the stated size that can "
        "be drawn from the held-out stimuli.",
    ),
}
BASELINES = {
    "homogeneous_rate": "a constant rate for each unit",
    "poisson_glm": "a Poisson regression on the past counts without hidden states",
    "gaussian_glm": "the same regression with a Gaussian prior on its weights",
    "poisson_hmm": "a hidden Markov model with constant rates in each state",
    "plain_cp": "non-negative CP of the same tensor from one start, missing entries as zeros "
    "(TensorLy, Kossaifi et al. 2019)",
    "static_correlation": "one pattern, the positive part of each pair's correlation",
    "windowed_correlation": "sliding correlations in states by k-means (Allen et al. 2014)",
    "smoothed_factors": "factor analysis of smoothed square roots of counts (two-stage method of "
    "Yu et al. 2009, by scikit-learn, Pedregosa et al. 2011), units and behaviour regressed on the "
    "factors, filter and number of factors chosen inside the training data",
    "unshared_gpvae": "a GP-VAE of each modality without shared latents, and regressions from one "
    "to the other",
    "gpfa": "Gaussian-process factor analysis of square roots of counts (Yu et al. 2009, by "
    "elephant, RRID:SCR_003833), with the same regressions",
    "pca_regression": "ridge regression on principal components of smoothed counts, in both "
    "directions, likewise chosen",
    "du_in_from_scratch": "Du-IN without its first two stages",
    "du_in_unquantised": "Du-IN without codes: hidden patches are predicted as points",
    "band_power_lda": "linear discriminant analysis with shrinkage on the log power of four bands, "
    "4 to 150 Hz, in bins of time (scikit-learn, Pedregosa et al. 2011)",
    "band_power_logistic": "logistic regression with a ridge on the same powers",
    "eegnet": "EEGNet (Lawhern et al. 2018)",
    "eeg_conformer": "EEG Conformer (Song et al. 2023)",
    "ridge_decoder": "ridge regression of behaviour on counts of the same windows and their past",
    "reduced_rank": "the same on single bins, with weights over units and time of low rank",
    "mlp_decoder": "a perceptron with two hidden layers on the counts that ridge sees",
    "gru_decoder": "a bidirectional gated recurrent network over the same bins",
    "lagged_correlation": "correlation of a unit's counts with a source's counts a bin before",
    "subject_ridge": "ridge regression from the voxels of each subject alone to the embeddings, "
    "its penalty by leave-one-out (scikit-learn, Pedregosa et al. 2011)",
    "shared_response": "a shared response model of the stimuli that all subjects saw (Chen et al. "
    "2015), then one ridge regression for all",
    "hyperalignment": "Procrustes rotations of the same responses to each other (Haxby et al. "
    "2011), then one ridge regression for all",
    "mean_embedding": "the mean training embedding whatever the brain did, which is chance",
    "shuffled_bridge": "the same fit after the training trials of each subject were dealt out anew "
    "to what they had shown",
}
MODEL_REFERENCES = {"mm_gpvae": ("pei2021nlb",)}  # beside the model's own
BASELINE_REFERENCES = {
    "band_power_lda": ("pedregosa2011scikit",),
    "band_power_logistic": ("pedregosa2011scikit",),
    "eegnet": ("lawhern2018eegnet",),
    "eeg_conformer": ("song2023conformer",),
    "plain_cp": ("kossaifi2019tensorly",),
    "windowed_correlation": ("allen2014tracking",),
    "smoothed_factors": ("yu2009gpfa", "pedregosa2011scikit"),
    "gpfa": ("yu2009gpfa",),
    "pca_regression": ("pedregosa2011scikit",),
    "subject_ridge": ("pedregosa2011scikit",),
    "shared_response": ("chen2015srm",),
    "hyperalignment": ("haxby2011hyperalignment",),
}


def methods(study: StudyReport) -> list[str]:
    """Return the methods of a study, a paragraph each."""
    out = []
    out += [READERS[name][1] for name in _readers(study)]
    out += _steps(study)
    if study.quality:
        out.append(
            "Each recording was checked before anything was fitted; levels of the checks stand in "
            "the configuration, their values in the tables of quality."
        )
    out += [_run_methods(run) for run in study.runs]
    out += [MODELS[model][1] for model in _models(study) if model in MODELS]
    if not study.runs:
        return out
    used = _baselines(study)
    if used:
        meanings = "; ".join(f"{spoken(name)}, {BASELINES[name]}" for name in used)
        out.append(f"Baselines: {meanings}.")
    out.append(
        "Whatever was fitted was fitted on the training side of each fold; held-out data gave the "
        "scores only. Intervals of means are 95% percentile bootstrap intervals over sessions and "
        "folds; differences between estimators are paired by session and fold."
    )
    if _has_edges(study):
        out.append(
            "p-values of single weights are controlled for false discoveries within their table "
            "(Benjamini and Hochberg 1995)."
        )
    return out


def _steps(study: StudyReport) -> list[str]:
    """Return the steps of each data set in order with what was set, a sentence a data set."""
    by_dataset: dict[str, list[str]] = {}
    for item in study.quality:
        steps = [s for s in item.history if not str(s.get("name", "")).startswith("read_")]
        told = ", then ".join(_step(step) for step in steps)
        if told and told not in by_dataset.setdefault(item.dataset, []):
            by_dataset[item.dataset].append(told)
    return [
        f"Recordings of {name} went through these steps: {'; or '.join(ways)}."
        for name, ways in by_dataset.items()
        if ways
    ]


def _step(step: Mapping[str, Any]) -> str:
    settings = ", ".join(
        f"{key} {_plain(value)}" for key, value in dict(step.get("parameters", {})).items()
    )
    return str(step.get("name", "")) + (f" ({settings})" if settings else "")


def _plain(value: Any) -> str:
    """Return a setting without quotes; a list or mapping as its parts."""
    if isinstance(value, Mapping):
        return " and ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return " and ".join(map(_plain, value)) or "none"
    return str(value)


def _run_methods(run: RunReport) -> str:
    folds = run.splits.get("folds")
    n_folds = len(folds) if isinstance(folds, list | tuple | dict) else folds
    sentence = f"Run {run.run}: {spoken(run.model)} on {run.dataset}, seed {run.seed}"
    if n_folds is not None:
        sentence += f", {n_folds} folds"
    if "by" in run.splits:
        sentence += f" by {run.splits['by']}"
    if run.splits.get("buffer_s"):
        sentence += f" with {run.splits['buffer_s']} s left out on each side of held-out data"
    return sentence + "; the model and its baselines share the folds."


def _readers(study: StudyReport) -> list[str]:
    used = {d.reader for d in study.datasets}
    return [name for name in READERS if name in used]


def _models(study: StudyReport) -> list[str]:
    return list(dict.fromkeys(run.model for run in study.runs))


def _baselines(study: StudyReport) -> list[str]:
    return [name for name in BASELINES if any(name in run.converged for run in study.runs)]


def _has_edges(study: StudyReport) -> bool:
    return any(
        "q_value" in table.frame and len(table.frame) for run in study.runs for table in run.tables
    )


def references(study: StudyReport) -> str:
    """Return the BibTeX entries of models, formats, tests and data sets that the study used."""
    keys = [MODELS[model][0] for model in _models(study) if model in MODELS]
    keys += [key for model in _models(study) for key in MODEL_REFERENCES.get(model, ())]
    keys += [key for name in _baselines(study) for key in BASELINE_REFERENCES.get(name, ())]
    keys += [key for name in _readers(study) for key in READERS[name][0]]
    if _has_edges(study):
        keys.append("benjamini1995fdr")
    entries = [REFERENCES[key] for key in dict.fromkeys(keys)]
    entries += [_entry(d) for d in study.datasets if not d.simulated]
    return "\n\n".join([*entries, *study.bibtex])


def _entry(dataset: DataSource) -> str:
    fields = {
        "title": dataset.title,
        "doi": dataset.doi,
        "note": ". ".join(
            part
            for part in (dataset.citation, dataset.licence and f"Licence: {dataset.licence}")
            if part
        ),
    }
    key = re.sub(r"\W+", "", dataset.name) or "dataset"
    lines = [f"  {name} = {{{_braced(value)}}}" for name, value in fields.items() if value]
    return f"@misc{{{key},\n" + ",\n".join(lines) + "\n}"


def _braced(text: str) -> str:
    return text.replace("{", "(").replace("}", ")")
