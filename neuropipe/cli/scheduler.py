"""Where Dask computes: on threads of this process, or on the scheduler that is named."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from neuropipe.errors import ConfigError

log = logging.getLogger(__name__)

NAMED = "NEUROPIPE_SCHEDULER"
WAIT_S = 30


@contextmanager
def scheduler() -> Iterator[None]:
    """Compute on the `dask.distributed` scheduler whose address NEUROPIPE_SCHEDULER holds.

    Without it, Dask's threads in this process are used. The workers must see the same folders.

    Raises
    ------
    ConfigError
        Nobody answers at the address.
    """
    address = os.environ.get(NAMED)
    if not address:
        yield
        return
    from distributed import Client

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
