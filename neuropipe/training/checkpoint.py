"""Progress of a fit on disk: written atomically, resumed exactly, never unpickled."""

from __future__ import annotations

import io
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import torch

from neuropipe.errors import ConfigError, Interrupted, NeuropipeError
from neuropipe.training.processes import anyone, is_first

log = logging.getLogger(__name__)

# Set by the command line when the process is asked to end: progress is then written, and it ends.
STOP = threading.Event()


class Checkpoint:
    """Named stages of a fit, each with its tensors; a disk-less one when `path` is None.

    Of several processes all read, the first one writes, and all end when one is asked to.

    Parameters
    ----------
    path : Path or None
        File to keep; its folder must exist. Outside of a rule's declared outputs, so that a
        failed job does not lose it.
    fingerprint : str
        What the fit depends on (data and parameters). A file of another fit is left unread.
    every_s : float
        At most one write in so many seconds, finished stages apart.
    """

    def __init__(self, path: Path | None, fingerprint: str, every_s: float = 20.0) -> None:
        self.path = path
        self.fingerprint = fingerprint
        self.every_s = every_s
        self.stages: dict[str, dict[str, Any]] = {}
        self._written = time.monotonic()
        if path is not None and not path.parent.is_dir():  # found out before the work, not after
            raise ConfigError(f"checkpoint {path}: there is no folder {path.parent}; make it first")
        if path is not None and path.exists():
            self._read(path)

    def _read(self, path: Path) -> None:
        try:
            saved = torch.load(path, weights_only=True, map_location="cpu")
        except Exception as error:  # any damage to the file means: start afresh, and say so
            log.warning("checkpoint %s is unreadable (%s); the fit starts afresh", path, error)
            return
        if saved.get("fingerprint") != self.fingerprint:
            log.warning("checkpoint %s belongs to another fit; the fit starts afresh", path)
            return
        self.stages = saved["stages"]
        log.info("checkpoint %s: resuming after %s", path.name, ", ".join(self.stages) or "nothing")

    def get(self, stage: str) -> dict[str, Any] | None:
        """Return what was kept of a stage, or None."""
        return self.stages.get(stage)

    def due(self) -> bool:
        """Return whether `put` would write now, so that nothing is gathered in vain."""
        late = self.path is not None and time.monotonic() - self._written > self.every_s
        return anyone(late or STOP.is_set())

    def put(self, stage: str, state: dict[str, Any], *, done: bool = False) -> None:
        """Keep a stage; a finished one is written at once.

        Parameters
        ----------
        stage : str
            Its name.
        state : dict
            Tensors, numbers and text only.
        done : bool
            Whether the stage is finished.

        Raises
        ------
        NeuropipeError
            If the disk is full; the file of before is then still whole.
        Interrupted
            After writing, when the process has been asked to end.
        """
        self.stages[stage] = {**state, "done": done}
        if (done or self.due()) and self.path is not None:
            if is_first():
                self._write(self.path)
            self._written = time.monotonic()
        if anyone(STOP.is_set()):
            raise Interrupted(
                f"asked to end; the fit's progress is in {self.path or 'no file'}, and the same "
                "command goes on from there"
            )

    def _write(self, path: Path) -> None:
        # through memory: torch's own writer meets a full disk with an error that names no cause
        content = io.BytesIO()
        torch.save({"fingerprint": self.fingerprint, "stages": self.stages}, content)
        part = path.with_name(f"{path.name}.part")
        try:
            with part.open("wb") as stream:
                stream.write(content.getbuffer())
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(part, path)
        except OSError as error:
            raise NeuropipeError(
                f"checkpoint {path}: {error.strerror or error} while writing; what it held "
                "before is whole; free some space and run again"
            ) from error
        finally:
            part.unlink(missing_ok=True)
