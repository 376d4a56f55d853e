"""Where Dask computes: on threads of this process, on workers of this job, or on a scheduler."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from neuropipe.errors import ConfigError

log = logging.getLogger(__name__)

NAMED = "NEUROPIPE_SCHEDULER"
# What a job was given, as its rule says.
THREADS, MEMORY_MB = "NEUROPIPE_THREADS", "NEUROPIPE_MEMORY_MB"
WAIT_S = 30
OWN_MB = 500  # of a job's memory, that stays with the process that starts the workers
WORKER_MB = 1000  # at least, for a worker


@contextmanager
def scheduler() -> Iterator[None]:
    """Compute where NEUROPIPE_SCHEDULER says.

    Empty: on Dask's threads in this process. ``local``: on worker processes that this job starts,
    as many as NEUROPIPE_THREADS and NEUROPIPE_MEMORY_MB allow; a worker that is lost is replaced,
    and its part computed again. Else: on the `dask.distributed` scheduler at this address, whose
    workers must see the same folders.

    Raises
    ------
    ConfigError
        Nobody answers at the address, or a job's resources are no numbers.
    """
    address = os.environ.get(NAMED)
    if not address:
        yield
        return
    from distributed import Client, LocalCluster

    if address == "local":
        workers, threads, megabytes = _sizes()
        with (
            LocalCluster(
                n_workers=workers, threads_per_worker=threads, memory_limit=f"{megabytes}MB",
                processes=True, dashboard_address=None, host="127.0.0.1",
            ) as cluster,
            Client(cluster),
        ):  # fmt: skip
            log.info("computing on %d workers of %d threads, %d MB", workers, threads, megabytes)
            yield
        return

    try:
        client = Client(address, timeout=WAIT_S)
    except (OSError, ValueError) as error:  # a time-out is an OSError
        raise ConfigError(
            f"{NAMED}: no scheduler answers at {address!r} ({error}); start one with "
            "`dask scheduler`, or unset the variable to use threads"
        ) from error
    with client:
        log.info(
            "computing on %s with %d workers", address, len(client.scheduler_info()["workers"])
        )
        yield


def _sizes() -> tuple[int, int, int]:
    """Return how many workers this job has room for, the threads of each, and its memory, MB."""
    cores = len(os.sched_getaffinity(0))
    threads, memory = _number(THREADS, cores), _number(MEMORY_MB, 4000)
    room = max(memory - OWN_MB, WORKER_MB)
    workers = max(1, min(threads, room // WORKER_MB))
    return workers, max(1, threads // workers), room // workers


def _number(name: str, otherwise: int) -> int:
    text = os.environ.get(name) or str(otherwise)
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(f"{name}: found {text!r}, expected a whole number above 0")
    return int(text)
