"""What a configuration refers to: manifests, sessions, steps, figures, tables; before any job."""

from __future__ import annotations

from pathlib import Path

from neuropipe import figures, tables
from neuropipe.config import Study
from neuropipe.errors import ConfigError
from neuropipe.io.manifest import Manifest, read_manifest
from neuropipe.preprocess import check_steps
from neuropipe.registry import hint


def sessions_of(name: str, study: Study, manifest: Manifest) -> list[str]:
    """Return the session ids of a data set that a study wants.

    Raises
    ------
    ConfigError
        One of them is not in the manifest.
    """
    wanted, known = study.datasets[name].sessions, manifest.sessions()
    if wanted == "all":
        return list(known)
    for session in wanted:
        if session not in known:
            raise ConfigError(
                f"config: datasets.{name}.sessions: no session {session!r} in its manifest, "
                f"{study.datasets[name].manifest}{hint(session, known)}"
            )
    return list(wanted)


def check_references(study: Study, folder: Path = Path()) -> dict[str, Manifest]:
    """Refuse what no schema can: unknown sessions, steps, figures and tables.

    Parameters
    ----------
    study : the checked configuration
    folder : that paths of manifests are relative to

    Returns
    -------
    dict
        The manifest of each data set.

    Raises
    ------
    ConfigError, ManifestError
        With the place, the name and the nearest match.
    """
    manifests = {n: read_manifest(folder / d.manifest) for n, d in study.datasets.items()}
    for name, data in study.datasets.items():
        sessions_of(name, study, manifests[name])
        check_steps(data.preprocess, f"config: datasets.{name}.preprocess")
    for run in study.runs.values():
        figures.suiting(run.model, run.figures)
        tables.suiting(run.model, run.tables)
    return manifests
