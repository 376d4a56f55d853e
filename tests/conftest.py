"""What all tests need before anything is imported: the interpreter, quiet threads, the data."""

import os
from pathlib import Path

import pytest


def _has_cuda() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*"))


if not _has_cuda():
    # triton reads this when it is imported, so it is set before any test module is
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Workers of pytest-xdist share few cores: one thread of torch each."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of small real recordings, from NEUROPIPE_TEST_DATA; skips when it is unset."""
    folder = os.environ.get("NEUROPIPE_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("NEUROPIPE_TEST_DATA is unset or names no folder of recordings")
    return Path(folder)
