"""Committees: mean and spread of force fields, calibration, files, what is unlike the training."""

from dataclasses import replace

import laws
import numpy as np
import pytest
import torch

from sdml import dataset, files, forcefield, lattice, spins, training
from sdml.descriptor import SymmetryEnvironment
from sdml.descriptor.moments import MomentEnvironment
from sdml.forcefield import ForceField, committee, network
from sdml.forcefield.committee import Calibration, Committee
from sdml.model import SDModel
from sdml.training import TrainingSettings

MODEL = SDModel(lattice.square(7), 3.0, 0.25, electron_kT=0.05)
MOMENTS = MomentEnvironment("square", radius=2, n_steps=4, exchange_coupling=3.0)
SYMMETRY = SymmetryEnvironment("square", bond_radius=2.0, pair_radius=1.0)
STATE = spins.random(49, seed=0)
FERROMAGNET = spins.ferromagnetic(MODEL.lattice)
KINDS = {"symmetry": (SYMMETRY, False), "moments": (MOMENTS, False), "grand": (MOMENTS, True)}
every_kind = pytest.mark.parametrize("kind", KINDS)
every_quantity = pytest.mark.parametrize("of", ["energy", "field"])


def member(kind="symmetry", seed=0, model=MODEL, environment=None):
    """Random weights and the scales of random states, in double precision."""
    own, grand = KINDS[kind]
    ff = ForceField(model, environment or own, (8,), seed, grand)
    rng = np.random.default_rng(2)
    states = spins.random(4 * 49, rng).reshape(4, 49, 3)
    labels = (states, rng.normal(-120, 2, 4), rng.normal(1.2, 0.1, (4, 49)), rng.uniform(-3, -1, 4))
    ff.standardize(*map(torch.as_tensor, labels))
    if grand:
        let_density_grow(ff)
    return ff.double()


def let_density_grow(ff):
    """Two hidden units make omega concave in mu, as the potential of electrons is."""
    first, last = ff.network[0], ff.network[-1]
    with torch.no_grad():
        first.weight[0, -1] = 1
        first.weight[1], first.bias[1] = -first.weight[0], -first.bias[0]
        last.weight[0, :2] = -5


def of_random_members(kind="symmetry", n=3, **terms):
    return Committee([member(kind, seed, replace(MODEL, **terms)) for seed in range(n)])


@pytest.fixture(scope="module")
def snapshots():
    """Random states to train on, and random states and a quench that are held out."""
    equation = dataset.dynamics.LandauLifshitz(dt=0.5, damping=0.3)
    held_out = [dataset.random_states(MODEL, 4, 1), dataset.quench(MODEL, equation, (2, 5), seed=3)]
    return dataset.random_states(MODEL, 8, seed=0), dataset.join(held_out)


@pytest.fixture(scope="module")
def trained(snapshots):
    """Three tiny networks that saw random states only."""
    settings = TrainingSettings(20, learning_rate=1e-2)
    members = [ForceField(MODEL, SYMMETRY, (8,), seed) for seed in range(3)]
    for seed, ff in enumerate(members):
        training.train(ff, snapshots[0], replace(settings, seed=seed))
    return Committee(members).double()


@every_kind
def test_energy_and_field_are_means_of_the_members(kind):
    made = of_random_members(kind, zeeman=(0.3, -0.2, 0.5), easy_axis=0.4)
    s = np.stack([STATE, spins.random(49, seed=1)])
    for name in ("energy", "local_field", "local_energies"):
        expected = np.mean([getattr(ff, name)(s) for ff in made.members], axis=0)
        np.testing.assert_allclose(getattr(made, name)(s), expected, rtol=0, atol=1e-11)
    fields = [ff.local_field(s) for ff in made.members]
    np.testing.assert_allclose(made.member_fields(torch.as_tensor(s)), fields, rtol=0, atol=1e-12)


@every_kind
def test_the_mean_field_is_minus_the_gradient_of_the_mean_energy(kind):
    """Also where every member finds a chemical potential of its own."""
    made = of_random_members(kind)
    if kind == "grand":
        potentials = [ff.chemical_potential(STATE) for ff in made.members]
        assert np.ptp(potentials) > 1e-3
    laws.assert_field_is_gradient(made.energy, made.local_field, STATE)
    laws.assert_transverse_field_is_gradient(made.energy, made.local_field, STATE, atol=1e-7)


@every_kind
def test_mean_and_spreads_have_the_symmetries_of_the_model(kind):
    made, moves = of_random_members(kind), laws.symmetries(MODEL.lattice)
    offset = made.energy(FERROMAGNET)
    laws.assert_invariant(lambda s: made.energy(s) - offset, STATE, moves)
    laws.assert_equivariant(made.local_field, STATE, moves)
    numbers = (made.spread, lambda s: made.spread(s, of="field"), made.extrapolation)
    for quantity in numbers:
        laws.assert_site_invariant(lambda s, q=quantity: q(s)[:, None], STATE, moves, rtol=1e-8)


@every_kind
def test_spreads_are_standard_deviations_over_the_members(kind):
    made = of_random_members(kind)
    energies = [ff.local_energies(STATE) for ff in made.members]
    np.testing.assert_allclose(made.spread(STATE), np.std(energies, axis=0, ddof=1), atol=1e-12)
    fields = np.array([spins.transverse(STATE, ff.local_field(STATE)) for ff in made.members])
    square = ((fields - fields.mean(0)) ** 2).sum(axis=(0, -1)) / 2
    np.testing.assert_allclose(made.spread(STATE, of="field"), np.sqrt(square), atol=1e-12)


@every_quantity
@every_kind
def test_members_that_are_the_same_have_no_spread(kind, of):
    made = Committee([member(kind)] * 3)
    np.testing.assert_allclose(made.spread(STATE, of), 0, atol=1e-12)
    assert of_random_members(kind).spread(STATE, of).min() > 1e-4


def counted(monkeypatch, made):
    """Numbers of evaluations of descriptors and of their adjoint passes."""
    counts = {"forward": 0, "adjoint": 0}
    evaluate = ForceField.features

    def features(self, s):
        counts["forward"] += 1
        found = evaluate(self, s)
        if s.requires_grad:
            s.register_hook(lambda gradient: counts.update(adjoint=counts["adjoint"] + 1))
        return found

    monkeypatch.setattr(ForceField, "features", features)
    return counts


@every_kind
def test_members_share_the_descriptor(monkeypatch, kind):
    made = of_random_members(kind)
    counts = counted(monkeypatch, made)
    made.local_field(STATE)
    assert counts == {"forward": 1, "adjoint": 1}
    made.spread(STATE)
    made.extrapolation(STATE)
    assert counts == {"forward": 3, "adjoint": 1}
    made.spread(STATE, of="field")
    assert counts == {"forward": 4, "adjoint": 4}


def test_the_spread_grows_off_the_training_data(trained):
    """All fields of a ferromagnet vanish: there the energies tell, beside it the fields too."""
    random = spins.random(49, seed=9)
    near = spins.perturbed(FERROMAGNET, 0.2, seed=0)
    assert trained.spread(FERROMAGNET).min() > 3 * trained.spread(random).mean()
    np.testing.assert_allclose(trained.spread(FERROMAGNET, of="field"), 0, atol=1e-10)
    assert trained.spread(near, of="field").mean() > trained.spread(random, of="field").mean()


def test_extrapolation_tells_what_is_unlike_the_training_data():
    made = of_random_members("moments")  # they know random states
    states = spins.random(4 * 49, np.random.default_rng(2)).reshape(4, 49, 3)
    assert made.extrapolation(states).max() == pytest.approx(1, abs=1e-4)
    assert (made.extrapolation(spins.random(490, seed=5).reshape(10, 49, 3)) <= 1).mean() > 0.95
    assert made.extrapolation(FERROMAGNET).min() > 1.5
    mixed = spins.random(49, seed=9)
    mixed[:28] = FERROMAGNET[:28]
    score = made.extrapolation(mixed).reshape(7, 7)
    # Rows 1 and 2 see spins of the ferromagnet mostly, row 5 random ones.
    assert score[1:3].min() > 1 > score[5].max()


def test_extrapolation_is_the_mahalanobis_distance():
    ff = member()
    states = spins.random(4 * 49, np.random.default_rng(2)).reshape(4, 49, 3)
    features = ff.features(torch.as_tensor(states)).flatten(0, 1)
    z = ((features - ff.feature_mean) / ff.feature_scale).numpy()
    regular = z.T @ z / len(z) + network.VARIANCE_FLOOR * np.eye(z.shape[1])
    distance = np.sqrt(np.einsum("if,if->i", z, np.linalg.solve(regular, z.T).T))
    found = ff.extrapolation(states).ravel()
    np.testing.assert_allclose(found, distance / distance.max(), rtol=1e-3)


@every_quantity
def test_a_calibrated_spread_is_as_large_as_the_error(trained, snapshots, of):
    held_out = snapshots[1]
    made = trained.calibrated(held_out)
    error = spins.transverse(held_out.spins, made.local_field(held_out.spins))
    error -= spins.transverse(held_out.spins, held_out.local_field)
    rms = np.sqrt((error**2).sum(-1).mean())
    assert np.sqrt((made.spread(held_out.spins, of) ** 2).mean()) == pytest.approx(rms)
    assert made.calibration.snapshots == len(held_out)
    assert trained.calibration == Calibration()
    factor = getattr(made.calibration, of)
    np.testing.assert_allclose(made.spread(STATE, of), factor * trained.spread(STATE, of))
    again = made.calibrated(held_out).calibration
    assert getattr(again, of) == pytest.approx(factor)


@every_quantity
def test_reliability_bins_hold_all_sites_in_order(trained, snapshots, of):
    held_out = snapshots[1]
    made = trained.calibrated(held_out)
    found = made.reliability(held_out, of, n_bins=5)
    assert found.sites.sum() == held_out.density.size
    assert np.ptp(found.sites) <= 1
    assert (np.diff(found.spread) > 0).all()
    mean_squares = [np.average(x**2, weights=found.sites) for x in (found.spread, found.error)]
    assert mean_squares[0] == pytest.approx(mean_squares[1])
    assert len(found.table().splitlines()) == 7


@every_kind
@pytest.mark.parametrize("batch", [(1,), (2, 2)])
def test_batches_equal_singles(kind, batch):
    made = of_random_members(kind)
    s = spins.random(49 * int(np.prod(batch)), seed=4).reshape(*batch, 49, 3)
    numbers = {
        made.energy: (),
        made.local_field: (49, 3),
        made.local_energies: (49,),
        made.spread: (49,),
        made.extrapolation: (49,),
        (lambda x: made.spread(x, of="field")): (49,),
    }
    for quantity, shape in numbers.items():
        found = quantity(s)
        assert found.shape == (*batch, *shape)
        for index in np.ndindex(batch):
            np.testing.assert_allclose(found[index], quantity(s[index]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("as_kind", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
def test_results_are_in_the_kind_and_dtype_of_the_spins(as_kind):
    made = of_random_members().float()
    assert made.dtype == torch.float32
    s = as_kind(STATE)
    for quantity in (made.energy, made.local_field, made.spread, made.extrapolation):
        assert quantity(s).dtype == s.dtype
    assert type(made.spread(s, of="field")) is type(s)
    double = of_random_members()
    np.testing.assert_allclose(made.spread(s, "field"), double.spread(s, "field"), atol=1e-5)
    np.testing.assert_allclose(made.extrapolation(s), double.extrapolation(s), rtol=1e-2)


def test_other_shapes_of_the_lattice():
    made = of_random_members()
    tiled = np.tile(STATE.reshape(7, 7, 3), (2, 1, 1)).reshape(98, 3)
    oblong = made.on(lattice.square(7, 14))
    np.testing.assert_allclose(oblong.spread(tiled), np.tile(made.spread(STATE), 2), atol=1e-12)


def test_a_committee_that_is_cast_leaves_members_and_the_others_as_they_are():
    """The given members, the committee a view was made of, and the one that is not calibrated."""
    members = [member(seed=seed).float() for seed in (1, 2)]
    made = Committee(members)
    other = Committee(made.members, Calibration(2.0, 3.0, 5))
    expected = made.local_field(STATE)
    for cast in (made.on(lattice.square(7, 14)), other):
        assert cast.double().dtype == torch.float64
        assert {ff.dtype for ff in (made, *made.members, *members)} == {torch.float32}
    np.testing.assert_array_equal(made.local_field(STATE), expected)
    assert made.on(lattice.square(7, 14)).to("cpu").lattice_of(98).shape == (7, 14)
    with torch.no_grad():
        members[0].network[0].weight.mul_(1.1)
    assert not np.array_equal(made.local_field(STATE), expected)  # the weights are shared


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_unchecked_fields_take_spins_of_any_dtype(dtype):
    made, s = of_random_members().float(), torch.as_tensor(STATE).to(dtype)
    for field in (made.field, made.member_fields):
        assert field(s).dtype == dtype
        torch.testing.assert_close(field(s), field(s.float()).to(dtype), rtol=0, atol=0)


@every_kind
def test_readings_are_what_the_methods_return_and_cost_one_descriptor(monkeypatch, kind):
    made, names = of_random_members(kind, easy_axis=0.3), ("energy", "extrapolation", "spread")
    made.calibration = Calibration(2.0, 3.0, 5)
    s = np.stack([STATE, FERROMAGNET])
    expected = {name: getattr(made, name)(s) for name in names}
    counts = counted(monkeypatch, made)
    found = made.readings(s, *names)
    assert counts == {"forward": 1, "adjoint": 0}
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    laws.assert_refused(lambda: made.readings(2 * s, "energy"), "spins", "deviation is 1")


def test_a_committee_with_a_broken_member_writes_no_file(tmp_path):
    made = of_random_members()
    with torch.no_grad():
        made.members[2].output_mean[0] = torch.nan
    path = tmp_path / "ff.safetensors"
    laws.assert_refused(lambda: committee.save(made, path), "committee", "finite", "output_mean")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def saved(tmp_path):
    """File of the first of three calibrated members."""
    made = of_random_members()
    made.calibration = Calibration(2.0, 3.0, 5)
    committee.save(made, tmp_path / "ff.safetensors")
    return tmp_path / "ff.safetensors"


def test_saving_and_loading_changes_no_bit(saved):
    names = ["ff.safetensors", "ff_2.safetensors", "ff_3.safetensors"]
    assert sorted(p.name for p in saved.parent.iterdir()) == names
    made, again = of_random_members(), committee.load(saved)
    assert again.calibration == Calibration(2.0, 3.0, 5)
    np.testing.assert_array_equal(again.local_field(STATE), made.local_field(STATE))
    np.testing.assert_array_equal(again.extrapolation(STATE), made.extrapolation(STATE))
    np.testing.assert_allclose(again.spread(STATE), 2 * made.spread(STATE), rtol=1e-14)
    np.testing.assert_array_equal(
        forcefield.load(saved).local_field(STATE), made.members[0].local_field(STATE)
    )


def test_members_saved_one_by_one_are_not_calibrated(tmp_path):
    for number in (1, 2):
        path = committee.numbered(tmp_path / "ff.safetensors", number)
        forcefield.save(member(seed=number), path)
    # Names that are no members.
    forcefield.save(member(seed=7), tmp_path / "ff_1.safetensors")
    forcefield.save(member(seed=8), tmp_path / "ff_2_2.safetensors")
    made = committee.load(tmp_path / "ff.safetensors")
    assert len(made.members) == 2
    assert made.calibration == Calibration()


def test_a_released_name_is_that_of_the_first_member(saved, monkeypatch):
    monkeypatch.setattr(files, "weights", lambda: saved.parent)
    assert len(committee.load("ff").members) == 3


def test_a_member_of_another_company_is_refused(saved):
    forcefield.save(member(seed=7), saved.parent / "ff_3.safetensors")
    laws.assert_refused(lambda: committee.load(saved), "ff_3.safetensors", "together")
    (saved.parent / "ff_3.safetensors").unlink()
    laws.assert_refused(lambda: committee.load(saved), "together")


def test_an_unreadable_calibration_is_refused(saved):
    ff = forcefield.load(saved)
    ff.card = ff.card | {"committee": {"energy": -1.0}}
    forcefield.save(ff, saved)
    laws.assert_refused(lambda: committee.load(saved), "calibration", saved.name)


def test_files_of_a_larger_committee_are_not_mixed_with_those_of_a_smaller(saved):
    laws.assert_refused(lambda: committee.save(of_random_members(n=2), saved), "ff_3", 2)
    assert committee.load(saved).calibration.snapshots == 5


def test_one_file_is_no_committee(saved):
    for path in saved.parent.glob("ff_*"):
        path.unlink()
    laws.assert_refused(lambda: committee.load(saved), "name_or_path", "two", saved.name)
    laws.assert_refused(lambda: committee.load("honeycomb"), "name_or_path", "honeycomb")


def test_weights_saved_without_their_training_features_cannot_tell(tmp_path):
    """As those released first: all else works, and their checksum stays."""
    ff = member()
    ff.whitening = None
    forcefield.save(ff, tmp_path / "ff.safetensors")
    again = forcefield.load(tmp_path / "ff.safetensors")
    assert forcefield.checksum(again) == forcefield.checksum(ff)
    np.testing.assert_array_equal(again.local_field(STATE), ff.local_field(STATE))
    laws.assert_refused(lambda: again.extrapolation(STATE), "extrapolation", "whitening", None)
    made = Committee([again, member(seed=1)])
    laws.assert_refused(lambda: made.extrapolation(STATE), "extrapolation", "whitening")


def of_other(**changes):
    return Committee([member(), member(**changes)])


def single_and_double():
    return Committee([member(), member().float()])


def of_itself():
    return Committee([member()] * 2).calibrated(dataset.random_states(MODEL, 1, 0))


@laws.bad_input(
    {
        "none": (lambda: Committee([]), "members", "two", 0),
        "one": (lambda: Committee([member()]), "members", "two", 1),
        "model": (lambda: of_other(model=replace(MODEL, filling=0.3)), "members", "model", 0.3),
        "environment": (
            lambda: of_other(environment=replace(SYMMETRY, pair_radius=1.5)),
            "members",
            "environment",
            1.5,
        ),
        "dtype": (single_and_double, "members", "dtype", "torch.float32"),
        "quantity": (lambda: of_random_members().spread(STATE, of="density"), "of", "density"),
        "spins": (lambda: of_random_members().spread(2 * STATE), "spins", "|S| = 1"),
        "data": (
            lambda: of_random_members().calibrated(
                dataset.random_states(replace(MODEL, exchange_coupling=2.0), 1, 0)
            ),
            "data",
            2.0,
        ),
        "no data": (
            lambda: of_random_members().calibrated(
                dataset.random_states(MODEL, 1, 0).select(np.array([], dtype=int))
            ),
            "data",
            "none",
        ),
        "bins": (
            lambda: of_random_members().reliability(dataset.random_states(MODEL, 1, 0), n_bins=50),
            "n_bins",
            50,
            49,
        ),
        "agreement": (of_itself, "members", "differ"),
        "factor": (lambda: Calibration(energy=0.0), "energy", "positive", 0.0),
    }
)
def test_bad_input_is_refused(call, mentioned):
    laws.assert_refused(call, *mentioned)
