"""Frames for ParaView: what meshio reads back is what the store holds."""

import sys
from pathlib import Path
from xml.etree import ElementTree

import h5py
import meshio
import numpy as np
import pytest

from sdml import cli, dataset, dynamics, forcefield, lattice, observables, simulation, spins
from sdml.forcefield import committee
from sdml.model import SDModel

LATTICE = lattice.triangular(4, 6)
EQUATION = dynamics.LandauLifshitz(dt=0.5, damping=0.2)


def run(path: Path, sites=LATTICE, seed=1, n_steps=4, save_every=1, **settings) -> simulation.Run:
    """A run in a uniform field, with the sites' z components as if they were densities."""
    start = spins.random(sites.n_sites, 0)
    if isinstance(seed, list):
        start = np.stack([spins.random(sites.n_sites, k) for k in seed])
    observed = {"density": lambda sites, s: 1 + s[..., 2], "mean": lambda sites, s: s.mean()}
    return simulation.quench(
        path,
        sites,
        start,
        lambda s: s.new_tensor([0.0, 0.0, 1.0]).expand(s.shape),
        EQUATION,
        n_steps,
        save_every,
        seed=seed,
        observables=observed,
        progress=False,
        **settings,
    )


def series(path: Path) -> list[tuple[float, meshio.Mesh]]:
    """Times and meshes of a .pvd, as ParaView looks for them: beside it."""
    root = ElementTree.parse(path).getroot()
    assert (root.tag, root.get("type"), root[0].tag) == ("VTKFile", "Collection", "Collection")
    rows = [(float(entry.get("timestep")), path.parent / entry.get("file")) for entry in root[0]]
    return [(time, meshio.read(file)) for time, file in rows]


def assert_shown(found, sites, time, states, density=None):
    """Points, spins, density and chirality of all frames."""
    assert [when for when, _ in found] == list(time)
    for (_, mesh), s, k in zip(found, states, range(len(states)), strict=True):
        np.testing.assert_allclose(mesh.points[:, :2], sites.positions, atol=1e-12)
        assert not mesh.points[:, 2].any()
        np.testing.assert_array_equal(mesh.cells_dict["vertex"][:, 0], np.arange(sites.n_sites))
        np.testing.assert_array_equal(mesh.point_data["spins"], s)
        names = {"spins"} | ({"chirality"} if sites.triangles else set())
        if sites.triangles:
            chirality = observables.site_chirality(sites, s)
            np.testing.assert_allclose(mesh.point_data["chirality"], chirality, atol=1e-6)
        if density is not None:
            np.testing.assert_allclose(mesh.point_data["density"], density[k], atol=1e-6)
            names.add("density")
        assert set(mesh.point_data) == names


def test_a_run(tmp_path, capsys):
    made = run(tmp_path / "run & more.h5", frames_every=2)
    assert cli.main(["export", str(tmp_path / "run & more.h5"), "--vtk"]) == 0
    target = tmp_path / "run & more.pvd"
    assert capsys.readouterr().out == f"wrote {target}\n"
    assert_shown(series(target), LATTICE, [0, 1, 2], made.frames, made.observables["density"][::2])
    assert simulation.load(tmp_path / "run & more.h5").step == 4


def test_a_batch_is_a_series_a_seed(tmp_path):
    made = run(tmp_path / "run.h5", seed=[3, 7], n_steps=2)
    output = tmp_path / "new" / "shown.pvd"
    assert cli.main(["export", str(tmp_path / "run.h5"), "--vtk", "--output", str(output)]) == 0
    for b, seed in enumerate((3, 7)):
        found = series(output.with_name(f"shown_{seed}.pvd"))
        values = made.observables["density"][:, b]
        assert_shown(found, LATTICE, [0, 0.5, 1], made.frames[:, b], values)


def test_numbers_in_names_keep_series_apart(tmp_path):
    run(tmp_path / "run.h5", n_steps=1)
    for name in ("out_0.05", "out_0.10"):
        options = ["--vtk", "--output", str(tmp_path / name)]
        assert cli.main(["export", str(tmp_path / "run.h5"), *options]) == 0
        assert (tmp_path / f"{name}.pvd").is_file() and (tmp_path / name).is_dir()


def test_observables_of_other_times_are_left_out(tmp_path):
    made = run(tmp_path / "run.h5", frames_every=4, n_steps=8, save_every=(0, 8))
    assert cli.main(["export", str(tmp_path / "run.h5"), "--vtk"]) == 0
    assert_shown(series(tmp_path / "run.pvd"), LATTICE, [0, 2, 4], made.frames)


def test_a_lattice_without_triangles_has_no_chirality(tmp_path):
    sites = lattice.from_cell(((1, 0), (0, 2)), ((0, 0), (0.5, 0.5)), (3, 4))
    made = run(tmp_path / "run.h5", sites, n_steps=1)
    assert cli.main(["export", str(tmp_path / "run.h5"), "--vtk"]) == 0
    values = made.observables["density"]
    assert_shown(series(tmp_path / "run.pvd"), sites, [0, 0.5], made.frames, values)


@pytest.mark.parametrize("dense", [True, False])
def test_labelled_snapshots_with_and_without_density(tmp_path, dense):
    model = SDModel(lattice.square(4), 6.0, 0.485, electron_kT=0.05)
    quenches = [dataset.quench(model, EQUATION, (0, 1), seed) for seed in (5, 6)]
    data = dataset.join(quenches if dense else [quenches[0]])
    if not dense:
        data = dataset.from_arrays(
            model, data.spins, data.local_field, data.energy, trajectory=[5, 5], time=data.time
        )
    dataset.save(data, tmp_path / "labels.h5")
    assert cli.main(["export", str(tmp_path / "labels.h5"), "--vtk"]) == 0
    for own in quenches if dense else quenches[:1]:
        name = f"labels_{own.trajectory[0]}.pvd" if dense else "labels.pvd"
        values = own.density if dense else None
        assert_shown(series(tmp_path / name), model.lattice, [0, 1], own.spins, values)


@pytest.mark.parametrize("options", [(), ("--committee",)])
def test_a_run_of_a_grand_canonical_force_field_can_keep_its_density(tmp_path, options):
    store = tmp_path / "run.h5"
    fixed = "--force-field square --length 12 --steps 1 --observables density --output".split()
    assert cli.main(["quench", *fixed, str(store), *options]) == 0
    assert cli.main(["export", str(store), "--vtk"]) == 0
    frames = simulation.load(store).frames
    networks = committee.load("square").members if options else [forcefield.load("square")]
    density = np.mean([network.density(frames) for network in networks], axis=0)
    assert_shown(series(tmp_path / "run.pvd"), lattice.square(12), [0, 0.5], frames, density)


def refused(capsys, *options: str) -> str:
    assert cli.main(["export", *options]) == 2
    return capsys.readouterr().err


def test_bad_input_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "text.h5").write_text("spins")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["spins"] = np.zeros((2, 16, 3))
    for name in ("missing.h5", "text.h5", "foreign.h5"):
        assert name in refused(capsys, str(tmp_path / name), "--vtk")
    store = str(tmp_path / "run.h5")
    run(tmp_path / "run.h5", n_steps=1)
    assert "--vtk: needed" in refused(capsys, store)
    output = ["--output", str(tmp_path / "text.h5" / "run.pvd")]
    assert "--output" in refused(capsys, store, "--vtk", *output)
    monkeypatch.setitem(sys.modules, "meshio", None)
    assert "pip install 'sdml[vtk]'" in refused(capsys, store, "--vtk")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["foreign.h5", "run.h5", "text.h5"]
