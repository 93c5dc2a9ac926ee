"""Exact fields and statistics against the snapshots published with arXiv:2105.08221."""

import numpy as np
import pytest

from sdml import exact, forcefield, lattice, spins
from sdml.model import SDModel
from sdml.phase_separation import published
from sdml.phase_separation.snapshots import solved_statistics

LATTICE = lattice.square(30)
MODEL = SDModel(LATTICE, exchange_coupling=6.0, filling=0.485, electron_kT=0.0025)
METALLIC = [
    "random/c1",
    "random/c3",
    "quench/c0",
    "quench/c500",
    "quench/c2000",
    "quench/c5000",
    "quench/c8000",
]
GAPPED = ["quench/c10000", "quench/c16000", "quench/c20000", "quench/c30000"]


def rms(values):
    return np.sqrt((values**2).mean())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, field_bound, density_bound",
    [*((name, 2e-3, 1e-3) for name in METALLIC), *((name, 2e-4, 1e-4) for name in GAPPED)],
)
def test_fields_and_densities(authors_data, name, field_bound, density_bound):
    found = published.snapshot(authors_data / f"training_data_sample/{name}.dat")
    state = exact.solve(MODEL, found.spins)
    assert rms(state.local_field - found.local_field) <= field_bound
    assert rms(state.density - found.density) <= density_bound


@pytest.mark.parametrize(
    "step, correlation, fraction, clusters, mean_size, hole_sites, neel",
    [(0, -0.035, 0.234, 164, 3.5, 0.001, 0.02), (20000, -0.837, 0.076, 18, 7.6, 0.042, 0.90)],
)
def test_statistics_of_the_quench(
    authors_data, step, correlation, fraction, clusters, mean_size, hole_sites, neel
):
    """Ferromagnetic clusters: sites joined by bonds S.S > 0.5, two or more sites."""
    row = solved_statistics(*published.snapshot(authors_data / published.QUENCH / f"c{step}.dat"))
    assert row["correlation"] == pytest.approx(correlation, abs=5e-4)
    assert row["parallel"] == pytest.approx(fraction, abs=5e-4)
    assert row["n_clusters"] == clusters
    assert row["mean_size"] == pytest.approx(mean_size, abs=0.05)
    assert row["hole_sites"] == pytest.approx(hole_sites, abs=5e-4)
    # One unit of the last digit given: 0.894 at the later step.
    assert row["neel_order"] == pytest.approx(neel, abs=0.01)


def test_holes_gather_along_the_quench(authors_data):
    """27 holes: spread over random clusters at first, one or two to a cluster at the end."""
    files = [authors_data / published.QUENCH / f"c{step}.dat" for step in (0, 2000, 8000, 20000)]
    rows = [solved_statistics(*published.snapshot(file)) for file in files]
    held = [row["holes_per_cluster"] for row in rows]
    assert (np.diff(held) > 0).all() and held[-1] == pytest.approx(1.5, abs=0.1)
    assert rows[-1]["holes_in_clusters"] > 0.95
    lengths = [row["neel_length"] for row in rows]
    assert (np.diff(lengths) > 0).all() and lengths[-1] == np.inf  # Neel order everywhere
    # Torque per spin: 0.10 in the random start, 0.022 on the thermal floor.
    assert rows[0]["rms_torque"] == pytest.approx(0.10, abs=0.005)
    assert rows[-1]["rms_torque"] == pytest.approx(0.0225, abs=0.001)


def test_the_run_driven_by_the_published_network(authors_data):
    """Its last frame: more and smaller clusters than exact dynamics has at this correlation."""
    table = published.rows()
    first, last = (table[f"published, network, c{k}"] for k in (0, 1590))
    assert first["correlation"] == pytest.approx(0.0, abs=0.01)
    assert last["correlation"] == pytest.approx(-0.747, abs=5e-4)
    assert (last["n_clusters"], last["clusters_per_1000"]) == (542, 54.2)
    assert last["mean_size"] == pytest.approx(3.87, abs=0.01)
    assert last["rms_torque"] == pytest.approx(0.0563, abs=1e-4)


def test_the_released_force_field_knows_their_torques(authors_data):
    """It was never trained on them; steps before 8000 are early, holes hold n < 0.9 electrons."""
    field = forcefield.load("square")
    wrong, signal = {}, {}
    for name in METALLIC + GAPPED:
        found = published.snapshot(authors_data / f"training_data_sample/{name}.dat")
        s, density, exact_field = found.spins, found.density, found.local_field
        expected = spins.transverse(s, exact_field)
        error = ((spins.transverse(s, field.local_field(s)) - expected) ** 2).sum(-1)
        kind, step = name.split("/c")
        stages = {
            "random" if kind == "random" else "early" if int(step) < 8000 else "late": error > 0
        }
        if kind == "quench":
            stages["holes"] = density < 0.9
        for stage, sites in stages.items():
            wrong[stage] = wrong.get(stage, 0) + error[sites].sum()
            signal[stage] = signal.get(stage, 0) + (expected[sites] ** 2).sum()
    r2 = {stage: 1 - wrong[stage] / signal[stage] for stage in wrong}
    assert r2["random"] > 0.95
    assert r2["early"] > 0.95
    assert r2["late"] > 0.90
    assert r2["holes"] > 0.70
