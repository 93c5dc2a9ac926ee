"""Jobs here, in processes and on a cluster: all end; what the machine has failed is tried again."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import laws
import psutil
import pytest
from jobs import dies, process_id, raises, square, threads

from sdml import workers
from sdml.simulation.guard import OutsideTrainedRange

pytestmark = pytest.mark.slow
HERE, PROCESSES = {"n_workers": 1}, {"n_workers": 2, "n_threads": 3}


def wait_for(condition: Callable[[], object]) -> None:
    """At most a minute."""
    limit = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit, "waited too long"
        time.sleep(0.05)


@contextmanager
def cluster():
    """Arguments for a scheduler of two workers."""
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options, host="127.0.0.1") as local:
        yield {"scheduler": local.scheduler_address}


@pytest.fixture(scope="module", params=["here", "processes", "cluster"])
def place(request):
    """Arguments of every way to run jobs."""
    if request.param == "cluster":
        with cluster() as arguments:
            yield arguments
    else:
        yield HERE if request.param == "here" else PROCESSES


def test_every_job_gives_its_result(place):
    jobs = {f"job {x}": partial(square, x) for x in range(5)}
    assert dict(workers.run(jobs, **place)) == {f"job {x}": x * x for x in range(5)}
    assert dict(workers.run({}, **place)) == {}


def test_a_failed_job_is_tried_once_more(place, tmp_path):
    job = partial(raises, tmp_path / "x", 1, OSError)
    assert dict(workers.run({"x": job}, **place)) == {"x": 2}


def test_a_job_that_fails_twice_is_named_and_the_others_end(place, tmp_path):
    jobs = {"bad": partial(raises, tmp_path / "x", 9, OSError), "good": partial(square, 3)}
    results = []
    with pytest.raises(workers.JobError, match=r"1 of 2 jobs failed: bad \(OSError\('not now'"):
        results.extend(workers.run(jobs, **place))
    assert results == [("good", 9)]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "error", [ValueError, FloatingPointError, OutsideTrainedRange, RuntimeError]
)
def test_what_a_job_would_raise_again_is_told_by_name_and_not_tried(place, tmp_path, error):
    jobs = {"bad": partial(raises, tmp_path / "x", 9, error), "good": partial(square, 3)}
    told = []
    expected = ValueError if error is ValueError else workers.JobError
    with pytest.raises(expected, match=r"bad.*not now"):
        list(workers.run(jobs, **place, failed=lambda name, cause: told.append((name, cause))))
    ((name, cause),) = told
    assert (name, type(cause), str(cause)) == ("bad", error, "not now")
    assert len(list(tmp_path.iterdir())) == 1


def test_a_failure_is_told_at_once():
    told = []
    jobs = {"bad": partial(int, "x"), "good": partial(square, 3)}
    with pytest.raises(ValueError, match="bad"):
        for name, _ in workers.run(jobs, failed=lambda name, cause: told.append(name)):
            told.append(name)
    assert told == ["bad", "good"]


def test_a_process_that_dies_takes_only_its_job_along(tmp_path):
    jobs = {f"job {x}": partial(square, x) for x in range(5)}
    jobs |= {"once": partial(dies, tmp_path / "once", 1)}
    found = dict(workers.run(jobs, **PROCESSES))
    assert found.pop("once") == "survived"
    assert found == {f"job {x}": x * x for x in range(5)}
    with pytest.raises(workers.JobError, match="always"):
        list(workers.run({"always": partial(dies, tmp_path / "always", 9), **jobs}, **PROCESSES))


def test_a_process_serves_one_job_after_the_other_and_ends():
    run = workers.run({f"job {x}": process_id for x in range(6)}, **PROCESSES)
    _, first = next(run)
    assert psutil.pid_exists(first)
    served = {first, *(process for _, process in run)}
    assert len(served) <= 2
    assert not any(map(psutil.pid_exists, served))


def test_a_killed_run_leaves_no_process_behind(tmp_path):
    code = (
        "import sys; from functools import partial; from pathlib import Path; "
        "from jobs import waits; from sdml import workers; "
        "list(workers.run({'a': partial(waits, Path(sys.argv[1]))}, n_workers=2))"
    )
    search = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    marker = tmp_path / "process"
    parent = subprocess.Popen(
        [sys.executable, "-c", code, marker], env={**os.environ, "PYTHONPATH": search}
    )
    wait_for(lambda: marker.exists() and marker.read_text())
    child = int(marker.read_text())
    assert psutil.pid_exists(child)
    parent.kill()
    parent.wait()
    wait_for(lambda: not psutil.pid_exists(child))


def test_processes_get_their_share_of_the_cores(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = threads()
    assert dict(workers.run({"a": threads}, **PROCESSES))["a"] == ["3"] * 4
    share = str(max(1, (os.cpu_count() or 1) // 2))
    assert dict(workers.run({"a": threads}, n_workers=2))["a"] == [share] * 4
    assert threads() == before


def test_one_worker_is_this_process():
    assert dict(workers.run({"a": process_id}))["a"] == os.getpid()
    assert dict(workers.run({"a": process_id}, n_workers=2))["a"] != os.getpid()


def test_a_cluster_without_its_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    run = partial(workers.run, {"a": process_id}, scheduler="tcp://127.0.0.1:1")
    laws.assert_refused(lambda: list(run()), "scheduler", "distributed", "cluster")


def test_a_scheduler_that_does_not_answer_is_named():
    pytest.importorskip("distributed")
    run = partial(workers.run, {"a": process_id}, scheduler="tcp://127.0.0.1:1")
    laws.assert_refused(lambda: list(run()), "scheduler", "tcp://127.0.0.1:1")


def test_no_workers_are_refused():
    laws.assert_refused(lambda: list(workers.run({"a": process_id}, n_workers=0)), "workers", 0)
