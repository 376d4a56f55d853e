"""`fit`: learn one estimator on the training side of one fold."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from neuropipe.cli import Output, Seed, app
from neuropipe.cli.files import (
    check_replaceable,
    parse_json,
    read_json,
    whole_folder,
    write_json,
)
from neuropipe.cli.provenance import Meter, provenance
from neuropipe.errors import ConfigError

log = logging.getLogger(__name__)
GRACE_S = 100  # that processes have to keep their progress once they are told to end


def load_estimator(name: str) -> Any:
    """Return the class of a model or baseline."""
    from neuropipe.baselines import BASELINES
    from neuropipe.models import MODELS, resolve

    return resolve(name, {**MODELS, **BASELINES})


def shareable(name: str) -> bool:
    """Return whether several processes can share the fit of a model or baseline."""
    from neuropipe.baselines import BASELINES
    from neuropipe.models import MODELS

    return {**MODELS, **BASELINES}.get(name, "").startswith("neuropipe.models.")


def under_torchrun(processes: int) -> NoReturn:
    """Start this command again, in this process's place, so that several processes run it.

    The signals that announce a time limit reach all of them; if one fails, the others are ended.
    """
    given = sys.argv[1:]
    at = next(n for n, word in enumerate(given) if word.startswith("--processes"))
    words = given[:at] + given[at + (1 if "=" in given[at] else 2) :]
    cores = len(os.sched_getaffinity(0))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // processes)))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # an advice about unused weights
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(GRACE_S))
    signals = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes),
             "--signals-to-handle", signals, "-m", "neuropipe.cli", *words]  # fmt: skip
    os.execv(sys.executable, [sys.executable, *start])


def fold_of(splits: Path, fold: int, side: str) -> dict[str, list[list[float]]]:
    """Return the windows of one side of one fold, by session."""
    folds = read_json(splits)["folds"]
    if not 0 <= fold < len(folds):
        raise ConfigError(f"{splits}: fold {fold}, expected 0 to {len(folds) - 1}")
    return folds[fold][side]


@app.command()
def fit(
    estimator: Annotated[str, typer.Argument(help="Name of a model or baseline.")],
    stores: Annotated[list[Path], typer.Argument(help="Prepared stores of the run.")],
    splits: Annotated[Path, typer.Option(help="Folds of the run.")],
    fold: Annotated[int, typer.Option(help="Which fold is held out.")],
    seed: Seed,
    output: Output,
    parameters: Annotated[str, typer.Option(help="JSON of the estimator's parameters.")] = "{}",
    checkpoint: Annotated[Path | None, typer.Option(help="File to resume from.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    processes: Annotated[
        int, typer.Option(min=1, help="Processes of this machine that share the fit, one a card.")
    ] = 1,
) -> None:
    """Fit on the training windows; writes OUTPUT (fit.json) and the fitted estimator beside it.

    The option --processes starts it again under torchrun; what models of the paper share, the
    other estimators do in one process. On several machines start `torchrun ... -m neuropipe.cli
    fit ...` on each yourself.
    """
    if processes > 1 and shareable(estimator) and "WORLD_SIZE" not in os.environ:
        under_torchrun(processes)
    from neuropipe.batching.windows import attach_windows
    from neuropipe.config import build, parameters_class
    from neuropipe.io.store import open_recording, write
    from neuropipe.runtime import pick_device
    from neuropipe.training.processes import is_first, joined, n_processes

    folder = output.absolute().parent
    check_replaceable(folder, "provenance.json")
    settings = parse_json(parameters, "--parameters")
    build(parameters_class(estimator), settings, f"parameters of {estimator}")
    model = load_estimator(estimator)(**settings)
    training = fold_of(splits, fold, "train")
    recordings = [
        attach_windows(open_recording(store), training[store.stem])
        for store in stores
        if store.stem in training
    ]
    if checkpoint is not None:
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
    resumed = checkpoint is not None and checkpoint.exists()
    where = pick_device(device)
    with joined(where), _leaving_when_asked():
        if not is_first():  # what all say is said once
            logging.getLogger("neuropipe").setLevel(logging.WARNING)
        meter = Meter(card=where.type == "cuda")
        model.fit(recordings, seed=seed, device=device, checkpoint=checkpoint)
        joint = n_processes()
        if not is_first():
            return
    with whole_folder(folder) as part:
        model.save(part)
        learned = write(model.parameters_, part / "parameters.zarr")
        write(model.history_, part / "history.zarr")
        inputs = {str(s.name): read_json(s.with_suffix(".json"))["content_sha256"] for s in stores}
        made = provenance(
            estimator, settings, seed, inputs, meter, resumed=resumed, processes=joint
        )
        write_json(part / "provenance.json", made)
        write_json(
            part / output.name,
            {"estimator": estimator, "fold": fold, "parameters_sha256": learned["content_sha256"]},
        )
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)


@contextmanager
def _leaving_when_asked() -> Iterator[None]:
    """Let TERM and USR1, which announce a time limit, keep the progress and end the fit.

    The next step of the fit writes its checkpoint; a second signal ends the process as ever. Of
    several processes each may be told by the batch system and by torchrun.
    """
    from neuropipe.training.checkpoint import STOP
    from neuropipe.training.processes import n_processes

    def ask(number: int, _frame: object) -> None:
        log.warning("%s: the fit keeps its progress and ends", signal.Signals(number).name)
        STOP.set()
        if n_processes() == 1:
            signal.signal(number, signal.SIG_DFL)

    before = {n: signal.signal(n, ask) for n in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        STOP.clear()
        for number, handler in before.items():
            signal.signal(number, handler)
