"""`cost`: one table of all fits of a study: what went in, what came out, what it took."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuropipe.cli import Output, Results, app
from neuropipe.cli.files import parse_json, read_json, write_table
from neuropipe.cli.provenance import sha256_of_json
from neuropipe.config import Study, build

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "run", "dataset", "estimator", "fold", "seed", "inputs_sha256", "parameters",
    "parameters_sha256", "version", "revision", "commit", "code_sha256", "host", "processes",
    "finished", "resumed", "seconds", "cpu_seconds", "peak_memory_mb", "gpu", "gpu_peak_memory_mb",
    "gpu_energy_j",
)  # fmt: skip


@app.command()
def cost(
    study: Annotated[str, typer.Option(help="JSON of the whole configuration.")],
    output: Output,
    results: Results = Path("results"),
) -> None:
    """Write one row a fit, whatever fits there are; behind what it took, its scores.

    A score is the mean over the fold's held-out sessions. `parameters` is JSON. Hashes of inputs
    are one hash of all; provenance.json beside a fit lists them.
    """
    import pandas as pd

    block = build(Study, parse_json(study, "--study"), "--study")
    rows = list(_rows(block, results))
    scores = sorted({name for row in rows for name in row} - set(COLUMNS))
    write_table(output, pd.DataFrame(rows, columns=[*COLUMNS, *scores]))


def _rows(study: Study, results: Path) -> Iterator[dict[str, Any]]:
    for name, run in study.runs.items():
        for estimator in run.estimators():
            for fold in range(run.split.folds):
                folder = results / "fit" / name / estimator / f"fold-{fold}"
                if (folder / "provenance.json").is_file():
                    made = read_json(folder / "provenance.json")
                    scored = results / "score" / name / estimator / f"fold-{fold}.tsv"
                    yield {
                        "run": name, "dataset": run.dataset, "fold": fold,
                        **_taken(made), **_scores(scored),
                    }  # fmt: skip


def _taken(made: dict[str, Any]) -> dict[str, Any]:
    """Return the columns that a fit's own note holds; a fit of an older version lacks some."""
    code = made.get("code", {})
    megabytes = {
        f"{kind}_mb": value / 1e6
        for kind in ("peak_memory", "gpu_peak_memory")
        if (value := made.get(f"{kind}_bytes")) is not None
    }
    same = ("estimator", "seed", "host", "processes", "finished", "resumed", "seconds",
            "cpu_seconds", "gpu", "gpu_energy_j")  # fmt: skip
    return {
        **{name: made.get(name) for name in same},
        **megabytes,
        "inputs_sha256": sha256_of_json(made["inputs_sha256"]),
        "parameters": json.dumps(made["settings"], sort_keys=True),
        "parameters_sha256": made["settings_sha256"],
        "version": made["versions"]["neuropipe"], "revision": code.get("revision"),
        "commit": code.get("commit"), "code_sha256": code.get("sha256"),
    }  # fmt: skip


def _scores(path: Path) -> dict[str, float]:
    """Return each metric's mean over sessions; none where nothing was scored."""
    import pandas as pd

    if not path.is_file():
        return {}
    table: pd.DataFrame = pd.read_csv(path, sep="\t", na_values=["n/a"], keep_default_na=False)
    return {str(name): value for name, value in table.groupby("metric")["value"].mean().items()}
