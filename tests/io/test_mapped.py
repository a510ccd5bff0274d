"""Arrays whose files are replaced while they are read: where that can be done, and where a reader is in the way."""

import os

import numpy as np
import pytest

from vqseg.io import atomic, atomic_path, mapped
from vqseg.io.mapped import open_array

BEFORE, AFTER = np.arange(24, dtype=np.uint8).reshape(2, 3, 4), np.zeros((2, 3, 4), np.uint8)


@pytest.fixture
def file(tmp_path):
    np.save(tmp_path / "labels.npy", BEFORE)
    return tmp_path / "labels.npy"


def replace(file):
    with atomic_path(file) as temporary:
        np.save(temporary, AFTER)


class Blocked:
    """As Windows: a file that is open elsewhere cannot be replaced, for so many attempts."""

    def __init__(self, attempts):
        self.left, self.rename = attempts, os.replace

    def __call__(self, source, target):
        if self.left > 0:
            self.left -= 1
            raise PermissionError(13, "Access is denied")
        self.rename(source, target)


@pytest.mark.parametrize("blocked", [False, True], ids=["mapped", "read"])
def test_an_array_stays_as_it_was_when_its_file_is_replaced(file, monkeypatch, blocked):
    monkeypatch.setattr(mapped, "BLOCKED_BY_READERS", blocked)
    array = open_array(file)
    assert isinstance(array, np.memmap) is not blocked, "nothing is kept open where that is in the way"
    array[0, 0, 0] = 99
    assert np.array_equal(np.load(file), BEFORE)
    replace(file)
    assert array[0, 0, 0] == 99
    assert np.array_equal(array.ravel()[1:], BEFORE.ravel()[1:])
    assert np.array_equal(open_array(file), AFTER)


def test_what_replaces_a_file_waits_for_its_readers(file, monkeypatch):
    monkeypatch.setattr(atomic, "BLOCKED_BY_READERS", True)
    monkeypatch.setattr(os, "replace", Blocked(3))
    replace(file)
    assert np.array_equal(np.load(file), AFTER)
    assert os.listdir(file.parent) == ["labels.npy"]


@pytest.mark.parametrize("blocked", [False, True], ids=["a right that is missing", "a reader that stays"])
def test_what_cannot_replace_a_file_says_so_and_leaves_it(file, monkeypatch, blocked):
    rename = Blocked(1000)
    monkeypatch.setattr(atomic, "BLOCKED_BY_READERS", blocked)
    monkeypatch.setattr(atomic, "REPLACED_WITHIN_S", 0.1)
    monkeypatch.setattr(os, "replace", rename)
    with pytest.raises(PermissionError):
        replace(file)
    assert (rename.left < 999) is blocked, "no waiting where no reader can be in the way"
    assert np.array_equal(np.load(file), BEFORE)
    assert os.listdir(file.parent) == ["labels.npy"]
