"""Kernel polynomial fields: against diagonalization, gradients of estimates, probing, bounds."""

import dataclasses

import laws
import numpy as np
import pytest
import scipy.special
import torch

from sdml import exact, kpm, lattice, spins
from sdml.kpm import probes, recursion, series, solver
from sdml.kpm.series import Interval
from sdml.model import SDModel
from sdml.phase_separation import published

SQUARE, TRIANGULAR = lattice.square(6), lattice.triangular(5, 4)
HONEYCOMB = lattice.from_cell(
    np.sqrt(3) * np.array([[1, 0], [0.5, np.sqrt(3) / 2]]), [[0, 0], [0, 1]], (3, 4)
)
ANISOTROPY = {"zeeman": (0.3, -0.2, 0.5), "easy_axis": 0.4}
FAR = (1.0, -0.4, 0.3)
MODELS = {
    "square": SDModel(SQUARE, 6.0, 0.485, electron_kT=0.1),
    "square, mu": SDModel(SQUARE, 6.0, chemical_potential=-4.0, electron_kT=0.1, **ANISOTROPY),
    "odd square": SDModel(lattice.square(5, 3), 1.0, 0.3, electron_kT=0.2, hopping=FAR),
    "triangular": SDModel(TRIANGULAR, 3.0, 0.25, electron_kT=0.1, **ANISOTROPY),
    "triangular, mu": SDModel(
        TRIANGULAR, -2.0, chemical_potential=1.0, electron_kT=0.2, hopping=FAR
    ),
    "honeycomb": SDModel(HONEYCOMB, 2.0, 0.4, electron_kT=0.1),
    "tiny": SDModel(
        lattice.from_cell([[1, 0], [0, 5]], [[0, 0]], (2, 1)), 1.0, 0.25, electron_kT=0.2
    ),
    "isolated sites": SDModel(SQUARE, 2.0, 0.3, electron_kT=0.2, hopping=0.0),
    "no exchange": SDModel(SQUARE, 0.0, 0.3, electron_kT=0.2),
    "empty": SDModel(SQUARE, 2.0, 0.0, electron_kT=0.2),
    "full": SDModel(TRIANGULAR, 2.0, 1.0, electron_kT=0.2),
}
every_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
FIELDS = ("energy", "local_field", "density", "chemical_potential")
LARGE = {
    "square": SDModel(lattice.square(16), 6.0, 0.485, electron_kT=0.1),
    "triangular": SDModel(lattice.triangular(16), 3.0, 0.25, electron_kT=0.1),
}
COLORS = {"square": 16, "triangular": 64}


def random_spins(model, seed=1):
    return spins.random(model.lattice.n_sites, seed)


def rms(values):
    return np.sqrt((np.asarray(values) ** 2).mean())


def assert_states_agree(found, expected, atol):
    for field in FIELDS:
        values = getattr(found, field), getattr(expected, field)
        np.testing.assert_allclose(*values, rtol=0, atol=atol, err_msg=field)


@every_model
@pytest.mark.parametrize("method", ["coloured", "coloured-plain"])
def test_exact_trace_is_diagonalization(model, method):
    s = random_spins(model)
    found = kpm.solve(model, s, n_moments=1000, probing=method)
    assert_states_agree(found, exact.solve(model, s), atol=1e-9)
    assert found.field_error < 1e-9


@pytest.mark.parametrize("name", LARGE)
def test_exact_trace_with_the_default_number_of_moments(name):
    model, s = LARGE[name], random_spins(LARGE[name])
    found, expected = kpm.solve(model, s), exact.solve(model, s)
    assert abs(found.energy - expected.energy) / model.lattice.n_sites < 1e-6
    assert rms(found.local_field - expected.local_field) < 1e-6
    np.testing.assert_allclose(found.density.sum(), model.n_electrons, rtol=1e-6)


@pytest.mark.parametrize("name", ["square", "triangular, mu"])
def test_errors_fall_exponentially_with_the_number_of_moments(name):
    """Per step of M by the rate exp(-M pi kT / a), and the estimate bounds them."""
    model, s = MODELS[name], random_spins(MODELS[name])
    expected = exact.solve(model, s)
    a = Interval(*kpm.energy_bounds(model, s)).half_width
    step = int(2 * np.log(10) * a / (np.pi * model.electron_kT)) // 2 * 2
    states = [kpm.solve(model, s, n_moments=k * step) for k in (1, 2, 3)]
    errors = [rms(state.local_field - expected.local_field) for state in states]
    assert errors[1] < 0.05 * errors[0] and errors[2] < 0.05 * errors[1]
    for state, error in zip(states, errors, strict=True):
        assert error < 2 * state.field_error < 1e3 * error


def test_jackson_series_at_zero_temperature_approaches_a_gapped_state():
    lat = lattice.triangular(6)
    model, s = SDModel(lat, 3.0, 0.25), spins.perturbed(spins.tetrahedral(lat), 0.1, seed=2)
    expected = exact.solve(model, s)
    states = [kpm.solve(model, s, n_moments=n) for n in (100, 400, 1600)]
    errors = [rms(state.local_field - expected.local_field) for state in states]
    assert errors[1] < 0.3 * errors[0] and errors[2] < 0.3 * errors[1]
    assert errors[2] < 1e-5
    assert abs(states[2].energy - expected.energy) / lat.n_sites < 1e-4
    levels = expected.eigenvalues
    assert levels[17] < states[2].chemical_potential < levels[18]


def test_plain_series_beats_the_jackson_kernel_in_a_warm_state():
    """The reason to use the kernel at electron_kT = 0 only."""
    interval, kT, n = Interval(-9.0, 9.0), 0.05, 1000
    energies = np.linspace(-8, 8, 400)
    polynomials = np.cos(np.arange(n)[:, None] * np.arccos(energies / 9))
    occupation, _ = series.coefficients(interval, kT, n, 0.3)
    expected = scipy.special.expit((0.3 - energies) / kT)
    plain = np.abs(occupation @ polynomials - expected).max()
    damped = np.abs(series.jackson_kernel(n) * occupation @ polynomials - expected).max()
    assert plain < 1e-7
    assert damped > 1e-3


ESTIMATES = {
    "exact trace": {},
    "exact trace, few moments": {"n_moments": 20},
    "colors": {"n_probes": 18, "seed": 0},
    "colors, few moments": {"n_probes": 8, "seed": 0, "n_moments": 30},
    "random": {"n_probes": 5, "seed": 0, "n_moments": 40, "probing": "random"},
}


@pytest.mark.parametrize("arguments", ESTIMATES.values(), ids=ESTIMATES.keys())
@pytest.mark.parametrize("name", ["square", "square, mu", "triangular"])
def test_field_is_minus_the_gradient_of_the_estimated_energy(name, arguments):
    model, s = MODELS[name], random_spins(MODELS[name])
    laws.assert_field_is_gradient(
        lambda x: kpm.solve(model, x, **arguments).energy,
        lambda x: kpm.solve(model, x, **arguments).local_field,
        s,
    )


@pytest.mark.parametrize("method", ["coloured", "random"])
def test_gradient_at_zero_temperature(method):
    """With the kernel, energy, mu and field belong together as well."""
    model = SDModel(TRIANGULAR, 3.0, 0.3)
    arguments = {"n_moments": 60, "n_probes": 8, "seed": 0, "probing": method}
    laws.assert_field_is_gradient(
        lambda x: kpm.solve(model, x, **arguments).energy,
        lambda x: kpm.solve(model, x, **arguments).local_field,
        random_spins(model),
    )


def test_plain_field_is_not_the_gradient():
    model, s = MODELS["square"], random_spins(MODELS["square"])
    estimates = [
        kpm.solve(model, s, n_probes=8, seed=0, probing=method)
        for method in ("coloured", "coloured-plain")
    ]
    np.testing.assert_allclose(estimates[0].energy, estimates[1].energy, rtol=1e-14)
    assert rms(estimates[0].local_field - estimates[1].local_field) > 0.01


@pytest.mark.parametrize("name", LARGE)
def test_gradient_beats_the_plain_estimator_and_colors_beat_random_vectors(name):
    model, s = LARGE[name], random_spins(LARGE[name])
    expected = spins.transverse(s, exact.solve(model, s).local_field)

    def error(method):
        state = kpm.solve(model, s, 400, 2 * COLORS[name], method, seed=0)
        return rms(spins.transverse(s, state.local_field) - expected)

    gradient, plain, random = map(error, ("coloured", "coloured-plain", "random"))
    assert plain > 3 * gradient
    assert random > 20 * gradient


@pytest.mark.parametrize("method", ["coloured", "coloured-plain", "random", "random-plain"])
@pytest.mark.parametrize("name", LARGE)
def test_estimated_error_is_the_error_within_a_factor_of_two(name, method):
    model, s = LARGE[name], random_spins(LARGE[name])
    expected = exact.solve(model, s).local_field
    state = kpm.solve(model, s, 500, 2 * COLORS[name], method, seed=0)
    assert 0.5 < rms(state.local_field - expected) / state.field_error < 2


@pytest.mark.parametrize("method", ["coloured", "random"])
def test_gradient_density_holds_the_electrons(method):
    """A shift of all site energies is one of mu, so the estimate counts N_e."""
    model, s = MODELS["square"], random_spins(MODELS["square"])
    state = kpm.solve(model, s, 1000, n_probes=8, probing=method, seed=0)
    np.testing.assert_allclose(state.density.sum(), model.n_electrons, rtol=1e-9)


def test_exact_trace_has_all_symmetries():
    model = SDModel(SQUARE, 6.0, 0.485, electron_kT=0.2)
    s = random_spins(model)
    moves = laws.symmetries(SQUARE)
    laws.assert_invariant(lambda x: kpm.solve(model, x, 500).energy, s, moves)
    laws.assert_equivariant(lambda x: kpm.solve(model, x, 500).local_field, s, moves, rtol=1e-8)


def test_colors_do_not_choose_a_spin_axis():
    model = MODELS["square"]
    rotations = [move for move in laws.spin_rotations(SQUARE) if "reversal" not in move.name]
    laws.assert_equivariant(
        lambda x: kpm.solve(model, x, 600, n_probes=8, seed=0).local_field,
        random_spins(model),
        rotations,
        rtol=1e-6,
    )


def test_batches_equal_singles():
    model = MODELS["triangular"]
    batch = spins.random(6 * 20, seed=3).reshape(2, 3, 20, 3)
    together = kpm.solve(model, batch, 200, n_probes=10, seed=0)
    for index in np.ndindex(2, 3):
        alone = kpm.solve(model, batch[index], 200, n_probes=10, seed=0)
        for field in dataclasses.fields(kpm.EstimatedState):
            if field.name != "eigenvalues":
                values = getattr(together, field.name)[index], getattr(alone, field.name)
                np.testing.assert_array_equal(*values)


@pytest.mark.parametrize("as_kind", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_are_float64_of_the_kind_of_the_spins(as_kind, dtype):
    model = MODELS["square"]
    s = as_kind(random_spins(model).astype(dtype))
    state = kpm.solve(model, s, 100)
    for name in (*FIELDS, "field_error"):
        value = getattr(state, name)
        kind = torch.Tensor if as_kind is torch.as_tensor else np.ndarray | np.float64
        assert isinstance(value, kind)
        assert str(value.dtype).endswith("float64")


@pytest.mark.parametrize("name", ["square", "triangular, mu"])
def test_single_precision(name):
    model, s = MODELS[name], random_spins(MODELS[name])
    double = kpm.solve(model, s, 1000)
    single = kpm.solve(model, s.astype(np.float32), 1000)
    assert rms(single.local_field - double.local_field) < 2e-5
    assert abs(single.energy - double.energy) / model.lattice.n_sites < 1e-5
    assert rms(single.local_field - double.local_field) > 1e-9


@pytest.mark.parametrize("real", [torch.float32, torch.float64], ids=["complex64", "complex128"])
@pytest.mark.parametrize("name", ["square", "triangular, mu", "honeycomb"])
def test_torch_and_compiled_loops_agree(name, real):
    model = MODELS[name]
    s = torch.as_tensor(random_spins(model))
    compiled = solver._hamiltonian(model, s, Interval(-12, 12), real)
    by_torch = dataclasses.replace(compiled, compiled=False)
    vectors = probes.random(model.lattice.n_sites, 19, np.random.default_rng(0)).vectors(0, 19)
    c = np.random.default_rng(1).standard_normal(30) / np.arange(1, 31) ** 2
    atol = 1e-12 if real == torch.float64 else 1e-4
    found = [recursion.moments(h, vectors, 30) for h in (compiled, by_torch)]
    np.testing.assert_allclose(found[0][0], found[1][0], atol=1e2 * atol)
    gradients = [
        recursion.gradient(h, state, c)
        for h, (_, state) in zip((compiled, by_torch), found, strict=True)
    ]
    np.testing.assert_allclose(*gradients, atol=1e2 * atol)
    blocks = [recursion.expectation(h, vectors, c) for h in (compiled, by_torch)]
    np.testing.assert_allclose(*blocks, atol=1e2 * atol)


@pytest.mark.parametrize("real", [torch.float32, torch.float64], ids=["complex64", "complex128"])
def test_vectors_of_the_compiled_loops_begin_at_cache_lines(real):
    """Where they do not, a field takes up to a fifth longer."""
    vectors = probes.all_unit_vectors(20).vectors(0, 40)
    packed = recursion._packed(vectors, real)
    assert packed.ctypes.data % 64 == 0 and packed.strides[2] % 64 == 0
    assert packed.flags.c_contiguous and str(real).endswith(packed.dtype.name)


@pytest.mark.parametrize("method", kpm.PROBINGS)
def test_a_whole_solve_by_torch(monkeypatch, method):
    model, s = MODELS["triangular"], random_spins(MODELS["triangular"])
    expected = kpm.solve(model, s, 200, 10, method, seed=0)
    hamiltonian = solver._hamiltonian
    monkeypatch.setattr(
        solver,
        "_hamiltonian",
        lambda *arguments: dataclasses.replace(hamiltonian(*arguments), compiled=False),
    )
    assert_states_agree(kpm.solve(model, s, 200, 10, method, seed=0), expected, atol=1e-10)


@pytest.mark.gpu
@pytest.mark.parametrize("method", kpm.PROBINGS)
def test_gpu_agrees_with_the_cpu(method):
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    model, s = LARGE["triangular"], random_spins(LARGE["triangular"])
    for dtype in (np.float32, np.float64):
        arguments = {"n_moments": 400, "n_probes": 64, "seed": 0}
        cpu, gpu = (
            kpm.solve(model, s.astype(dtype), probing=method, device=device, **arguments)
            for device in ("cpu", "cuda")
        )
        assert_states_agree(gpu, cpu, atol=1e-4)


def test_vectors_that_do_not_fit_in_memory_are_recomputed(monkeypatch):
    model, s = MODELS["square"], random_spins(MODELS["square"])
    for method in ("coloured", "coloured-plain"):
        expected = kpm.solve(model, s, 300, probing=method)
        with monkeypatch.context() as patch:
            patch.setattr(solver, "MEMORY", 1)
            assert_states_agree(kpm.solve(model, s, 300, probing=method), expected, atol=1e-11)


def test_moments_are_traces_of_chebyshev_polynomials():
    model, s = MODELS["triangular"], random_spins(MODELS["triangular"])
    interval = Interval(-8.0, 9.5)
    h = solver._hamiltonian(model, torch.as_tensor(s), interval, torch.float64)
    vectors = probes.all_unit_vectors(model.lattice.n_sites)
    found, _ = recursion.moments(h, vectors.vectors(0, vectors.n_vectors), 24)
    x = (exact.solve(model, s).eigenvalues - interval.center) / interval.half_width
    expected = np.cos(np.arange(24)[:, None] * np.arccos(x)).sum(axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_step_coefficients_are_the_integrals():
    interval, mu, n = Interval(-3.0, 5.0), 0.7, np.arange(12)
    angle = np.pi * (np.arange(200000) + 0.5) / 200000
    energy = interval.center + interval.half_width * np.cos(angle)
    filled = (energy < mu).astype(float)
    for found, values in zip(
        series._step_coefficients(interval, 12, mu),
        (filled, filled * (energy - mu)),
        strict=True,
    ):
        expected = [(2 - (k == 0)) * (values * np.cos(k * angle)).mean() for k in n]
        np.testing.assert_allclose(found, expected, atol=3e-5)


def test_coefficients_of_a_warm_state_sum_to_the_functions():
    interval, kT, mu = Interval(-3.0, 5.0), 0.3, 0.7
    energy = np.linspace(-2.9, 4.9, 50)
    angle = np.arccos((energy - interval.center) / interval.half_width)
    occupation, potential = series.coefficients(interval, kT, 200, mu) @ np.cos(
        np.arange(200)[:, None] * angle
    )
    np.testing.assert_allclose(occupation, scipy.special.expit((mu - energy) / kT), atol=1e-12)
    np.testing.assert_allclose(potential, -kT * np.log1p(np.exp((mu - energy) / kT)), atol=1e-12)


@pytest.mark.parametrize("mu", [-20.0, 20.0])
def test_all_levels_are_filled_below_a_chemical_potential_above_them(mu):
    """Of 32 levels with mean 0 the grand potential is -32 mu, or 0."""
    model = SDModel(lattice.square(4), 2.0, chemical_potential=mu, electron_kT=0.0)
    found = kpm.solve(model, spins.random(16, seed=0))
    assert found.energy == pytest.approx(-32 * max(mu, 0), abs=1e-6)


def test_jackson_kernel():
    """g_0 = 1, falling to almost 0; a damped delta function is nowhere negative."""
    g = series.jackson_kernel(50)
    assert g[0] == pytest.approx(1)
    assert (np.diff(g) < 0).all() and 0 < g[-1] < 1e-3
    n, angle = np.arange(50), np.linspace(0, np.pi, 501)
    delta = (g * (2 - (n == 0)) * np.cos(n * 1.3) * np.cos(n * angle[:, None])).sum(axis=1)
    assert delta.min() > -1e-12


@every_model
def test_energy_bounds_enclose_the_spectrum(model):
    s = random_spins(model)
    levels = exact.solve(model, s).eigenvalues
    lower, upper = kpm.energy_bounds(model, s)
    assert lower < levels[0] and levels[-1] < upper
    if model.lattice.n_sites > 10 and np.ptp(levels) > 1:
        assert upper - lower < 1.15 * np.ptp(levels)


@pytest.mark.parametrize("order", [spins.neel, spins.ferromagnetic, spins.stripe])
def test_energy_bounds_enclose_ordered_states(order):
    """Where eigenvectors of the band edges are special, a Lanczos vector could miss them."""
    lat = lattice.square(16)
    model, s = SDModel(lat, 6.0, 0.5), order(lat)
    levels = exact.solve(model, s).eigenvalues
    lower, upper = kpm.energy_bounds(model, s)
    assert lower < levels[0] and levels[-1] < upper


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bounds", [(-6.5, 12.0), (-12.0, 6.5), (-1.0, 1.0)])
def test_violated_bounds_raise(bounds, dtype):
    model, s = MODELS["square"], random_spins(MODELS["square"])
    laws.assert_refused(
        lambda: kpm.solve(model, s.astype(dtype), 2000, energy_bounds=bounds),
        "energy_bounds",
        *bounds,
    )
    # The moments alone would tell, too.
    real = torch.float32 if dtype == np.float32 else torch.float64
    hamiltonian = solver._hamiltonian(model, torch.as_tensor(s), Interval(*bounds), real)
    with pytest.raises(RuntimeError, match="energy bounds"):
        recursion.moments(hamiltonian, probes.all_unit_vectors(36).vectors(0, 72), 2000)


@every_model
def test_bounds_that_are_given_must_enclose_the_spectrum(model):
    s = random_spins(model)
    levels = exact.solve(model, s).eigenvalues
    low, high, margin = levels[0], levels[-1], 3e-3 * np.ptp(levels)
    for bounds in ((low + margin, high), (low, high - margin)):
        if margin > 1e-9:
            laws.assert_refused(
                lambda b=bounds: kpm.solve(model, s, 64, energy_bounds=b), "energy_bounds"
            )
    wide = (low - max(margin, 0.1), high + max(margin, 0.1))
    found = [kpm.solve(model, s, 600, energy_bounds=b) for b in (None, wide)]
    assert_states_agree(found[0], found[1], 1e-6)
    if margin > 1e-9:  # not wider than needed
        kpm.solve(model, s, 64, energy_bounds=(low - 1e-3 * margin, high + 1e-3 * margin))


@pytest.mark.parametrize("scale", [1e-9, 1e9])
@pytest.mark.parametrize("name", [name for name in MODELS if name != "tiny"])
@pytest.mark.parametrize("kT", [0.0, 0.1])
def test_the_unit_of_energy_does_not_matter(name, kT, scale):
    plain = dataclasses.replace(MODELS[name], electron_kT=kT)
    energies = {"exchange_coupling", "electron_kT", "easy_axis", "chemical_potential"}
    changed = {
        field: scale * getattr(plain, field)
        for field in energies
        if getattr(plain, field) is not None
    }
    for field in ("hopping", "zeeman"):
        changed[field] = tuple(scale * x for x in getattr(plain, field))
    s, other = random_spins(plain), dataclasses.replace(plain, **changed)
    one, two = (kpm.solve(of, s, n_probes=16, seed=0) for of in (plain, other))
    np.testing.assert_allclose(two.density, one.density, atol=1e-8)
    for field in ("energy", "local_field", "field_error", "chemical_potential"):
        np.testing.assert_allclose(
            getattr(two, field) / scale, getattr(one, field), atol=1e-7, err_msg=field
        )
    np.testing.assert_allclose(
        np.array(kpm.energy_bounds(other, s)) / scale, kpm.energy_bounds(plain, s), atol=1e-9
    )


def test_electrons_without_any_energy_but_the_temperature():
    free = SDModel(SQUARE, 0.0, 0.3, electron_kT=1e-9, hopping=0.0)
    found = kpm.solve(free, random_spins(free))
    np.testing.assert_allclose(found.density, 0.6, atol=5e-6)


def test_colors_do_not_depend_on_the_unit_of_length():
    plain = lattice.triangular(12)
    for spacing in (1e-9, 7.3, 1e9):
        lat = lattice.from_cell(spacing * np.array(plain.vectors), [[0, 0]], (12, 12))
        for n in (4, 12, 16):
            np.testing.assert_array_equal(probes.colors(lat, n), probes.colors(plain, n))


@pytest.mark.parametrize(
    "lat, n_colors, distance",
    [
        (lattice.square(12), 9, 3),
        (lattice.square(12), 8, np.sqrt(8)),
        (lattice.square(10), 5, np.sqrt(5)),
        (lattice.triangular(12), 16, 4),
        (lattice.triangular(12), 12, np.sqrt(12)),
        (lattice.square(13, 7), 16, 3),
        (lattice.triangular(11), 16, 3),
        (HONEYCOMB, 6, 1.5),
        (lattice.square(5), 25, 5),
    ],
)
def test_sites_of_one_color_are_far_apart(lat, n_colors, distance):
    color = probes.colors(lat, n_colors)
    assert color.shape == (lat.n_sites,)
    assert color.min() >= 0 and color.max() < n_colors
    periods = np.array([[i, j] for i in (-1, 0, 1) for j in (-1, 0, 1)]) * lat.shape
    shifts = periods @ np.array(lat.vectors)
    separation = lat.positions[:, None] - lat.positions[None]
    lengths = np.linalg.norm(separation[..., None, :] + shifts, axis=-1)
    lengths[lengths < 1e-9] = np.inf
    same = color[:, None] == color[None]
    assert lengths.min(axis=-1)[same].min() >= distance - 1e-9


@pytest.mark.parametrize("n_vectors", [1, 2, 7, 40])
def test_random_vectors_estimate_the_identity(n_vectors):
    found = probes.random(5, n_vectors, np.random.default_rng(0))
    r = found.vectors(0, n_vectors).reshape(10, -1)
    product = r @ r.conj().T / found.norm
    np.testing.assert_allclose(np.diag(product), 1)


def test_colored_vectors_are_the_identity_between_near_sites():
    lat = lattice.square(6)
    found = probes.colored(lat, 19, np.random.default_rng(0))
    assert found.n_vectors == 18
    r = np.concatenate([found.vectors(0, 7), found.vectors(7, 18)], axis=2).reshape(72, 18)
    product = (r @ r.conj().T).reshape(36, 2, 36, 2)
    near = lat.directed_bonds(1)
    np.testing.assert_allclose(product[near[:, 0], :, near[:, 1]], 0, atol=1e-6)
    np.testing.assert_allclose(
        product[np.arange(36), :, np.arange(36)], np.broadcast_to(np.eye(2), (36, 2, 2)), atol=1e-6
    )


def test_seeds():
    model, s = MODELS["square"], random_spins(MODELS["square"])
    a, b, c, d = (
        float(kpm.solve(model, s, 100, n_probes=8, seed=seed).energy)
        for seed in (0, 0, 1, np.random.default_rng(0))
    )
    assert a == b == d != c


def test_spins_are_not_changed():
    s = torch.as_tensor(random_spins(MODELS["square"])).requires_grad_(True)
    before = s.detach().clone()
    state = kpm.solve(MODELS["square"], s, 100, n_probes=8, seed=0)
    np.testing.assert_array_equal(s.detach(), before)
    assert not state.energy.requires_grad


@pytest.mark.slow
@pytest.mark.parametrize("step", [10000, 16000, 20000, 30000])
def test_published_fields(authors_data, step):
    """Snapshots of arXiv:2105.08221; with a gap, 3000 moments do at electron_kT = 0.0025."""
    found = published.snapshot(authors_data / published.QUENCH / f"c{step}.dat")
    model = SDModel(found.lattice, 6.0, 0.485, electron_kT=0.0025)
    state = kpm.solve(model, found.spins.astype(np.float32), 3000, n_probes=450, seed=0)
    assert rms(state.local_field - found.local_field) <= 5e-4


MODEL = MODELS["square"]
GOOD = random_spins(MODEL)


@laws.bad_input(
    {
        "nan": (lambda: kpm.solve(MODEL, np.full((36, 3), np.nan)), "spins", "nan"),
        "not unit": (lambda: kpm.solve(MODEL, 1.1 * GOOD), "spins", 0.1),
        "another size": (lambda: kpm.solve(MODEL, spins.random(9, 0)), "spins", 36, "(9, 3)"),
        "empty batch": (lambda: kpm.solve(MODEL, np.zeros((0, 36, 3))), "spins", "(0, 36, 3)"),
        "method": (lambda: kpm.solve(MODEL, GOOD, probing="colored"), "probing", "'colored'"),
        "moments": (lambda: kpm.solve(MODEL, GOOD, 1), "n_moments", 1),
        "no probes": (lambda: kpm.solve(MODEL, GOOD, n_probes=0), "n_probes", 0),
        "one probe": (lambda: kpm.solve(MODEL, GOOD, n_probes=1), "n_probes", 2),
        "bounds": (lambda: kpm.solve(MODEL, GOOD, energy_bounds=(3, 2)), "energy_bounds", 3),
        "nan bound": (
            lambda: kpm.solve(MODEL, GOOD, energy_bounds=(np.nan, 9)),
            "energy_bounds",
            "nan",
        ),
        "one bound": (lambda: kpm.solve(MODEL, GOOD, energy_bounds=(9.0,)), "energy_bounds", 9.0),
        "three bounds": (lambda: kpm.solve(MODEL, GOOD, energy_bounds=(-9, 0, 9)), "energy_bounds"),
        "complex bound": (lambda: kpm.solve(MODEL, GOOD, energy_bounds=(-9j, 9)), "energy_bounds"),
        "a batch": (lambda: kpm.energy_bounds(MODEL, GOOD[None]), "spins", "(1, 36, 3)"),
    }
)
def test_bad_input_is_refused(call, mentioned):
    laws.assert_refused(call, *mentioned)
