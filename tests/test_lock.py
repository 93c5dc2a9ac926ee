"""The lock beside a file: one holder at a time, none once its process is gone, no litter."""

import errno
import fcntl
import multiprocessing
import os
import threading
import time

import laws
import pytest

from sdml.simulation import lock


def test_one_holds_it_at_a_time(tmp_path):
    path = tmp_path / "run.h5"
    with lock.held(path), lock.held(tmp_path / "other.h5"):
        assert (tmp_path / "run.h5.lock").exists()
        assert not list(tmp_path.glob("*.h5")), "globs of stores must not find it"

        def again():
            with lock.held(path):
                pass

        laws.assert_refused(again, "path", "run.h5", "another process")
    assert os.listdir(tmp_path) == []
    again()


def test_an_error_in_the_body_gives_it_back(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyError), lock.held(tmp_path / "below" / "run.h5"):
            raise KeyError
    assert os.listdir(tmp_path / "below") == []


def hold(path):
    with lock.held(path):
        path.touch()
        time.sleep(600)


def test_a_killed_process_holds_nothing(tmp_path):
    path = tmp_path / "run.h5"
    process = multiprocessing.get_context("forkserver").Process(target=hold, args=(path,))
    process.start()
    while not path.exists():
        assert process.is_alive()
        time.sleep(1e-3)
    with pytest.raises(ValueError, match="another process"), lock.held(path):
        pass
    process.kill()
    process.join()
    assert (tmp_path / "run.h5.lock").exists()
    with lock.held(path):
        pass
    assert os.listdir(tmp_path) == ["run.h5"]


def test_a_lock_is_swept_only_if_nobody_holds_it(tmp_path):
    path = tmp_path / "run.h5"
    lock.sweep(path)
    assert os.listdir(tmp_path) == []
    with lock.held(path):
        lock.sweep(path)
        assert os.listdir(tmp_path) == ["run.h5.lock"]
    (tmp_path / "run.h5.lock").touch()
    lock.sweep(path)
    assert os.listdir(tmp_path) == []


def test_nobody_slips_in_while_the_lock_file_is_deleted(tmp_path):
    """A count that is read and written again under the lock misses no one."""
    path, turns, threads = tmp_path / "count", 100, 4
    path.write_text("0")

    def count():
        done = 0
        while done < turns:
            try:
                with lock.held(path):
                    found = int(path.read_text())
                    time.sleep(0)
                    path.write_text(str(found + 1))
                done += 1
            except ValueError as refused:
                assert "another process" in str(refused)

    running = [threading.Thread(target=count) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert path.read_text() == str(turns * threads)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_written_all_the_same(tmp_path, monkeypatch, number):
    def missing(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", missing)
    with lock.held(tmp_path / "run.h5"):
        assert os.listdir(tmp_path) == ["run.h5.lock"]
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with (
        pytest.raises(OSError, match=r"cannot be made or written.*run\.h5\.lock"),
        lock.held(tmp_path / "file" / "run.h5"),
    ):
        pass

    def refused(file, operation):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(fcntl, "flock", refused)
    with (
        pytest.raises(PermissionError, match=r"cannot be made or written.*run\.h5\.lock"),
        lock.held(tmp_path / "run.h5"),
    ):
        pass
