"""Landau-Lifshitz dynamics: handedness, damping, order of the schemes, thermal equilibrium."""

from dataclasses import replace

import laws
import numpy as np
import pytest
import torch

from sdml import dynamics, exact, lattice, spins
from sdml.dynamics import LandauLifshitz, integrate
from sdml.model import SDModel

METHODS = sorted(dynamics.METHODS)
SQUARE = lattice.square(4)
STATE = spins.random(16, seed=5)
NEIGHBORS = torch.as_tensor(SQUARE.neighbors())
every_method = pytest.mark.parametrize("method", METHODS)


def uniform(*direction):
    """The same field on every spin."""
    h = torch.tensor(direction, dtype=torch.float64)
    return lambda s: h.to(s).expand(s.shape)


def heisenberg(s):
    """h of E = -sum over bonds of S_i.S_j - 0.2 sum S_z^2."""
    return s[..., NEIGHBORS, :].sum(-2) + 0.4 * s * torch.tensor([0, 0, 1]).to(s)


def heisenberg_energy(s):
    i, j = SQUARE.bonds().T
    return -(s[i] * s[j]).sum() - 0.2 * (s[:, 2] ** 2).sum()


def langevin(x):
    return 1 / np.tanh(x) - 1 / x


@every_method
def test_a_spin_along_x_in_a_field_along_z_turns_towards_y(method):
    """dS/dt = -S x h = -x x z = +y, by the angle h t."""
    s = integrate(np.eye(3)[:1], uniform(0, 0, 2.0), 1e-3, 100, damping=0.0, method=method)
    np.testing.assert_allclose(s, [[np.cos(0.2), np.sin(0.2), 0]], atol=1e-6)


@every_method
def test_damping_turns_a_spin_into_the_field(method):
    """tan(theta / 2) decays as exp(-alpha h t) while the spin turns by h t about the field."""
    h, damping, time, theta = 1.5, 0.3, 1.0, 1.2
    start = [[np.sin(theta), 0, np.cos(theta)]]
    s = integrate(np.array(start), uniform(0, 0, h), 1e-3, 1000, damping, method=method)
    end = 2 * np.arctan(np.tan(theta / 2) * np.exp(-damping * h * time))
    expected = [np.sin(end) * np.cos(h * time), np.sin(end) * np.sin(h * time), np.cos(end)]
    np.testing.assert_allclose(s[0], expected, atol=1e-6)


@every_method
def test_right_hand_side(method):
    """One short step is -S x h - alpha S x (S x h)."""
    h = 2 * np.random.default_rng(0).standard_normal((16, 3))
    damping, dt = 0.4, 1e-6
    moved = integrate(STATE, lambda s: torch.as_tensor(h), dt, 1, damping, method=method)
    torque = np.cross(STATE, h)
    expected = -torque - damping * np.cross(STATE, torque)
    np.testing.assert_allclose((moved - STATE) / dt, expected, atol=1e-4)


@every_method
@pytest.mark.parametrize("dtype, atol", [(np.float32, 3e-7), (np.float64, 1e-15)])
def test_spins_keep_unit_length(method, dtype, atol):
    s = integrate(
        STATE.astype(dtype), heisenberg, 0.2, 300, damping=0.2, kT=0.5, seed=0, method=method
    )
    np.testing.assert_allclose(np.linalg.norm(s.astype(float), axis=-1), 1, atol=atol)


@every_method
def test_damping_lowers_the_energy_to_the_ordered_state(method):
    s, energies = STATE, [heisenberg_energy(STATE)]
    for _ in range(60):
        s = integrate(s, heisenberg, 0.05, 20, damping=0.5, method=method)
        energies.append(heisenberg_energy(s))
    slopes = np.diff(energies)
    assert slopes.max() < 1e-9
    assert slopes[0] < -1
    field = heisenberg(torch.as_tensor(s)).numpy()
    assert np.linalg.norm(spins.torque(s, field), axis=-1).max() < 0.05


@every_method
@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_second_order_in_dt(method, damping):
    def final_state(dt):
        return integrate(STATE, heisenberg, dt, round(2 / dt), damping, method=method)

    laws.assert_order(final_state, 0.025, 2)


@every_method
def test_both_schemes_solve_the_same_equation(method):
    fine = [
        integrate(STATE, heisenberg, dt, round(1 / dt), 0.2, method=m)
        for dt, m in ((0.001, method), (0.001, "heun"))
    ]
    np.testing.assert_allclose(*fine, atol=2e-5)


@every_method
def test_precession_in_the_field_of_electrons_conserves_their_energy(method):
    lat = lattice.triangular(2)
    model = SDModel(lat, 3.0, 0.25, electron_kT=0.1)
    start = spins.perturbed(spins.tetrahedral(lat), 0.3, seed=1)

    def energy_drift(dt):
        s = integrate(
            start,
            lambda s: exact.solve(model, s).local_field,
            dt,
            round(4 / dt),
            0.0,
            method=method,
        )
        return float(exact.solve(model, s).energy - exact.solve(model, start).energy)

    coarse, fine = abs(energy_drift(0.4)), abs(energy_drift(0.1))
    assert fine < 1e-3 * model.exchange_coupling
    assert fine < max(coarse / 12, 1e-13)


def with_gauge(s):
    """The same motion: only the part of h perpendicular to S acts, however large the rest."""
    return heisenberg(s) + 7 * (1 + s[..., :1] ** 2) * s


@every_method
def test_a_field_along_the_spins_does_nothing(method):
    np.testing.assert_array_equal(
        integrate(STATE, lambda s: 5 * s, 0.1, 20, damping=0.3, method=method).round(12),
        STATE.round(12),
    )


@pytest.mark.parametrize("method", ["sib", "heun", "adams", "neutral"])
def test_the_explicit_schemes_do_not_see_the_parallel_field(method):
    plain, gauged = (
        integrate(STATE, h, 0.1, 50, damping=0.3, method=method) for h in (heisenberg, with_gauge)
    )
    np.testing.assert_allclose(gauged, plain, atol=1e-10)


def test_the_midpoint_rule_sees_a_varying_parallel_field_at_second_order():
    def difference(dt):
        ends = (
            integrate(STATE, h, dt, round(1 / dt), 0.3, method="midpoint")
            for h in (heisenberg, with_gauge)
        )
        return np.abs(np.subtract(*ends)).max()

    assert 3.8 < difference(0.02) / difference(0.01) < 4.2


@every_method
def test_equation_is_covariant_under_rotations_and_time_reversal(method):
    """A rotated start stays rotated; with the anisotropy about z the rotation is about z."""
    c, s = np.cos(1.1), np.sin(1.1)
    rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    end = integrate(STATE, heisenberg, 0.1, 30, damping=0.3, method=method)
    turned = integrate(STATE @ rotation.T, heisenberg, 0.1, 30, damping=0.3, method=method)
    np.testing.assert_allclose(turned, end @ rotation.T, atol=1e-11)
    # Without damping S -> -S reverses the motion.
    there = integrate(STATE, heisenberg, 0.005, 200, damping=0.0, method=method)
    back = -integrate(-there, heisenberg, 0.005, 200, damping=0.0, method=method)
    np.testing.assert_allclose(back, STATE, atol=1e-4)
    assert np.abs(there - STATE).max() > 0.5


def mean_along_field(x, dt, method, kT_factor=1.0, n_spins=20_000, seed=0):
    """Time average of m = S_z of free spins in h = z, kT = 1 / x, damping 1, and its error."""
    equation = LandauLifshitz(dt, 1.0, kT_factor / x, method)
    s = torch.as_tensor(spins.random(n_spins, seed))
    rng = dynamics.generator(equation, seed)
    average, n_steps = torch.zeros(n_spins, dtype=torch.float64), round(8 / dt)
    for step in range(n_steps):
        s = dynamics.evolve(s, uniform(0, 0, 1.0), [equation], rng)
        if step >= n_steps // 2:
            average += s[:, 2] / (n_steps - n_steps // 2)
    return float(average.mean()), float(average.std()) / np.sqrt(n_spins)


def ensemble_size(method):
    """The midpoint rule costs ten times as much."""
    return 1_500 if method == "midpoint" else 20_000


def extrapolated(x, method, kT_factor=1.0):
    """Mean and standard error at dt -> 0, linearly from 0.1 and 0.05."""
    size = ensemble_size(method)
    coarse, coarse_error = mean_along_field(x, 0.1, method, kT_factor, size, seed=1)
    fine, fine_error = mean_along_field(x, 0.05, method, kT_factor, size, seed=2)
    return 2 * fine - coarse, np.hypot(2 * fine_error, coarse_error)


@pytest.mark.slow
@every_method
@pytest.mark.parametrize("x", [1.0, 3.0])
def test_a_single_spin_reaches_thermal_equilibrium(method, x):
    """<m> = coth x - 1 / x at damping 1."""
    mean, error = extrapolated(x, method)
    assert error < 0.85 / ensemble_size(method) ** 0.5
    assert abs(mean - langevin(x)) < 3 * error


@pytest.mark.slow
def test_the_other_common_noise_strength_is_refused_by_the_single_spin():
    """2 alpha kT without 1 / (1 + alpha^2) is twice the temperature at damping 1."""
    mean, error = extrapolated(3.0, "sib", kT_factor=2.0)
    assert abs(mean - langevin(3.0)) > 10 * error
    assert abs(mean - langevin(1.5)) < 4 * error


@pytest.mark.slow
@every_method
def test_a_pair_of_spins_reaches_thermal_equilibrium(method):
    """E = -S_1.S_2: <S_1.S_2> = coth(1 / kT) - kT, at a damping that is not 1."""
    kT, n_pairs = 0.5, ensemble_size(method)
    start = spins.random(2 * n_pairs, seed=0).reshape(n_pairs, 2, 3)
    found = []
    for dt, seed in ((0.2, 1), (0.1, 2)):
        s = integrate(start, lambda s: s.flip(-2), dt, round(8 / dt), 0.5, kT, seed, method)
        product = (s[:, 0] * s[:, 1]).sum(-1)
        found.append((product.mean(), product.std() / np.sqrt(n_pairs)))
    (coarse, coarse_error), (fine, fine_error) = found
    error = np.hypot(2 * fine_error, coarse_error)
    assert error < 1.4 / n_pairs**0.5
    assert abs(2 * fine - coarse - langevin(1 / kT)) < 3 * error


@pytest.mark.slow
@pytest.mark.parametrize("method", [m for m in METHODS if m != "neutral"])  # as 'adams' does
def test_an_open_chain_has_the_energy_of_the_transfer_matrix(method):
    """E = -sum S_i.S_(i+1), free ends: <S_i.S_(i+1)> = coth(1 / kT) - kT on every bond.

    Fisher, Am. J. Phys. 32, 343 (1964), doi 10.1119/1.1970340.
    """
    kT, n_chains, length = 0.5, ensemble_size(method) // 50, 17

    def chain(s):
        h = torch.zeros_like(s)
        h[:, 1:] += s[:, :-1]
        h[:, :-1] += s[:, 1:]
        return h

    def bond(dt, seed):
        equation = LandauLifshitz(dt, 0.5, kT, method)
        rng = dynamics.generator(equation, seed)
        s = torch.as_tensor(spins.random(n_chains * length, seed)).view(n_chains, length, 3)
        average, n_steps = torch.zeros(n_chains, dtype=torch.float64), round(30 / dt)
        for step in range(n_steps):
            s = dynamics.evolve(s, chain, [equation], rng)
            if step >= n_steps // 2:
                average += (s[:, 1:] * s[:, :-1]).sum(-1).mean(-1)
        average /= n_steps - n_steps // 2
        return float(average.mean()), float(average.std()) / n_chains**0.5

    (coarse, coarse_error), (fine, fine_error) = bond(0.1, 1), bond(0.05, 2)
    error = np.hypot(2 * fine_error, coarse_error)
    assert error < 0.12 / n_chains**0.5
    assert abs(2 * fine - coarse - langevin(1 / kT)) < 3 * error


def test_ten_thousand_steps_keep_the_length():
    s = integrate(STATE, heisenberg, 0.1, 10_000, damping=0.1, kT=0.2, seed=0, method="sib")
    np.testing.assert_allclose(np.linalg.norm(s, axis=-1), 1, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dt", [0.05, 0.2])
def test_the_midpoint_rule_keeps_bilinear_energies(dt):
    s = integrate(STATE, heisenberg, dt, 500, damping=0.0, method="midpoint")
    assert abs(heisenberg_energy(s) - heisenberg_energy(STATE)) < 1e-11
    assert np.abs(s - STATE).max() > 0.5


def biquadratic(s):
    """h of E = -sum over bonds of (S_i.S_j)^2, not linear in S."""
    neighbors = s[..., NEIGHBORS, :]
    return 2 * ((neighbors * s[..., None, :]).sum(-1, keepdim=True) * neighbors).sum(-2)


def biquadratic_energy(s):
    i, j = SQUARE.bonds().T
    return -((s[i] * s[j]).sum(-1) ** 2).sum()


@pytest.mark.slow
def test_the_midpoint_rule_bounds_other_energies():
    """The deviation does not grow with time: as large in the last quarter as in the first."""
    s, deviations = STATE, []
    for _ in range(100):
        s = integrate(s, biquadratic, 0.05, 10, damping=0.0, method="midpoint")
        deviations.append(abs(biquadratic_energy(s) - biquadratic_energy(STATE)))
    quarters = np.max(np.reshape(deviations, (4, -1)), axis=1)
    assert quarters.max() < 0.02 * abs(biquadratic_energy(STATE))
    assert quarters[-1] < 3 * quarters[0]


@pytest.mark.parametrize(
    "method, time, coarsest",
    [("sib", 1, 0.02), ("heun", 1, 0.02), ("adams", 4, 0.005), ("neutral", 4, 0.005)],
)
def test_the_energy_of_explicit_schemes_drifts_at_second_order(
    method, time, coarsest, record_property
):
    """At times at which the drift is far from a change of sign."""

    def drift(dt):
        s = integrate(STATE, heisenberg, dt, round(time / dt), damping=0.0, method=method)
        return abs(heisenberg_energy(s) - heisenberg_energy(STATE)) / 16

    drifts = [drift(coarsest / halvings) for halvings in (1, 2, 4)]
    orders = np.log2(drifts[:-1]) - np.log2(drifts[1:])
    record_property("energy drift", [float(x) for x in drifts])
    assert drifts[0] < 1e-2
    assert orders.min() > 1.9, orders


def trajectory(start, n_steps, method, **options):
    """The spins before and after every step; of 'adams' and 'neutral' as they ask for their fields.

    From step to step they have a memory, so that steps of one call each would not be their own.
    """
    if method not in dynamics.WEIGHTS:
        states = [start]
        for _ in range(n_steps):
            states.append(integrate(states[-1], heisenberg, n_steps=1, method=method, **options))
        return states
    asked = []

    def field(s):
        asked.append(s.numpy())
        return heisenberg(s)

    end = integrate(start, field, n_steps=n_steps, method=method, **options)
    begun = 2 * (len(dynamics.WEIGHTS[method]) - 1)  # the first steps are of 'sib' and ask twice
    return [*asked[:begun:2], *asked[begun:], end]


LIMITS = {"adams": (0.33, 0.54, 0.65, 0.82), "neutral": (0.60, 0.75, 0.80, 0.82)}


@pytest.mark.parametrize("method", LIMITS)
def test_the_damping_that_a_memory_needs(method):
    """A small tilt decays for steps below the stated limits, and grows for those above."""

    def tilt(length, damping):
        start = np.array([[1e-4, 0, 1.0]])
        dt = length / abs(1j - damping)
        end = integrate(start, uniform(0, 0, 1), dt, 1000, damping, method=method)
        return np.linalg.norm(end[0, :2])

    for limit, damping in zip(LIMITS[method], (0.01, 0.05, 0.1, 0.3), strict=True):
        assert tilt(0.9 * limit, damping) < 0.5e-4
        assert tilt(1.1 * limit, damping) > 2e-4


def principal_root(method, x):
    """Factor by which a step multiplies a normal mode of exact factor exp(x)."""
    weights = dynamics.WEIGHTS[method]
    polynomial = np.array([1, -1, *(0 for _ in weights[1:])]) - x * np.array([0, *weights])
    return min(np.roots(polynomial), key=lambda root: abs(root - np.exp(x)))


def decay(method, dt, damping, omega=0.15):
    """What a step takes off ln of the amplitude of a spin wave, in units of alpha omega dt."""
    wave = 1e-4 * (-1.0) ** SQUARE.cells[:, 0]  # of frequency 4 in the field of the neighbors
    start = np.stack([wave, 0 * wave, np.sqrt(1 - wave**2)], axis=-1)

    def field(s):
        return omega / 4 * s[..., NEIGHBORS, :].sum(-2)

    ends = [integrate(start, field, dt, n, damping, method=method) for n in (20, 40)]
    first, last = (abs(complex(*end[0, :2])) for end in ends)
    return -np.log(last / first) / 20 / (damping * omega * dt)


@pytest.mark.parametrize("method", LIMITS)
@pytest.mark.parametrize("dt", [1, 2, 3])
def test_a_spin_wave_decays_by_the_root_of_the_scheme(method, dt):
    for damping in (0.05, 0.3):
        root = principal_root(method, 0.15 * dt * (1j - damping))
        expected = -np.log(abs(root)) / (damping * 0.15 * dt)
        assert decay(method, dt, damping) == pytest.approx(expected, abs=1e-3)


def test_neutral_keeps_the_damping_of_the_top_of_a_band():
    """Within 10 % at omega dt = 0.3, where 'adams' forgets most of a small damping."""
    for damping in (0.01, 0.05, 0.1, 0.3):
        assert abs(decay("neutral", 2, damping) - 1) < 0.1
    assert decay("adams", 2, 0.01) < 0.5
    growth = {method: np.log(abs(principal_root(method, 0.3j))) for method in LIMITS}
    assert growth["adams"] == pytest.approx(0.3**4 / 4, rel=0.25)
    assert 0 < growth["neutral"] < 1e-4


@every_method
@pytest.mark.parametrize("dtype, most", [(np.float64, 1e-8), (np.float32, 1e-5)])
def test_damping_lets_the_energy_rise_in_no_step(method, dtype, most):
    states = trajectory(STATE.astype(dtype), 600, dt=0.05, damping=0.1, method=method)
    energies = [heisenberg_energy(s.astype(float)) for s in states]
    assert len(energies) == 601
    assert np.diff(energies).max() / 16 <= most
    assert energies[-1] < energies[0] - 16


def test_a_step_that_is_too_large_for_the_midpoint_rule_is_told():
    with pytest.raises(RuntimeError, match=r"midpoint: the last estimate still moves by .* dt = 9"):
        integrate(STATE, heisenberg, 9.0, 1, method="midpoint")


def test_the_midpoint_rule_takes_a_field_in_single_precision():
    """In double precision the iteration ends at the rounding of the field."""

    def rounded(s):
        return heisenberg(s.float()).to(s)

    ends = [integrate(STATE, h, 0.1, 20, method="midpoint") for h in (heisenberg, rounded)]
    np.testing.assert_allclose(*ends, atol=1e-5)


@every_method
@pytest.mark.parametrize("damping", [0.0, 0.5])
def test_the_suggested_step_errs_as_it_says(method, damping):
    """A spin close to its axis: angle and logarithm of the tilt against omega t (1 + i alpha)."""
    omega, error, tilt = 2.5, 2e-3, 1e-4
    dt = dynamics.suggested_dt(omega, damping, error=error, method=method)
    s = np.array([[tilt, 0, (1 - tilt**2) ** 0.5]])
    n_steps = 10
    end = integrate(s, uniform(0, 0, omega), dt, n_steps, damping, method=method)[0]
    expected = omega * dt * n_steps * (1j - damping)
    found = np.log(complex(end[0], end[1]) / tilt)
    found += 2j * np.pi * round((expected.imag - found.imag) / (2 * np.pi))
    deviation = abs(found - expected) / abs(expected)
    assert deviation == pytest.approx(error, rel=0.1)


def test_the_suggested_step_knows_the_growth_of_the_method():
    """It is smaller where a small damping would not be felt, and the rate then errs by 0.1."""
    loose = {"damping": 0.05, "error": 0.03}
    steps = {method: dynamics.suggested_dt(0.15, **loose, method=method) for method in METHODS}
    assert steps["adams"] < steps["neutral"] < steps["midpoint"]
    dt = dynamics.suggested_dt(1.0, 1e-3, error=0.03, method="adams")
    assert np.log(abs(principal_root("adams", dt * (1j - 1e-3)))) == pytest.approx(
        -0.9e-3 * dt, rel=0.05
    )


def test_the_suggested_step_knows_heat_and_fields():
    hot = dynamics.suggested_dt(0.01, damping=0.5, kT=2.0, error=1e-2)
    assert hot == pytest.approx(1.5e-2)
    field = 3 * spins.random(10, seed=0)
    assert dynamics.suggested_dt(field) == pytest.approx(dynamics.suggested_dt(3.0))
    for call, *named in (
        (lambda: dynamics.suggested_dt(0.0), "frequency", 0.0),
        (lambda: dynamics.suggested_dt([0.5] * 100), "frequency", "(..., 3)", "(100,)"),
        (lambda: dynamics.suggested_dt(1.0, error=0.0), "error", 0.0),
        (lambda: dynamics.suggested_dt(1.0, damping=-1.0), "damping", -1.0),
        (lambda: dynamics.suggested_dt(1.0, kT=-1.0), "kT", -1.0),
    ):
        laws.assert_refused(call, *named)


def test_noise_has_the_stated_strength():
    equation = LandauLifshitz(dt=0.02, damping=0.7, kT=0.3)
    s = torch.as_tensor(spins.random(50_000, seed=0))
    eta = dynamics.thermal_noise(s, equation, dynamics.generator(equation, 1)).numpy()
    expected = 2 * 0.7 * 0.3 / (1 + 0.7**2) / 0.02 * np.eye(3)
    deviation = np.abs(eta.T @ eta / len(eta) - expected).max() / expected.max()
    assert deviation < 4 * np.sqrt(2 / len(eta))
    assert dynamics.thermal_noise(s, LandauLifshitz(0.02, 0.7), None) is None


@pytest.mark.parametrize("x", [1.0, 3.0])
def test_a_run_in_pieces_goes_on_with_a_generator(x):
    """<m> = coth x - 1/x step by step; a number repeats the noise of its first step."""
    start, n_steps = torch.as_tensor(spins.random(4000, 1)), 200
    given = {"dt": 0.05, "n_steps": 1, "damping": 1.0, "kT": 1 / x}
    rng, pieces, repeated = torch.Generator().manual_seed(0), start, start
    for _ in range(n_steps):
        pieces = integrate(pieces, uniform(0, 0, 1.0), **given, seed=rng)
        repeated = integrate(repeated, uniform(0, 0, 1.0), **given, seed=0)
    exact_m = 1 / np.tanh(x) - 1 / x
    assert float(pieces[:, 2].mean()) == pytest.approx(exact_m, abs=4 / np.sqrt(3 * 4000))
    assert abs(float(repeated[:, 2].mean()) - exact_m) > 0.1
    whole = torch.Generator().manual_seed(0)
    at_once = integrate(start, uniform(0, 0, 1.0), **given | {"n_steps": n_steps}, seed=whole)
    torch.testing.assert_close(pieces, at_once, rtol=0, atol=0)


@pytest.mark.parametrize("seed", [np.int64(3), np.uint8(3), np.int32(3), torch.tensor(3)])
def test_a_seed_may_be_any_whole_number(seed):
    given = {"dt": 0.1, "n_steps": 3, "kT": 0.2}
    expected = integrate(STATE, heisenberg, **given, seed=3)
    np.testing.assert_array_equal(integrate(STATE, heisenberg, **given, seed=seed), expected)
    np.testing.assert_array_equal(spins.random(5, seed), spins.random(5, 3))
    np.testing.assert_array_equal(spins.perturbed(STATE, 0.1, seed), spins.perturbed(STATE, 0.1, 3))
    np.testing.assert_array_equal(spins.random_rotation(seed), spins.random_rotation(3))


@pytest.mark.parametrize(
    "make", [lambda: torch.Generator().manual_seed(3), lambda: np.random.default_rng(3)]
)
def test_a_generator_goes_on_wherever_a_seed_is_taken(make):
    draws = {
        "random": lambda rng: spins.random(5, rng),
        "perturbed": lambda rng: spins.perturbed(STATE, 0.1, rng),
        "rotation": lambda rng: spins.random_rotation(rng),
        "integrate": lambda rng: integrate(STATE, heisenberg, 0.1, 3, kT=0.2, seed=rng),
        "number": lambda rng: np.array([spins.seed_number(rng)]),
    }
    for name, drawn in draws.items():
        rng, again = make(), make()
        first = drawn(rng)
        np.testing.assert_array_equal(first, drawn(again), err_msg=name)
        assert np.abs(first - drawn(rng)).max() > 1e-3, name


@every_method
@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_no_step_gives_spins_of_their_own(method, kind):
    start = kind(STATE)
    for end in (
        integrate(start, heisenberg, 0.1, 0, method=method),
        dynamics.evolve(torch.as_tensor(start), heisenberg, []),
    ):
        assert (end == start).all()
        end[0] = 0
        assert (start == kind(STATE)).all()


@every_method
def test_a_seed_fixes_the_noise(method):
    runs = [
        integrate(STATE, heisenberg, 0.1, 20, kT=0.2, seed=seed, method=method)
        for seed in (3, 3, 4)
    ]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert np.abs(runs[0] - runs[2]).max() > 0.01


@every_method
@pytest.mark.parametrize("as_kind", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_final_spins_are_in_the_dtype_and_kind_of_the_start(method, as_kind, dtype):
    start = as_kind(STATE.astype(dtype))
    seen = []

    def field(s):
        seen.append(s)
        return heisenberg(s)

    end = integrate(start, field, 0.1, 3, kT=0.1, seed=0, method=method)
    assert type(end) is type(start)
    assert end.dtype == start.dtype
    assert end.shape == (16, 3)
    assert all(isinstance(s, torch.Tensor) and s.shape == (16, 3) for s in seen)
    np.testing.assert_array_equal(np.asarray(start), STATE.astype(dtype))


@every_method
def test_batches_equal_singles(method):
    batch = spins.random(3 * 16, seed=0).reshape(3, 16, 3)
    together = integrate(batch, heisenberg, 0.1, 20, method=method)
    for k in range(3):
        alone = integrate(batch[k], heisenberg, 0.1, 20, method=method)
        np.testing.assert_allclose(together[k], alone, atol=1e-13)


def test_steps_add_up():
    whole = integrate(STATE, heisenberg, 0.1, 20)
    half = integrate(integrate(STATE, heisenberg, 0.1, 12), heisenberg, 0.1, 8)
    np.testing.assert_array_equal(whole, half)
    np.testing.assert_array_equal(integrate(STATE, heisenberg, 0.1, 0), STATE)


def test_a_field_that_is_not_finite_is_reported():
    with pytest.raises(FloatingPointError, match=r"spins.*dt = 0.1"):
        integrate(STATE, lambda s: s * float("nan"), 0.1, 3)


def start(**changes):
    arguments = {"spins": STATE, "local_field": heisenberg, "dt": 0.1, "n_steps": 2} | changes
    return lambda: integrate(**arguments)


@laws.bad_input(
    {
        "dt 0": (start(dt=0.0), "dt", 0.0),
        "dt negative": (start(dt=-0.1), "dt", -0.1),
        "dt nan": (start(dt=float("nan")), "dt", "nan"),
        "damping": (start(damping=-0.1), "damping", -0.1),
        "damping nan": (start(damping=float("nan")), "damping", "nan"),
        "kT": (start(kT=-0.1, seed=0), "kT", -0.1),
        "no seed": (start(kT=0.1), "seed", 0.1),
        "true": (start(kT=0.1, seed=True), "seed", True),
        "half a seed": (start(kT=0.1, seed=0.5), "seed", 0.5),
        "long seed": (start(kT=0.1, seed=2**70), "seed", 2**70),
        "start true": (lambda: spins.random(4, True), "seed", True),
        "start text": (lambda: spins.random(4, "3"), "seed", "3"),
        "method": (start(method="euler"), "method", "euler", "sib", "heun"),
        "n_steps": (start(n_steps=-1), "n_steps", -1),
        "n_steps fraction": (start(n_steps=2.5), "n_steps", 2.5),
        "spins": (start(spins=2 * STATE), "spins", "deviation is 1"),
        "spins nan": (start(spins=np.full((16, 3), np.nan)), "spins", "nan"),
        "field of another shape": (start(local_field=lambda s: s[:4]), "local_field", "(4, 3)"),
    }
)
def test_bad_input_is_refused(call, mentioned):
    laws.assert_refused(call, *mentioned)


@every_method
def test_a_field_may_keep_its_memory_and_work_in_place(method):
    """What an engine does with its arrays is its own affair."""
    buffer = torch.empty(16, 3, dtype=torch.float64)

    def kept(s):
        return buffer.copy_(heisenberg(s))

    def in_place(s):
        h = heisenberg(s)
        s.zero_()
        return h

    given = {"dt": 0.05, "n_steps": 20, "damping": 0.1, "method": method}
    expected = integrate(STATE, heisenberg, **given)
    for field in (kept, in_place):
        np.testing.assert_array_equal(integrate(STATE, field, **given), expected)


@pytest.mark.parametrize("method", dynamics.WEIGHTS)
def test_a_memory_ends_at_the_marks_of_a_trajectory(method):
    """What is resumed at a mark goes on bit for bit, and a run without the mark is another."""
    equation, start = LandauLifshitz(0.1, 0.3, method=method), torch.as_tensor(STATE)
    found = dict(dynamics.trajectory(start, heisenberg, equation, [5, 12]))
    later = dict(dynamics.trajectory(found[5], heisenberg, equation, [12], begun=5))
    assert torch.equal(later[12], found[12])
    whole = dict(dynamics.trajectory(start, heisenberg, equation, [12]))
    assert 1e-6 < (whole[12] - found[12]).abs().max() < 1e-2


def test_a_trajectory_passes_the_marks_of_the_integrator():
    """From any mark on, with the generator as it was there, it goes on as if it had not stopped."""
    equation, field = LandauLifshitz(0.1, 0.3, 0.2), uniform(0, 0, 1.0)
    start, rng = torch.as_tensor(spins.random(4, 0)), torch.Generator().manual_seed(1)
    marks = [0, 2, 5]
    found = {}
    for step, s in dynamics.trajectory(start, field, equation, marks, rng):
        found[step] = s
        if step == 2:
            state = rng.get_state()
    assert list(found) == marks
    for step, s in found.items():
        expected = dynamics.integrate(start, field, 0.1, step, 0.3, 0.2, seed=1)
        torch.testing.assert_close(s, expected, rtol=0, atol=0)
    later = dynamics.trajectory(found[2], field, equation, [5], rng.set_state(state), begun=2)
    torch.testing.assert_close(dict(later)[5], found[5], rtol=0, atol=0)
    by_step = dynamics.trajectory(
        start, field, lambda step: replace(equation, kT=0.1 * step), [3], torch.Generator()
    )
    equations = [replace(equation, kT=0.1 * step) for step in range(3)]
    torch.testing.assert_close(
        next(by_step)[1], dynamics.evolve(start, field, equations, torch.Generator())
    )
