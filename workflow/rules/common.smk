# What the rules share: the checked configuration, sessions, and what a run must produce.
# This file is read again by every job, so it imports nothing slow.
import json
from importlib import import_module
from pathlib import Path

from neuropipe import figures, tables
from neuropipe.checks import check_references, sessions_of
from neuropipe.config import check_study, parameters_class
from neuropipe.figures import FIGURES, caption
from neuropipe.plan import memory_mb
from neuropipe.tables import TABLES

STUDY = check_study(config, "config")
RUNS = STUDY.runs
MANIFESTS = check_references(STUDY)
# Once, for there may be thousands: session ids that the configuration wants, files of each session.
SESSIONS = {name: sessions_of(name, STUDY, m) for name, m in MANIFESTS.items()}
FILES = {name: manifest.sessions() for name, manifest in MANIFESTS.items()}
OPTIONAL = [name for name, data in STUDY.datasets.items() if data.optional]
REQUIRED = [name for name in STUDY.datasets if name not in OPTIONAL]
NEVER = "(?!)"  # a pattern that matches nothing
REPORTED = (
    "scores",
    "recordings",
)  # tables that the report reads whatever a run asks for


wildcard_constraints:
    dataset="|".join(STUDY.datasets),
    session="[A-Za-z0-9_.+-]+",
    run="[A-Za-z0-9_]+",
    estimator="[a-z0-9_]+",
    fold=r"\d+",
    figure="|".join(FIGURES),
    table="|".join(TABLES),


def as_json(value):
    """Text of a setting; equal settings give equal text, so nothing re-runs without cause."""
    return json.dumps(value, sort_keys=True)


def revision(estimator):
    """Number that its authors raise when the same parameters would give other numbers."""
    return import_module(parameters_class(estimator).__module__).REVISION


def stores(run):
    """Prepared stores of a run's sessions."""
    dataset = RUNS[run].dataset
    return [f"results/preprocess/{dataset}/{s}.zarr" for s in SESSIONS[dataset]]


def store_notes(wildcards):
    """Content notes beside a run's stores; small, so Snakemake compares what is in them."""
    return [str(Path(store).with_suffix(".json")) for store in stores(wildcards.run)]


def memory(rule):
    """Memory that a job of a rule is given, MB; a retry is given as much again."""

    def megabytes(wildcards, attempt):
        notes = store_notes(wildcards) if "run" in wildcards.keys() else []
        return attempt * memory_mb(rule, [Path(note) for note in notes])

    return megabytes


def fits(run, estimators=None):
    """Notes of every fit of a run."""
    estimators = estimators or RUNS[run].estimators()
    folds = range(RUNS[run].split.folds)
    return [
        f"results/fit/{run}/{e}/fold-{k}/fit.json" for e in estimators for k in folds
    ]


def scores(run):
    """Scores of every fit of a run."""
    return [
        path.replace("results/fit", "results/score", 1).replace("/fit.json", ".tsv")
        for path in fits(run)
    ]


def run_outputs(wildcards):
    """Everything that a figure or table of a run may read."""
    run = wildcards.run
    folds = range(RUNS[run].split.folds)
    return (
        [f"results/preprocess/splits/{run}.json"]
        + fits(run)
        + scores(run)
        + [f"results/transform/{run}/fold-{k}.json" for k in folds]
    )


def pictures(run):
    """Figures and tables of a run."""
    block = RUNS[run]
    drawn = figures.suiting(block.model, block.figures)
    listed = [*tables.suiting(block.model, block.tables), *REPORTED]
    return [f"results/figure/{run}/{f}.svg" for f in drawn] + [
        f"results/table/{run}/{t}.tsv" for t in dict.fromkeys(listed)
    ]


def receipts(dataset):
    """Receipts of a data set's sessions."""
    return [f"results/fetch/{dataset}/{s}.json" for s in SESSIONS[dataset]]


def available(dataset):
    """Whether a data set could be fetched; known only after its checkpoint has run."""
    if dataset not in OPTIONAL:
        return True
    for session in SESSIONS[dataset]:
        receipt = checkpoints.fetch_optional.get(
            dataset=dataset, session=session
        ).output[0]
        if json.loads(Path(receipt).read_text())["status"] == "skipped":
            return False
    return True


def quality(dataset):
    """Checks of every recording of a data set."""
    return [f"results/quality/{dataset}/{s}.tsv" for s in SESSIONS[dataset]]


def prepared(dataset):
    """Prepared stores of a data set that no run asks for."""
    if any(block.dataset == dataset for block in RUNS.values()):
        return []
    if not STUDY.datasets[dataset].preprocess:
        return []
    return [f"results/preprocess/{dataset}/{s}.json" for s in SESSIONS[dataset]]


def made_of(datasets):
    """What is made of data sets: checks of their recordings, figures and tables of their runs."""
    runs = [run for run, block in RUNS.items() if block.dataset in datasets]
    ready = [
        path for dataset in datasets for path in quality(dataset) + prepared(dataset)
    ]
    return ready + [p for run in runs for p in pictures(run)]


def required_results(wildcards):
    """Results of the data sets that must be there."""
    return made_of(REQUIRED)


def optional_results(wildcards):
    """Results of the others, as far as they could be fetched."""
    return made_of([dataset for dataset in OPTIONAL if available(dataset)])


def fitted(wildcards):
    """Every fit and score of the study, as far as its data are there."""
    runs = [run for run, block in RUNS.items() if available(block.dataset)]
    return [path for run in runs for path in fits(run) + scores(run)]


def skips(wildcards):
    """How often a session was skipped before: a new number makes the next run try again."""
    receipt = Path(f"results/fetch/{wildcards.dataset}/{wildcards.session}.json")
    return json.loads(receipt.read_text()).get("skips", 0) if receipt.exists() else 0


def left_out():
    """One line for each optional data set that could not be fetched."""
    notes = [
        json.loads(Path(path).read_text())
        for dataset in OPTIONAL
        for path in receipts(dataset)
        if Path(path).exists()
    ]
    lost = {n["dataset"]: n["reason"] for n in notes if n["status"] == "skipped"}
    return [f"SKIPPED data set {name}: {reason}" for name, reason in lost.items()]
