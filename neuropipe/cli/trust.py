"""`trust`: what a run's model recovers of planted truth at the size of the run's own recordings."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from neuropipe.cli import Output, Results, app
from neuropipe.cli.files import write_table
from neuropipe.errors import ConfigError

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.config import Run
    from neuropipe.schema import Recording

log = logging.getLogger(__name__)

TABLES = {"hmm_glm": "recovery", "mm_gpvae": "latent_recovery", "ntf_connectome": "group_recovery"}
LEAST_COUNT = 1e-3  # of a bin, mean: an empty recording would draw nothing


@app.command()
def trust(
    config: Annotated[Path, typer.Argument(help="Configuration of the study.")],
    run: Annotated[str, typer.Option(help="Name of the run, prepared already.")],
    output: Output,
    results: Results = Path("results"),
) -> None:
    """Simulate the run's model at the size of its recordings, fit one fold, compare with the truth.

    Written as results/trust/RUN.tsv, it stands in the next report as "Can I trust this?".
    """
    from neuropipe.config import read_study
    from neuropipe.io.store import open_recording
    from neuropipe.registry import hint
    from neuropipe.scripting import cross_validate, simulate, tabulate

    study = read_study(config)
    if run not in study.runs:
        raise ConfigError(f"{config}: no run {run!r}{hint(run, study.runs)}")
    block = study.runs[run]
    if block.model not in TABLES:
        raise ConfigError(
            f"trust: {block.model} is not matched to a recording's size yet, these are: "
            f"{', '.join(TABLES)}; docs/trust.md says how to ask it in a script"
        )
    stores = sorted((results / "preprocess" / block.dataset).glob("*.zarr"))
    if not stores:
        raise ConfigError(
            f"trust: {results / 'preprocess' / block.dataset}: no prepared recording; run the "
            "study, or its step preprocess, first"
        )
    recordings = [open_recording(store) for store in stores]
    drawn, truth = [], {}
    for number, settings in enumerate(sizes_of(block, recordings), start=1):
        log.info("trust: drawing session %d of %s", number, settings)
        session, planted = simulate(block.model, seed=block.seed, **settings)
        session.attrs["session"] = f"drawn-{number}"
        drawn.append(prepared(block.model, session, recordings[0]))
        truth[f"drawn-{number}"] = planted
    found = cross_validate(
        block.model, drawn, seed=block.seed, split=block.split.model_dump(),
        parameters={k: v for k, v in block.parameters.items() if k not in FOREIGN},
        truth=truth, folds=[0],
    )  # fmt: skip
    write_table(output, tabulate(found, TABLES[block.model]))


# What names parts of the user's own recording, which a drawn one does not have.
FOREIGN = ("covariates", "missing_covariates", "observations", "response", "signals")


def sizes_of(run: Run, recordings: list[Recording]) -> list[dict[str, Any]]:
    """Return the settings of the simulator, one mapping for each session to draw.

    Parameters
    ----------
    run : the run's block
    recordings : its prepared sessions; units, bins, trials and rates are taken from them
    """
    import numpy as np

    given = run.parameters
    if run.model == "ntf_connectome":
        out = []
        for animal, recording in enumerate(recordings, start=1):
            node = next(g for g in recording.groups if g.startswith("/calcium/"))
            traces = cast("xr.DataTree", recording[node]).to_dataset()
            time = traces["time"].values
            step = float(time[1] - time[0])
            out.append({"animal": animal, "n_animals": len(recordings), "missing": 0.0,
                        "n_units": traces.sizes["roi"], "n_windows": len(time),
                        "frame_rate_hz": 1 / step})  # fmt: skip
        return out
    counts = recordings[0]["counts"]["spike_count"]
    width = float(counts.attrs["bin_width_s"])
    n_trials, n_bins = 1, counts.sizes["time"]
    if "trials" in recordings[0].children:
        trials = recordings[0].children["trials"].to_dataset()
        length = float(np.median(trials["stop_time"].values - trials["start_time"].values))
        n_trials, n_bins = trials["start_time"].size, max(2, round(length / width))
    size = {"n_units": counts.sizes["unit"], "n_bins": n_bins, "bin_width_s": width}
    if run.model == "hmm_glm":
        states = given.get("n_states", 3)
        most = states if isinstance(states, int) else max(states)
        return [{**size, "n_sequences": n_trials, "n_states": most}]
    mean = max(float(counts.mean()), LEAST_COUNT)
    latents = {k: given.get(k, 1) for k in ("n_shared", "n_neural", "n_behavior")}
    behavior = recordings[0]["behavior"].to_dataset() if "behavior" in recordings[0] else {}
    channels = len(getattr(behavior, "data_vars", ())) or 1
    return [{**size, **latents, "n_trials": n_trials, "n_channels": channels,
             "base_low": 0.5 * mean, "base_high": 1.5 * mean}]  # fmt: skip


def prepared(model: str, session: Recording, like: Recording) -> Recording:
    """Return a drawn session made ready as the user's was."""
    from neuropipe.preprocess import apply_steps

    if model == "ntf_connectome":
        return session
    width = float(like["counts"]["spike_count"].attrs["bin_width_s"])
    steps: list[dict[str, Any]] = [{"step": "bin_spikes", "bin_width_s": width, "start_s": 0.0}]
    if model == "mm_gpvae":
        steps.append({"step": "resample_behavior", "signals": ["joints"]})
    return apply_steps(session, steps)
