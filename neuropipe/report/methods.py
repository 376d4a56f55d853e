"""Methods in words and the references of what a study truly used."""

from __future__ import annotations

import re

from neuropipe.report.study import DataSource, RunReport, StudyReport
from neuropipe.report.words import spoken

REFERENCES = {
    "li2024onehot": """@inproceedings{li2024onehot,
  title     = {One-hot Generalized Linear Model for Switching Brain State Discovery},
  author    = {Li, Chengrui and Kim, Soon Ho and Rodgers, Chris and Choi, Hannah and Wu, Anqi},
  booktitle = {International Conference on Learning Representations},
  year      = {2024},
  note      = {arXiv:2310.15263}
}""",
    "rubel2022nwb": """@article{rubel2022nwb,
  title   = {The Neurodata Without Borders ecosystem for neurophysiological data science},
  author  = {R{\\"u}bel, Oliver and Tritt, Andrew and Ly, Ryan and Dichter, Benjamin K. and
             Ghosh, Satrajit and Niu, Lawrence and Baker, Pamela and Soltesz, Ivan and Ng, Lydia
             and Svoboda, Karel and Frank, Loren and Bouchard, Kristofer E.},
  journal = {eLife},
  volume  = {11},
  pages   = {e78362},
  year    = {2022},
  doi     = {10.7554/eLife.78362}
}""",
    "gorgolewski2016bids": """@article{gorgolewski2016bids,
  title   = {The brain imaging data structure, a format for organizing and describing outputs of
             neuroimaging experiments},
  author  = {Gorgolewski, Krzysztof J. and others},
  journal = {Scientific Data},
  volume  = {3},
  pages   = {160044},
  year    = {2016},
  doi     = {10.1038/sdata.2016.44}
}""",
    "holdgraf2019ieegbids": """@article{holdgraf2019ieegbids,
  title   = {{iEEG-BIDS}, extending the Brain Imaging Data Structure specification to human
             intracranial electrophysiology},
  author  = {Holdgraf, Christopher and others},
  journal = {Scientific Data},
  volume  = {6},
  pages   = {102},
  year    = {2019},
  doi     = {10.1038/s41597-019-0105-7}
}""",
    "gramfort2013mne": """@article{gramfort2013mne,
  title   = {{MEG} and {EEG} data analysis with {MNE-Python}},
  author  = {Gramfort, Alexandre and others},
  journal = {Frontiers in Neuroscience},
  volume  = {7},
  pages   = {267},
  year    = {2013},
  doi     = {10.3389/fnins.2013.00267}
}""",
    "abraham2014nilearn": """@article{abraham2014nilearn,
  title   = {Machine learning for neuroimaging with scikit-learn},
  author  = {Abraham, Alexandre and others},
  journal = {Frontiers in Neuroinformatics},
  volume  = {8},
  pages   = {14},
  year    = {2014},
  doi     = {10.3389/fninf.2014.00014}
}""",
    "dyballa2024dynamic": """@inproceedings{dyballa2024dynamic,
  title     = {Learning dynamic representations of the functional connectome in neurobiological
               networks},
  author    = {Dyballa, Luciano and Lang, Samuel and Haslund-Gourley, Alexandra and
               Yemini, Eviatar and Zucker, Steven W.},
  booktitle = {International Conference on Learning Representations},
  year      = {2024},
  note      = {arXiv:2402.14102}
}""",
    "kossaifi2019tensorly": """@article{kossaifi2019tensorly,
  title   = {{TensorLy}: Tensor Learning in {Python}},
  author  = {Kossaifi, Jean and Panagakis, Yannis and Anandkumar, Anima and Pantic, Maja},
  journal = {Journal of Machine Learning Research},
  volume  = {20},
  number  = {26},
  pages   = {1--6},
  year    = {2019}
}""",
    "allen2014tracking": """@article{allen2014tracking,
  title   = {Tracking whole-brain connectivity dynamics in the resting state},
  author  = {Allen, Elena A. and Damaraju, Eswar and Plis, Sergey M. and Erhardt, Erik B. and
             Eichele, Tom and Calhoun, Vince D.},
  journal = {Cerebral Cortex},
  volume  = {24},
  number  = {3},
  pages   = {663--676},
  year    = {2014},
  doi     = {10.1093/cercor/bhs352}
}""",
    "benjamini1995fdr": """@article{benjamini1995fdr,
  title   = {Controlling the False Discovery Rate: A Practical and Powerful Approach to Multiple
             Testing},
  author  = {Benjamini, Yoav and Hochberg, Yosef},
  journal = {Journal of the Royal Statistical Society: Series B},
  volume  = {57},
  number  = {1},
  pages   = {289--300},
  year    = {1995},
  doi     = {10.1111/j.2517-6161.1995.tb02031.x}
}""",
}
READERS = {
    "nwb": (("rubel2022nwb",), "Recordings were read from NWB files (Rübel et al. 2022)."),
    "bold": (
        ("gorgolewski2016bids", "abraham2014nilearn"),
        "BOLD series were read from BIDS (Gorgolewski et al. 2016) with nibabel, masked and "
        "cleaned with designs of nilearn (Abraham et al. 2014).",
    ),
    "ieeg": (
        ("holdgraf2019ieegbids", "gramfort2013mne"),
        "Intracranial recordings were read from BIDS (Holdgraf et al. 2019) and filtered with "
        "MNE-Python's designs (Gramfort et al. 2013).",
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
}
BASELINE_REFERENCES = {
    "plain_cp": "kossaifi2019tensorly",
    "windowed_correlation": "allen2014tracking",
}


def methods(study: StudyReport) -> list[str]:
    """Return the methods of a study, a paragraph each."""
    out = []
    out += [READERS[name][1] for name in _readers(study)]
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
    keys += [BASELINE_REFERENCES[b] for b in _baselines(study) if b in BASELINE_REFERENCES]
    keys += [key for name in _readers(study) for key in READERS[name][0]]
    if _has_edges(study):
        keys.append("benjamini1995fdr")
    entries = [REFERENCES[key] for key in keys]
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
