"""Who made a fit, from what and with what, and what it cost."""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import importlib.util
import json
import platform
import resource
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Any

import neuropipe
from neuropipe.config import parameters_class


class Meter:
    """Time, memory and energy that this process takes from now on.

    Parameters
    ----------
    card : bool
        Whether a CUDA card will be used.
    """

    def __init__(self, *, card: bool) -> None:
        self._card = card
        self._seconds = time.monotonic()
        self._cpu = _cpu_seconds()
        self._joules = card_energy_j() if card else None

    def read(self) -> dict[str, Any]:
        """Return what was taken so far.

        Returns
        -------
        dict
            ``seconds``; ``cpu_seconds`` of all threads; ``peak_memory_bytes`` of the process's
            whole life. Where a card was used: ``gpu``, its name, ``gpu_peak_memory_bytes``, and
            ``gpu_energy_j``, that of the card and all who used it; each None where unknown.
        """
        import torch

        used = self._card and torch.cuda.max_memory_allocated() > 0
        joules = card_energy_j() if used else None
        return {
            "seconds": round(time.monotonic() - self._seconds, 3),
            "cpu_seconds": round(_cpu_seconds() - self._cpu, 3),
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "gpu": torch.cuda.get_device_name() if used else None,
            "gpu_peak_memory_bytes": torch.cuda.max_memory_allocated() if used else None,
            "gpu_energy_j": (
                round(joules - self._joules, 1)
                if joules is not None and self._joules is not None
                else None
            ),
        }


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def card_energy_j() -> float | None:
    """Return the energy that the current card has taken since its driver was loaded, J.

    None where the card or its driver does not count; NVML does from Volta on.
    """
    import torch

    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    name = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
    uuid = name if name.startswith("GPU-") else f"GPU-{name}"
    handle, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()
    if nvml.nvmlInit_v2() != 0:
        return None
    try:
        failed = nvml.nvmlDeviceGetHandleByUUID(
            uuid.encode(), ctypes.byref(handle)
        ) or nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules))
        return None if failed else millijoules.value / 1000
    finally:
        nvml.nvmlShutdown()


@cache
def code_version() -> dict[str, str | None]:
    """Return what code this is: ``version``, ``sha256`` of its files, and git's ``commit``.

    The commit is None outside of a repository; ``-dirty`` behind it says that files were changed.
    """
    root = Path(neuropipe.__file__).parent
    kernels = importlib.util.find_spec("neuropipe_kernels")
    found = kernels.submodule_search_locations if kernels else None
    folders = [root, *map(Path, found or [])]
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{folder.name}/{path.relative_to(folder)}\0".encode())
            digest.update(path.read_bytes())
    commit = None
    if (root.parent / ".git").exists():
        words = ["git", "-C", str(root.parent), "describe", "--always", "--dirty", "--abbrev=40"]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
            commit = done.stdout.strip() or None
        except (OSError, subprocess.TimeoutExpired):
            commit = None
    return {"version": neuropipe.__version__, "sha256": digest.hexdigest(), "commit": commit}


def provenance(
    estimator: str, settings: dict[str, Any], seed: int, inputs: dict[str, str], meter: Meter,
    *, resumed: bool, processes: int = 1,
) -> dict[str, Any]:  # fmt: skip
    """Return who, what, when and with what a fit was made.

    Parameters
    ----------
    estimator, settings, seed
        Of the fit.
    inputs : mapping of store to sha256 of its content
    meter : Meter
        Begun with the fit.
    resumed : bool
        Whether it went on from a checkpoint: its time is then that of the last attempt alone.
    processes : int
        That shared the fit; time and memory are those of the first one.
    """
    import torch

    revision = importlib.import_module(parameters_class(estimator).__module__).REVISION
    return {
        "estimator": estimator,
        "settings": settings,
        "settings_sha256": sha256_of_json(settings),
        "seed": seed,
        "inputs_sha256": inputs,
        "resumed": resumed,
        "processes": processes,
        **meter.read(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "host": platform.node(),
        "code": {**code_version(), "revision": revision},
        "versions": {
            "neuropipe": neuropipe.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
    }


def sha256_of_json(content: Any) -> str:
    """Return the hash of anything that JSON holds; equal content, equal hash."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
