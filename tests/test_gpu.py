"""The one command for a GPU, at toy size, and torch paths on a device that is not the CPU."""

import importlib
import math

import pytest
import torch
from accelerator import DEVICE, Accelerator

from sdml import files
from sdml.companion import results


@pytest.fixture(scope="module")
def gpu():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(files.root() / "benchmarks"))
        yield importlib.import_module("gpu")


@pytest.fixture(scope="module")
def finished(gpu, tmp_path_factory):
    """The folder of all pieces at toy size."""
    folder = tmp_path_factory.mktemp("gpu")
    assert gpu.main(["--device", "cpu", "--toy", "--output", str(folder)]) == 0
    return folder


def rows_of(folder, piece):
    return {row["name"]: row for row in files.loaded(folder / f"{piece}.json")["rows"]}


def test_every_path_agrees_with_itself_on_the_cpu(gpu, finished):
    rows = rows_of(finished, "correctness")
    assert list(rows) == [name for name, _ in gpu.device_paths.paths()]
    assert all(row["passed"] for row in rows.values())
    apart = {name for name, row in rows.items() if row["difference"] > 0}
    assert apart == {"noise of free spins"}, "one call twice gives the same bits"


def test_costs_and_steps_are_of_all_engines_and_lattices(gpu, finished):
    costs, steps = rows_of(finished, "costs").values(), rows_of(finished, "steps").values()
    known = {(engine, kind) for engine in gpu.FIELDS for kind in gpu.device_paths.KINDS}
    assert {(row["engine"], row["kind"]) for row in costs} == known
    assert all(row["seconds"] > 0 and row["products"] > 0 for row in costs)
    assert [row["kind"] for row in steps] == list(gpu.device_paths.KINDS)
    assert all(row["spin_steps_per_s"] > 0 for row in steps)


def test_growth_holds_lengths_and_maps_of_each_damping(gpu, finished):
    rows = rows_of(finished, "growth")
    assert {row["damping"] for row in rows.values()} == set(gpu.DAMPINGS)
    with gpu.h5py.File(finished / "growth.h5") as file:
        for name, row in rows.items():
            assert row["time"][0] == 0 and row["time"][-1] == gpu.TOY_GROWTH[1]
            assert len(row["lengths"]) == len(row["time"])
            assert all(0.5 < wall < 12 for wall, *_ in row["lengths"])
            scale = importlib.import_module("stores").FULL_SCALE / 127
            chirality = file[name]["chirality"][()] * scale
            assert abs(abs(chirality[0]).mean() - row["chirality"][0]) < 5e-3


def test_what_comes_back_is_little_and_says_where_it_comes_from(gpu, finished):
    found = [path for path in finished.iterdir() if not path.name.startswith(".")]
    assert {path.name for path in found} == {f"{piece}.json" for piece in gpu.PIECES} | {
        "growth.h5"
    }
    assert all(path.stat().st_size < 2**24 for path in found)
    for piece in gpu.PIECES:
        origin = files.loaded(finished / f"{piece}.json")["origin"]
        assert origin["toy"] and "CPU" in origin["device"] and origin["versions"]["torch"]


def test_a_second_call_measures_nothing_anew(gpu, finished, capsys):
    before = {path: path.stat().st_mtime_ns for path in finished.iterdir()}
    assert gpu.main(["--toy", "--device", "cpu", "--output", str(finished)]) == 0
    assert capsys.readouterr().out.count(" 0 rows measured") == len(gpu.PIECES)
    assert {path: path.stat().st_mtime_ns for path in finished.iterdir()} == before
    with pytest.raises(ValueError, match="another folder, or --again"):
        gpu.main(["steps", "--device", "cpu", "--output", str(finished)])


def test_a_failed_path_is_recorded_and_the_others_go_on(gpu, tmp_path, monkeypatch):
    def broken(device, sizes):
        raise RuntimeError("no kernel image is available")

    paths = {
        "broken": (broken, 1.0),
        "apart": (lambda device, sizes: ({"x": torch.ones(2)}, {"x": torch.ones(2) * 1.1}), 0.01),
        "nan": (lambda device, sizes: ({"x": [1.0]}, {"x": [math.nan]}), 1.0),
        "fine": (lambda device, sizes: ({"x": [2.0, -2.0]}, {"x": [2.0, -2.0001]}), 1e-4),
    }
    made = {name: gpu.device_paths.Compared(*path) for name, path in paths.items()}
    monkeypatch.setattr(gpu.device_paths, "paths", made.items)
    assert gpu.main(["correctness", "--toy", "--output", str(tmp_path)]) == 1
    rows = rows_of(tmp_path, "correctness")
    assert [row["passed"] for row in rows.values()] == [False, False, False, True]
    assert "no kernel image" in rows["broken"]["error"]
    assert rows["apart"]["difference"] == pytest.approx(0.1)
    assert rows["fine"]["difference"] == pytest.approx(5e-5)


def test_a_piece_stops_in_time_and_goes_on_bit_for_bit(gpu, finished, tmp_path, monkeypatch):
    call = ["growth", "--toy", "--device", "cpu", "--output", str(tmp_path)]

    def at_once(sheet, name):
        def report(step):
            if step == 2:
                raise gpu.TimeIsUpError

        return report

    with monkeypatch.context() as patch:
        patch.setattr(gpu, "stopping", at_once)
        assert gpu.main(call) == 0
    assert not (tmp_path / "growth.json").exists() and list(tmp_path.glob("main_12_*.h5"))
    assert gpu.main([*call, "--minutes", "0"]) == 0
    assert not (tmp_path / "growth.json").exists()
    assert gpu.main(call) == 0
    for name, row in rows_of(finished, "growth").items():
        again = rows_of(tmp_path, "growth")[name]
        assert {k: v for k, v in again.items() if k != "seconds"} == {
            k: v for k, v in row.items() if k != "seconds"
        }
    assert not list(tmp_path.glob("main_12_*"))


FOREIGN = [
    "exact triangular",
    "exact square",
    "kpm triangular coloured float64",
    "kpm square random-plain float32",
    "network triangular float32",
    "network square float32",
    "network triangular symmetry",
    "network square raw",
    "committee triangular",
    "observables triangular",
    "observables square",
    "steps midpoint with noise",
    "steps adams with noise",
    "noise of a batch",
]


@pytest.mark.parametrize("name", FOREIGN)
def test_torch_paths_work_on_another_device(gpu, name):
    """The torch recursions agree with the compiled ones, and no tensor stays behind on the CPU."""
    path = dict(gpu.device_paths.paths())[name]
    with Accelerator():
        pair = path.pair(DEVICE, gpu.TOY_SIZES)
        found = gpu.device_paths.difference(*pair)
    assert found <= path.tolerance


def test_the_other_device_refuses_what_a_gpu_refuses():
    with Accelerator():
        there, here = torch.ones(3, device=DEVICE), torch.ones(3)
        assert float((there * 2).sum()) == 6
        for mixed in (lambda: there + here, lambda: here[there.long()], lambda: there.numpy()):
            with pytest.raises((RuntimeError, TypeError)):
                mixed()
        assert torch.equal(there.cpu(), here)


def test_an_origin_names_the_device_that_was_asked_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"a GPU, {device}")
    assert "CPU" in results.measured_origin()["device"]
    assert "CPU" in results.origin()["device"]
    assert results.measured_origin("cuda:0")["device"] == "a GPU, cuda:0"
