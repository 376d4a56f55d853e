"""Checkpoints: whole or as before, of the same fit or unread, never unpickled."""

import errno
import os
import pickle

import pytest
import torch

from neuropipe.errors import ConfigError, NeuropipeError
from neuropipe.training.checkpoint import Checkpoint


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fit.pt"


def test_finished_stages_come_back_exactly(path):
    values = torch.rand(7, dtype=torch.float64)
    Checkpoint(path, "a").put("main", {"values": values, "trace": [1.5]}, done=True)
    again = Checkpoint(path, "a").get("main")
    assert torch.equal(again["values"], values)
    assert again["trace"] == [1.5]
    assert again["done"] is True
    assert Checkpoint(path, "a").get("other") is None


def test_progress_is_written_at_most_so_often(path):
    Checkpoint(path, "a").put("main", {"step": 1})
    assert not path.exists()
    eager = Checkpoint(path, "a", every_s=0.0)
    eager.put("main", {"step": 2})
    assert Checkpoint(path, "a").get("main") == {"step": 2, "done": False}


def test_another_fit_is_left_unread(path, caplog):
    Checkpoint(path, "a").put("main", {"step": 1}, done=True)
    assert Checkpoint(path, "b").get("main") is None
    assert "belongs to another fit" in caplog.text


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut short", None])
def test_a_damaged_file_means_a_fresh_start(path, damage, caplog):
    Checkpoint(path, "a").put("main", {"values": torch.zeros(99)}, done=True)
    path.write_bytes(path.read_bytes()[:-40] if damage is None else damage)
    assert Checkpoint(path, "a").get("main") is None
    assert "starts afresh" in caplog.text


def test_no_pickle_is_ever_loaded(path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(path) + ".trapped",)

    torch.save({"fingerprint": "a", "stages": Trap()}, path)
    assert Checkpoint(path, "a").get("main") is None
    path.write_bytes(pickle.dumps(Trap()))
    assert Checkpoint(path, "a").get("main") is None
    assert not os.path.exists(str(path) + ".trapped")


def test_a_full_disk_leaves_the_file_of_before(path, monkeypatch):
    kept = Checkpoint(path, "a")
    kept.put("first", {"step": 1}, done=True)

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NeuropipeError, match=r"checkpoint .*fit\.pt: No space left on device"):
        kept.put("second", {"step": 2}, done=True)
    again = Checkpoint(path, "a")
    assert again.get("first") == {"step": 1, "done": True}
    assert again.get("second") is None
    assert [p.name for p in path.parent.iterdir()] == ["fit.pt"]


def test_a_folder_that_is_not_there_is_told_before_the_work(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no folder .*none; make it first"):
        Checkpoint(tmp_path / "none" / "fit.pt", "a")


def test_without_a_path_nothing_is_written(tmp_path):
    kept = Checkpoint(None, "a")
    kept.put("main", {"step": 1}, done=True)
    assert kept.get("main") == {"step": 1, "done": True}
    assert not list(tmp_path.iterdir())
