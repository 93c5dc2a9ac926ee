"""Explorers compute what their controls say, draw it anew on every change, and close figures."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from sdml import exact, forcefield, lattice, plotting, spins
from sdml.dynamics import LandauLifshitz
from sdml.model import SDModel
from sdml.plotting import explorers, widgets

LATTICES = (lattice.triangular(6), lattice.square(6))
CASES = {
    f"{lat.name}, {name}": (lat, s) for lat in LATTICES for name, s in spins.textures(lat).items()
}
EQUATION = LandauLifshitz(0.5, 0.2)


@pytest.fixture
def interactive(monkeypatch):
    """No batch run."""
    monkeypatch.delenv(widgets.BATCH, raising=False)


@pytest.fixture(scope="module")
def field():
    return forcefield.load("square")


def recorder():
    """A list, and a draw function that puts what it gets on it."""
    drawn = []

    def draw(*given):
        drawn.append(given[0] if len(given) == 1 else given)
        return plt.figure()

    return drawn, draw


# --- the Hamiltonian


@pytest.fixture
def hamiltonian(interactive):
    """(controls by name, drawn spectra) of a Hamiltonian explorer."""
    drawn, draw = recorder()
    box = explorers.hamiltonian_explorer(draw, CASES, electron_kT=0.01).children[0]
    return dict(zip(("spins", "coupling", "filling"), box.children, strict=True)), drawn


def test_every_control_of_the_hamiltonian_redraws(hamiltonian):
    controls, drawn = hamiltonian
    controls["spins"].value = controls["spins"].options[2]
    controls["coupling"].value = 1.5
    controls["filling"].value = 0.4
    assert len(drawn) == 4
    assert (drawn[0].model.exchange_coupling, drawn[-1].model.exchange_coupling) == (3.0, 1.5)
    assert (drawn[0].model.filling, drawn[-1].model.filling) == (0.25, 0.4)
    np.testing.assert_array_equal(drawn[-1].spins, CASES[controls["spins"].value][1])
    assert not plt.get_fignums(), "figures must be closed"


@pytest.mark.parametrize("name", ["triangular, tetrahedral", "square, neel", "square, random"])
def test_the_explorer_shows_the_energy_of_the_exact_solution(hamiltonian, name):
    """Four by four Bloch phases of 6 x 6 sites are the lattice of 24 x 24."""
    controls, drawn = hamiltonian
    controls["spins"].value = name
    lat, s = CASES[name]
    large = getattr(lattice, lat.name)(24)
    expected = exact.solve(
        SDModel(large, 3.0, filling=0.25, electron_kT=0.01), s[lat.site_index(large.cells, 0)]
    )
    found = drawn[-1].state
    assert found.energy / 36 == pytest.approx(expected.energy / 576, abs=1e-10)
    assert found.chemical_potential == pytest.approx(expected.chemical_potential, abs=1e-8)


@pytest.mark.parametrize("name", ["triangular, coplanar_120", "square, random"])
def test_the_figure_shows_every_site_and_the_chemical_potential(interactive, name):
    shown = []

    def draw(found):
        shown.append((found, explorers.spectrum_figure(found)))
        return shown[-1][1]

    explorers.hamiltonian_explorer(draw, {name: CASES[name]})
    found, figure = shown[0]
    bands, levels, fields = figure.axes[1:4]
    (line,) = bands.get_lines()[:1]
    assert line.get_ydata()[0] == found.state.chemical_potential
    assert [tick.get_text() for tick in bands.get_xticklabels()] == list(found.path.labels)
    assert bands.get_ylim() == levels.get_ylim()
    along, across = fields.get_lines()[0].get_data()
    np.testing.assert_allclose(along, (found.state.local_field * found.spins).sum(-1))
    np.testing.assert_allclose(along**2 + across**2, (found.state.local_field**2).sum(-1))
    assert f"{-found.state.energy / 36:.4f}" in bands.get_title()


@pytest.mark.parametrize("filling", [0.0, 1.0])
def test_empty_and_full_bands_are_drawn(interactive, filling):
    case = {"one": CASES["square, random"]}
    assert explorers.hamiltonian_explorer(explorers.spectrum_figure, case, 2.0, filling)


# --- a quench


def controls_of(box):
    """play, restart, damping, kT."""
    return box.children[0].children


def played(play, n_frames):
    """What the browser sets while it plays."""
    for number in range(play.value + 1, play.value + n_frames + 1):
        play.value = number


def test_playing_goes_on_and_cools_to_lower_energy(interactive, field):
    drawn, draw = recorder()
    course = explorers.short_quench(field, 12, EQUATION, n_frames=2)
    box = explorers.live_quench(draw, course, field, EQUATION, n_steps=2)
    play, _, damping, _ = controls_of(box)
    damping.value = 0.6
    played(play, 3)
    assert [len(c.time) for c in drawn] == [3, 4, 5, 6]
    np.testing.assert_array_equal(drawn[-1].time[:3], course.time)
    assert (np.diff(drawn[-1].energy) < 0).all()
    expected = next(explorers.continued(course, field, LandauLifshitz(0.5, 0.6), 2))
    np.testing.assert_allclose(drawn[1].energy, expected.energy)
    assert not plt.get_fignums(), "figures must be closed"


def test_sliders_hold_from_the_next_frame_on(interactive, field):
    drawn, draw = recorder()
    course = explorers.begun(field, 12, 0)
    play, _, damping, _ = controls_of(explorers.live_quench(draw, course, field, EQUATION))
    for chosen in (0.1, 0.9):
        damping.value = chosen
        played(play, 1)
        course = next(explorers.continued(course, field, LandauLifshitz(0.5, chosen)))
        np.testing.assert_allclose(drawn[-1].energy, course.energy)
    assert len(drawn) == 3


def test_stopping_keeps_the_course(interactive, field):
    """The stop button, and playing on after the last frame, set the number back."""
    drawn, draw = recorder()
    box = explorers.live_quench(draw, explorers.begun(field, 12, 0), field, EQUATION, n_frames=2)
    play = controls_of(box)[0]
    played(play, 2)
    assert play.value == play.max
    play.value = 0
    assert len(drawn) == 3
    played(play, 1)
    assert [len(c.time) for c in drawn] == [1, 2, 3, 4]


def test_heat_raises_the_energy_and_restart_draws_new_spins(interactive, field):
    drawn, draw = recorder()
    ordered = explorers.short_quench(field, 12, EQUATION, n_frames=8)
    play, restart, _, kT = controls_of(explorers.live_quench(draw, ordered, field, EQUATION))
    kT.value = kT.max
    played(play, 4)
    assert drawn[-1].energy[-1] > ordered.energy[-1]
    restart.click()
    assert drawn[-1].time.tolist() == [0.0]
    np.testing.assert_allclose(drawn[-1].spins, spins.random(144, 1), atol=1e-6)
    restart.click()
    assert not np.allclose(drawn[-1].spins, drawn[-2].spins)


@pytest.mark.parametrize("kind", ["square", "triangular"])
def test_the_figure_of_a_course_shows_its_map_and_curves(kind):
    course = explorers.short_quench(forcefield.load(kind), 12, EQUATION, n_frames=2)
    figure = explorers.course_figure(course)
    site_map, order, energy = figure.axes[:3]
    np.testing.assert_array_equal(site_map.collections[0].get_array(), course.values)
    np.testing.assert_array_equal(order.get_lines()[0].get_ydata(), course.order)
    np.testing.assert_array_equal(energy.get_lines()[0].get_ydata(), course.energy)
    plt.close(figure)


# --- frames and parity


def test_the_map_player_shows_times(interactive):
    lat, drawn = lattice.square(4), []

    def draw(axes, of, values):
        drawn.append(values)
        return plotting.site_map(axes, of, values)

    values, times = spins.random(3 * 16, 0)[:, 0].reshape(3, 16), np.array([0.0, 2.5, 10.0])
    box = explorers.map_player(draw, lat, values, times)
    play, slider = box.children[0].children
    assert [label for label, _ in slider.options] == ["0", "2.5", "10"]
    slider.index = 2  # what the play button sets in the browser
    np.testing.assert_array_equal(drawn, values[[0, 2]])
    assert play.max == 2
    assert not plt.get_fignums(), "figures must be closed"


def test_a_selector_draws_the_chosen_case(interactive):
    drawn, draw = recorder()
    box = widgets.selector(draw, {"random": 1, "holes": 2})
    box.children[0].value = "holes"
    assert drawn == [("random", 1), ("holes", 2)]


def test_the_parity_figure_has_a_panel_for_each_case():
    rng = np.random.default_rng(0)
    cases = {name: (rng.normal(size=(50, 3)),) * 2 for name in ("random", "early", "holes")}
    figure = plotting.parity_figure(cases, columns=2)
    assert [axes.get_title() for axes in figure.axes] == [*cases, ""]
    plt.close(figure)


def test_nothing_is_made_in_a_batch_run(monkeypatch, field):
    monkeypatch.setenv(widgets.BATCH, "1")
    drawn, draw = recorder()
    course = explorers.begun(field, 12, 0)
    made = [
        explorers.hamiltonian_explorer(draw, CASES),
        explorers.live_quench(draw, course, field, EQUATION),
        explorers.map_player(draw, course.lattice, course.values[None], course.time),
        widgets.selector(draw, {"random": 1}),
    ]
    assert made == [None] * 4
    assert not drawn
