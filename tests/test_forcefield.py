"""The force field: symmetric energy, its gradient, files, other lattices, released weights."""

import functools
import json
import os
from dataclasses import replace

import laws
import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from sdml import dataset, dynamics, evaluation, files, forcefield, lattice, spins
from sdml.descriptor import SymmetryEnvironment
from sdml.descriptor.moments import MomentEnvironment
from sdml.descriptor.raw import RawBondEnvironment
from sdml.forcefield import ForceField, equilibration, network
from sdml.model import SDModel

ENVIRONMENTS = {
    "square symmetry": SymmetryEnvironment("square", bond_radius=2.3, pair_radius=1.5),
    "triangular symmetry": SymmetryEnvironment("triangular", bond_radius=2.0, pair_radius=1.0),
    "square moments": MomentEnvironment("square", radius=2, n_steps=4, exchange_coupling=3.0),
    "triangular moments": MomentEnvironment("triangular", 2, 3, exchange_coupling=3.0),
    "square raw": RawBondEnvironment("square", bond_radius=2.0, pair_radius=1.5),
    "triangular raw": RawBondEnvironment("triangular", bond_radius=1.8, pair_radius=1.0),
}
GRAND = ["square moments, grand", "triangular moments, grand", "triangular symmetry, grand"]
CANONICAL = list(ENVIRONMENTS)
RELEASED = ["triangular", "square"]
ENVIRONMENT_OF_OTHER_SIZE = {
    "type": "MomentEnvironment",
    "kind": "square",
    "radius": 2,
    "n_steps": 3,
    "exchange_coupling": 3.0,
}
STATE = spins.random(49, seed=0)
ANISOTROPY = {"zeeman": (0.3, -0.2, 0.5), "easy_axis": 0.4}
every_field = pytest.mark.parametrize("name", CANONICAL + GRAND)
every_canonical_field = pytest.mark.parametrize("name", CANONICAL)
every_grand_field = pytest.mark.parametrize("name", GRAND)


def random_force_field(name, **terms):
    """Random weights and scales of a random data set, in double precision."""
    environment, grand = ENVIRONMENTS[name.partition(",")[0]], name in GRAND
    model = SDModel(getattr(lattice, environment.kind)(7), 3.0, 0.25, electron_kT=0.05, **terms)
    ff = ForceField(model, environment, (8,) if grand else (8, 4), 1, grand)
    rng = np.random.default_rng(2)
    states = spins.random(4 * 49, rng).reshape(4, 49, 3)
    energies, longitudinal = rng.normal(-120, 2, 4), rng.normal(1.2, 0.1, (4, 49))
    labels = (states, energies, longitudinal, rng.uniform(-3, -1, 4))
    ff.standardize(*map(torch.as_tensor, labels))
    if grand:
        let_density_grow(ff)
    ff.card = {"note": "random weights", "errors": {"torque_r2": 0.0}}
    return ff.double()


def let_density_grow(ff):
    """Two hidden units make omega concave in mu, as the potential of electrons is."""
    first, last = ff.network[0], ff.network[-1]
    with torch.no_grad():
        first.weight[0, -1] = 1
        first.weight[1], first.bias[1] = -first.weight[0], -first.bias[0]
        last.weight[0, :2] = -5


def symmetries(ff):
    """Raw products know translations and rotations only."""
    lat = ff.model.lattice
    if isinstance(ff.descriptor.environment, RawBondEnvironment):
        return laws.translations(lat) + laws.spin_rotations(lat)[:2]
    return laws.symmetries(lat)


@every_field
def test_energy_and_field_have_the_symmetries_of_the_model(name):
    ff = random_force_field(name)
    moves, offset = symmetries(ff), ff.energy(spins.ferromagnetic(ff.model.lattice))
    laws.assert_invariant(lambda s: ff.energy(s) - offset, STATE, moves, rtol=1e-10)
    laws.assert_equivariant(ff.local_field, STATE, moves, rtol=1e-10)
    laws.assert_site_invariant(lambda s: ff.local_energies(s)[:, None], STATE, moves, rtol=1e-10)


@every_field
@pytest.mark.parametrize("terms", [{}, ANISOTROPY], ids=["bare", "anisotropy"])
def test_field_is_minus_the_gradient(name, terms):
    """Of a grand-canonical force field too, although mu follows from the spins."""
    ff = random_force_field(name, **terms)
    laws.assert_field_is_gradient(ff.energy, ff.local_field, STATE)
    laws.assert_transverse_field_is_gradient(ff.energy, ff.local_field, STATE, atol=1e-7)


@every_field
def test_field_is_minus_the_gradient_off_the_sphere(name):
    """Of a grand-canonical force field at a fixed mu: E is stationary in mu on unit spins only."""
    ff = random_force_field(name, **ANISOTROPY)
    mu = torch.tensor([-2.1], dtype=torch.float64) if ff.grand_canonical else None
    lengths = np.random.default_rng(0).uniform(0.7, 1.3, (49, 1))
    laws.assert_field_is_gradient(
        lambda s: ff(torch.as_tensor(s), mu).detach().numpy(),
        lambda s: ff.field(torch.as_tensor(s), mu=mu).numpy(),
        lengths * STATE,
        step=1e-5,
    )


@every_field
def test_energy_is_the_sum_over_sites_and_the_exact_anisotropy(name):
    bare, full = (random_force_field(name, **terms) for terms in ({}, ANISOTROPY))
    np.testing.assert_allclose(bare.energy(STATE), bare.local_energies(STATE).sum(), rtol=1e-12)
    zeeman = np.array([0.3, -0.2, 0.5])
    anisotropy = -(STATE @ zeeman).sum() - 0.4 * (STATE[:, 2] ** 2).sum()
    np.testing.assert_allclose(full.energy(STATE) - bare.energy(STATE), anisotropy, rtol=1e-10)
    field = zeeman + 0.8 * STATE * [0, 0, 1]
    np.testing.assert_allclose(full.local_field(STATE) - bare.local_field(STATE), field, atol=1e-10)


@every_field
def test_the_second_output_is_the_longitudinal_field(name):
    """The local energies know directions only, so that the torque is theirs alone."""
    ff = random_force_field(name)
    s = torch.as_tensor(STATE)
    mu = torch.as_tensor(ff.chemical_potential(STATE))[None] if ff.grand_canonical else None
    _, longitudinal = ff.site_outputs(ff.first_layer(ff.features(s)), mu)
    along = (ff.local_field(STATE) * STATE).sum(-1)
    np.testing.assert_allclose(along, longitudinal.detach(), atol=1e-12)


@every_field
def test_energy_is_extensive(name):
    """A state repeated 2 x 2 has four times the energy and the same fields."""
    ff = random_force_field(name)
    tiled = np.tile(STATE.reshape(7, 7, 3), (2, 2, 1)).reshape(196, 3)
    np.testing.assert_allclose(ff.energy(tiled), 4 * ff.energy(STATE), rtol=1e-12)
    field = np.tile(ff.local_field(STATE).reshape(7, 7, 3), (2, 2, 1)).reshape(196, 3)
    np.testing.assert_allclose(ff.local_field(tiled), field, atol=1e-12)


@every_canonical_field
def test_a_field_reaches_twice_the_radius_of_the_environment(name):
    ff = random_force_field(name)
    environment = ff.descriptor.environment
    lat = getattr(lattice, environment.kind)(12)
    s = spins.random(144, seed=0)
    changed = s.copy()
    changed[0] = -s[0]
    moved = np.abs(ff.local_field(changed) - ff.local_field(s)).max(-1) > 1e-10
    radius = getattr(environment, "bond_radius", None) or environment.radius
    corners, _ = lat.displacements(2 * radius)
    within = lat.site_index(corners[:, :2], 0)
    assert set(np.flatnonzero(moved)) <= {0, *within.tolist()}
    assert moved[[0, 1, 2]].all()


@pytest.mark.parametrize("name", [n for n in CANONICAL + GRAND if "triangular" in n])
def test_other_shapes_of_the_lattice(name):
    ff = random_force_field(name)
    oblong = lattice.triangular(14, 7)
    tiled = np.tile(STATE.reshape(7, 7, 3), (1, 2, 1)).reshape(98, 3)
    np.testing.assert_allclose(ff.on(oblong).energy(tiled), 2 * ff.energy(STATE), rtol=1e-12)
    np.testing.assert_array_equal(
        ff.on(lattice.triangular(7)).local_field(STATE), ff.local_field(STATE)
    )
    moves = laws.translations(oblong)
    laws.assert_equivariant(ff.on(oblong).local_field, spins.random(98, seed=0), moves)
    # The lattice is chosen for the copy, not for the original.
    np.testing.assert_array_equal(ff.lattice_of(49).shape, (7, 7))


@every_grand_field
@pytest.mark.parametrize("precision, atol", [("float", 1e-5), ("double", 1e-11)])
def test_the_number_of_electrons_is_conserved(name, precision, atol):
    ff = getattr(random_force_field(name), precision)()
    many = np.stack([STATE, spins.random(49, 5), spins.ferromagnetic(ff.model.lattice)])
    density = ff.density(many)
    assert density.shape == (3, 49)
    np.testing.assert_allclose(density.mean(-1), 2 * ff.model.filling, rtol=0, atol=atol)
    assert density[:2].std() > 1e-4


@every_grand_field
def test_density_is_minus_the_slope_of_the_potential_in_mu(name):
    """Site by site: E = sum omega_i + mu_i N_e / N, with a mu of its own on every site."""
    ff, s, step = random_force_field(name), torch.as_tensor(STATE), 1e-4
    mu = torch.full((49,), float(ff.chemical_potential(STATE)), dtype=torch.float64)
    shifts = step * torch.eye(49, dtype=torch.float64)
    many = s.expand(49, 49, 3)
    with torch.no_grad():
        slope = (ff(many, mu + shifts) - ff(many, mu - shifts)) / (2 * step)
    expected = 2 * ff.model.filling - slope.numpy()
    np.testing.assert_allclose(ff.density(STATE), expected, rtol=0, atol=1e-7)


@every_grand_field
def test_the_energy_is_stationary_at_the_chemical_potential(name):
    ff, s = random_force_field(name), torch.as_tensor(STATE)
    mu = ff.chemical_potential(s)
    assert mu.shape == ()
    with torch.no_grad():
        energies = [float(ff(s, mu[None] + h)) for h in (-1e-4, 0, 1e-4)]
    assert energies[1] == pytest.approx(ff.energy(STATE), rel=1e-14)
    assert abs(energies[2] - energies[0]) / 2e-4 < 1e-6
    # A maximum: omega is concave, its density grows with mu.
    assert energies[1] > max(energies[0], energies[2])


@every_grand_field
@pytest.mark.parametrize("tolerance", [1e-12, 1e-3])
def test_the_chemical_potential_does_not_depend_on_the_rest_of_a_batch(
    name, tolerance, monkeypatch
):
    """Neither do the ends between which it is searched, nor the number of steps."""
    monkeypatch.setitem(network.CHARGE_TOLERANCE, torch.float64, tolerance)
    ff = random_force_field(name)
    uniform = spins.ferromagnetic(ff.model.lattice)
    many = np.stack([STATE, uniform, spins.perturbed(uniform, 0.1, 0)])
    ff.mu_range.copy_(ff.chemical_potential(torch.as_tensor(STATE)) + torch.tensor([-0.01, 0.01]))
    found = ff.chemical_potential(many)
    assert np.ptp(found) > 0.01 + equilibration.MARGINS[0]  # beyond the first margin
    np.testing.assert_allclose(found, [ff.chemical_potential(s) for s in many], rtol=0, atol=1e-12)
    pairs = [ff.chemical_potential(many[[0, k]])[0] for k in (1, 2)]
    np.testing.assert_allclose(pairs, found[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["triangular", "square"])
def test_a_sample_of_sites_only_speeds_up_the_search(name, monkeypatch):
    """The same chemical potential, with fewer densities of all sites."""
    ff = forcefield.load(name).double()
    n_sites, full, found = 30**2, [], {}
    batch = np.stack([spins.random(n_sites, k) for k in range(2)])
    excess = ff._excess
    monkeypatch.setattr(
        ff,
        "_excess",
        lambda x, mu: full.append((x.shape[-2] == n_sites) * mu.numel()) or excess(x, mu),
    )
    for threshold in (n_sites, n_sites + 1):
        monkeypatch.setattr(network, "SAMPLED_FROM", threshold)
        full.clear()
        found[threshold] = ff.chemical_potential(batch), sum(full)
    (sampled, few), (plain, many) = found.values()
    np.testing.assert_allclose(sampled, plain, rtol=0, atol=1e-9)
    assert few < many


@pytest.mark.parametrize(("name", "dt"), [("triangular", 1.0), ("square", 0.5)])
@pytest.mark.parametrize(("precision", "atol"), [("float", 1e-4), ("double", 1e-9)])
def test_the_steps_of_a_run_find_the_mu_that_a_single_field_finds(name, dt, precision, atol):
    """The released networks, of 0.07 electrons and more for t of mu."""
    ff = getattr(forcefield.load(name).on(getattr(lattice, name)(24)), precision)()
    equation = dynamics.LandauLifshitz(dt, 0.1, method="adams")
    s = torch.as_tensor(spins.random(576, 3)).to(ff.dtype)
    single, run = dynamics.evolve(s, lambda s: ff.field(s), [equation] * 10), ff.for_steps()
    differences = []
    for _ in range(20):
        single = dynamics.evolve(single, lambda s: ff.field(s), [equation])
        run.field(single)
        differences.append(run._known.mu - torch.as_tensor(ff.chemical_potential(single)))
    assert torch.stack(differences).abs().max() < atol
    followed = dynamics.evolve(s, ff.field, [equation] * 20)
    alone = dynamics.evolve(s, lambda s: ff.field(s), [equation] * 20)
    assert (followed - alone).abs().max() < 10 * atol
    assert not torch.equal(followed, alone)


@every_grand_field
def test_a_given_chemical_potential_is_taken(name):
    ff, s = random_force_field(name), torch.as_tensor(STATE)
    own = ff.chemical_potential(s)[None]
    torch.testing.assert_close(ff.field(s, mu=own), ff.field(s), rtol=0, atol=1e-12)
    assert float((ff.field(s, mu=own + 0.5) - ff.field(s)).abs().max()) > 1e-4


@every_grand_field
def test_a_search_without_result_says_so(name):
    ff = random_force_field(name)
    ff.mu_range += 50
    with pytest.raises(RuntimeError, match="chemical potential: none in"):
        ff.energy(STATE)


def test_weights_are_shared_with_other_shapes():
    ff = random_force_field("square symmetry")
    other = ff.on(lattice.square(7))
    with torch.no_grad():
        ff.network[0].weight.mul_(1.1)
    assert other.energy(STATE) == ff.energy(STATE)


@pytest.mark.parametrize("cast", ["double", "half", "float"])
def test_a_view_that_is_cast_leaves_the_original_as_it_is(cast):
    ff = random_force_field("square symmetry").float()
    weights = {name: tensor.clone() for name, tensor in ff.state_dict().items()}
    view = getattr(ff.on(lattice.square(7)), cast)()
    dtypes = {"double": torch.float64, "half": torch.float16, "float": torch.float32}
    assert view.dtype == dtypes[cast]
    assert ff.dtype == torch.float32
    with torch.no_grad():
        view.network[0].weight.mul_(2)
        view.output_mean += 1
    for name, tensor in ff.state_dict().items():
        assert tensor.dtype == weights[name].dtype, name
        assert torch.equal(tensor, weights[name]), name
    assert ff.local_field(STATE).dtype == np.float64


def test_a_view_of_a_view_and_a_moved_one_are_independent():
    ff = random_force_field("square symmetry").float()
    view = ff.on(lattice.square(7))
    further = view.on(lattice.square(7, 8)).to(torch.float64)
    moved = ff.on(lattice.square(7)).to("cpu")
    assert (ff.dtype, view.dtype, further.dtype) == (torch.float32, torch.float32, torch.float64)
    expected = ff.local_field(STATE)
    np.testing.assert_array_equal(moved.local_field(STATE), expected)
    moved.whitening = None
    with torch.no_grad():
        moved.network[0].weight.zero_()
    np.testing.assert_array_equal(view.local_field(STATE), expected)
    assert np.isfinite(ff.extrapolation(STATE)).all()


@every_field
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_the_unchecked_field_takes_spins_of_any_dtype(name, dtype):
    ff = random_force_field(name, **ANISOTROPY).float()
    s = torch.as_tensor(STATE).to(dtype)
    found = ff.field(s)
    assert found.dtype == dtype
    torch.testing.assert_close(found, ff.field(s.float()).to(dtype), rtol=0, atol=0)
    assert ff(s).dtype == torch.float32
    if ff.grand_canonical:
        mu = torch.tensor([-2.1], dtype=torch.float64)
        torch.testing.assert_close(ff.field(s, mu), ff.field(s.float(), mu.float()).to(dtype))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["network.0.weight", "output_scale"])
def test_weights_that_are_not_finite_are_neither_saved_nor_read(tmp_path, monkeypatch, bad, where):
    ff, path = random_force_field("square symmetry"), tmp_path / "ff.safetensors"
    with torch.no_grad():
        ff.state_dict()[where].flatten()[0] = bad
    laws.assert_refused(lambda: forcefield.save(ff, path), "forcefield", "finite", where)
    assert not path.exists()
    with monkeypatch.context() as patch:
        patch.setattr(network, "require_finite", lambda *_: None)  # as versions before did
        forcefield.save(ff, path)
    laws.assert_refused(lambda: forcefield.load(path), path.name, "finite", where)


@every_field
@pytest.mark.parametrize("batch", [(1,), (3,), (2, 2)])
def test_batches_equal_singles(name, batch):
    ff = random_force_field(name)
    s = spins.random(49 * int(np.prod(batch)), seed=4).reshape(*batch, 49, 3)
    energies, fields = ff.energy(s), ff.local_field(s)
    assert energies.shape == batch
    assert fields.shape == (*batch, 49, 3)
    for index in np.ndindex(batch):
        np.testing.assert_allclose(energies[index], ff.energy(s[index]), rtol=1e-12)
        np.testing.assert_allclose(fields[index], ff.local_field(s[index]), atol=1e-12)


@pytest.mark.parametrize("as_kind", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_are_in_the_kind_and_dtype_of_the_spins(as_kind, dtype):
    ff = random_force_field("square symmetry").float()
    s = as_kind(STATE.astype(dtype))
    field = ff.local_field(s)
    assert type(field) is type(s)
    assert field.dtype == s.dtype
    assert ff.energy(s).dtype == s.dtype
    assert not (isinstance(s, torch.Tensor) and (field.requires_grad or s.requires_grad))


def test_precisions_agree():
    double = random_force_field("triangular symmetry")
    expected, energy = double.local_field(STATE), double.energy(STATE)
    single = double.float()
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.local_field(STATE), expected, atol=1e-5)
    np.testing.assert_allclose(single.energy(STATE), energy, rtol=1e-6)
    # Tables stay float64, so that going back loses only the rounding of the weights.
    assert single.double().descriptor.basis.dtype == torch.float64
    laws.assert_invariant(single.energy, STATE, laws.symmetries(lattice.triangular(7)))


def test_a_seed_fixes_the_weights_and_leaves_the_global_generator_alone():
    model = SDModel(lattice.square(7), 6.0, 0.5)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    energies = [
        ForceField(model, ENVIRONMENTS["square symmetry"], (8,), seed).energy(STATE)
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(torch.rand(3), expected)
    assert energies[0] == energies[1] != energies[2]


def test_precession_in_its_field_conserves_the_energy():
    ff = random_force_field("triangular symmetry")

    def drift(dt):
        end = dynamics.integrate(STATE, ff.local_field, dt, round(2 / dt), damping=0.0)
        return abs(ff.energy(end) - ff.energy(STATE))

    assert drift(0.02) < min(drift(0.08) / 8, 1e-3)


@every_field
@pytest.mark.parametrize("precision", ["float", "double"])
def test_saving_and_loading_changes_no_bit(tmp_path, name, precision):
    ff = getattr(random_force_field(name), precision)()
    forcefield.save(ff, tmp_path / "ff.safetensors")
    again = forcefield.load(tmp_path / "ff.safetensors")
    assert again.dtype == ff.dtype
    assert (again.model, again.card, again.hidden_widths) == (ff.model, ff.card, ff.hidden_widths)
    assert again.descriptor.environment == ff.descriptor.environment
    assert again.grand_canonical == ff.grand_canonical
    np.testing.assert_array_equal(again.local_field(STATE), ff.local_field(STATE))
    assert again.energy(STATE) == ff.energy(STATE)
    for tensor, expected in zip(again.state_dict().values(), ff.state_dict().values(), strict=True):
        assert torch.equal(tensor, expected)
    if ff.grand_canonical:
        np.testing.assert_array_equal(again.density(STATE), ff.density(STATE))
        assert again.chemical_potential(STATE) == ff.chemical_potential(STATE)
    assert [p.name for p in tmp_path.iterdir()] == ["ff.safetensors"]


@pytest.fixture
def saved(tmp_path):
    """A saved force field."""
    path = tmp_path / "ff.safetensors"
    forcefield.save(random_force_field("square symmetry"), path)
    return path


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.1, 0.5, 0.999])
def test_truncated_files_are_refused(saved, kept):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(kept * len(content))])
    laws.assert_refused(lambda: forcefield.load(saved), saved.name)


def test_altered_weights_are_refused(saved):
    content = bytearray(saved.read_bytes())
    content[-100] ^= 1
    saved.write_bytes(content)
    laws.assert_refused(lambda: forcefield.load(saved), saved.name)


def description_of(path):
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        return json.loads(file.metadata()["description"]), tensors


@pytest.mark.parametrize("what", ["coupling", "card", "radius", "widths"])
def test_an_altered_description_is_refused(saved, what):
    """Weights without the model that they stand for are as bad as altered weights."""
    description, tensors = description_of(saved)
    match what:
        case "coupling":
            description["model"]["exchange_coupling"] = 4.0
        case "card":
            description["card"]["errors"]["torque_r2"] = 0.99
        case "radius":
            description["environment"]["bond_radius"] = 2.2
        case "widths":
            description["hidden_widths"] = [4, 8]
    with safe_open(saved, framework="pt") as file:
        checksum = file.metadata()["sha256"]
    metadata = {"description": json.dumps(description), "sha256": checksum}
    safetensors.torch.save_file(tensors, saved, metadata)
    laws.assert_refused(lambda: forcefield.load(saved), saved.name, "checksum")


@pytest.mark.parametrize(
    "missing", ["format", "model", "environment", "hidden_widths", "grand_canonical", "card"]
)
def test_an_incomplete_description_is_refused(saved, missing):
    """Also where the checksum fits: the file was written so."""
    description, tensors = description_of(saved)
    del description[missing]
    text = json.dumps(description)
    metadata = {"description": text, "sha256": forcefield.digest(text, tensors)}
    safetensors.torch.save_file(tensors, saved, metadata)
    laws.assert_refused(lambda: forcefield.load(saved), saved.name, missing)


def rewritten(path, description):
    """The file with another description and the checksum that fits it."""
    tensors, text = description_of(path)[1], json.dumps(description)
    metadata = {"description": text, "sha256": forcefield.digest(text, tensors)}
    safetensors.torch.save_file(tensors, path, metadata)
    return path


def test_files_of_the_first_format_are_refused(saved):
    """Their descriptors had other features."""
    description = description_of(saved)[0] | {"format": "sdml-forcefield-1"}
    rewritten(saved, description)
    laws.assert_refused(
        lambda: forcefield.load(saved), saved.name, "sdml-forcefield-1", "sdml-forcefield-2"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"environment": {"type": "Cubic"}},
        {"environment": ENVIRONMENT_OF_OTHER_SIZE},
        {"hidden_widths": [4, 8]},
        {"grand_canonical": True},
    ],
    ids=["unknown environment", "other features", "other widths", "one more input"],
)
def test_weights_that_do_not_fit_their_description_are_refused(saved, changes):
    rewritten(saved, description_of(saved)[0] | changes)
    laws.assert_refused(lambda: forcefield.load(saved), saved.name, "does not fit")


def test_weights_without_checksum_are_refused(saved):
    description, tensors = description_of(saved)
    safetensors.torch.save_file(tensors, saved, {"description": json.dumps(description)})
    laws.assert_refused(lambda: forcefield.load(saved), saved.name, "sha256")


@pytest.mark.parametrize("metadata", [None, {}, {"description": "[]"}, {"description": "{"}])
def test_foreign_safetensors_are_refused(tmp_path, metadata):
    path = tmp_path / "foreign.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(3)}, path, metadata)
    laws.assert_refused(lambda: forcefield.load(path), path.name)


def test_other_files_are_refused(tmp_path):
    pickled, text = tmp_path / "ff.pt", tmp_path / "ff.txt"
    torch.save({"weight": torch.zeros(3)}, pickled)
    text.write_text("weights")
    for path in (pickled, text):
        laws.assert_refused(lambda path=path: forcefield.load(path), path.name)


def test_unknown_names_are_refused(tmp_path):
    laws.assert_refused(lambda: forcefield.load("honeycomb"), "name_or_path", "honeycomb")
    laws.assert_refused(lambda: forcefield.load(tmp_path / "none"), "name_or_path", "none")
    laws.assert_refused(lambda: forcefield.load(tmp_path), "name_or_path", tmp_path.name)


@pytest.mark.parametrize("failing", ["os.replace", "safetensors.torch.save_file"])
def test_a_failed_save_leaves_the_old_file_and_nothing_else(saved, monkeypatch, failing):
    before = saved.read_bytes()
    write = safetensors.torch.save_file

    def break_off(*arguments):
        if failing != "os.replace":
            write(*arguments)
        raise OSError("disk full")

    module, name = failing.rsplit(".", 1)
    monkeypatch.setattr(os if module == "os" else safetensors.torch, name, break_off)
    with pytest.raises(OSError, match="disk full"):
        forcefield.save(random_force_field("square symmetry"), saved)
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


@pytest.fixture(params=RELEASED)
def released(request):
    """A force field shipped with the project."""
    if not (files.weights() / f"{request.param}.safetensors").is_file():
        pytest.skip(f"no released weights {request.param!r} yet")
    return forcefield.load(request.param)


def test_released_weights_have_the_symmetries(released):
    lat = getattr(lattice, released.model.lattice.name)(12)
    s, ff = spins.random(144, seed=0), released.double()
    laws.assert_invariant(ff.energy, s, laws.symmetries(lat), rtol=1e-10)
    laws.assert_equivariant(ff.local_field, s, laws.symmetries(lat), rtol=1e-10)
    laws.assert_field_is_gradient(ff.energy, ff.local_field, s)


def test_released_weights_know_the_exact_field(released):
    """On a random start and early frames of a new quench, on a size they were not trained on."""
    model = replace(released.model, lattice=getattr(lattice, released.model.lattice.name)(12))
    equation = dynamics.LandauLifshitz(dt=0.5, damping=0.1)
    data = dataset.quench(model, equation, (0, 5, 10), seed=7)
    assert evaluation.evaluate(released, data)["torque_r2"] > 0.5


@functools.cache
def square_field():
    """One force field for all refusals."""
    return random_force_field("square symmetry")


def of_moments(exchange_coupling, **terms):
    """A force field of moments at J = 3 for a model of any electrons."""
    model = SDModel(lattice.square(7), exchange_coupling, 0.25, **terms)
    return ForceField(model, ENVIRONMENTS["square moments"])


def test_moments_of_a_model_with_fields_on_the_spins():
    """What the electrons do not see does not matter, nor do hoppings that are zero."""
    for terms in ({"hopping": (1.0, 0.0)}, ANISOTROPY, {"electron_kT": 0.1}):
        of_moments(3.0, **terms)


@laws.bad_input(
    {
        "nan": (lambda: square_field().energy(np.nan * STATE), "spins", "nan"),
        "not unit": (lambda: square_field().local_field(2 * STATE), "spins", "deviation is 1"),
        "not a square": (lambda: square_field().energy(STATE[:48]), "spins", 48),
        "components": (lambda: square_field().energy(STATE[:, :2]), "spins", "(49, 2)"),
        "lattice": (lambda: square_field().on(lattice.triangular(7)), "lattice", "triangular"),
        "size": (lambda: square_field().on(lattice.square(7, 8)).energy(STATE), "spins", 56, 49),
        "environment": (
            lambda: ForceField(
                SDModel(lattice.square(7), 1, 0.5), ENVIRONMENTS["triangular symmetry"]
            ),
            "environment",
            "triangular",
            "square",
        ),
        "widths": (
            lambda: ForceField(
                SDModel(lattice.square(7), 1, 0.5),
                ENVIRONMENTS["square symmetry"],
                hidden_widths=(8, 0),
            ),
            "hidden_widths",
            0,
        ),
        "no filling": (
            lambda: ForceField(
                SDModel(lattice.square(7), 3, chemical_potential=-2),
                ENVIRONMENTS["square moments"],
                grand_canonical=True,
            ),
            "grand_canonical",
            "filling",
            None,
        ),
        "no electrons": (
            lambda: ForceField(
                SDModel(lattice.square(7), 3, 0), ENVIRONMENTS["square raw"], grand_canonical=True
            ),
            "grand_canonical",
            "(0, 1)",
            0.0,
        ),
        "density": (lambda: square_field().density(STATE), "density", "grand-canonical"),
        "chemical potential": (
            lambda: square_field().chemical_potential(STATE),
            "chemical_potential",
            "grand-canonical",
        ),
        "mu": (
            lambda: square_field().field(torch.as_tensor(STATE), mu=torch.zeros(1)),
            "mu",
            "grand-canonical",
        ),
        "coupling of the moments": (lambda: of_moments(4.0), "exchange_coupling", 4.0, 3.0),
        "sign of the coupling": (lambda: of_moments(-3.0), "exchange_coupling", -3.0, 3.0),
        "hopping of the moments": (lambda: of_moments(3.0, hopping=-1.0), "hopping", -1.0),
        "far hopping of the moments": (
            lambda: of_moments(3.0, hopping=(1.0, 0.0, 0.5)),
            "hopping",
            "(1.0, 0.0, 0.5)",
        ),
    }
)
def test_bad_input_is_refused(call, mentioned):
    laws.assert_refused(call, *mentioned)
