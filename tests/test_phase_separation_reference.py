"""Stored runs: read at common times, labelled, compared and judged."""

import json

import laws
import numpy as np
import pytest

from sdml.phase_separation import reference


def run(seed, n_times, **columns):
    time = [0.0, 10.0, 20.0, 40.0][:n_times]
    statistics = {k: v[:n_times] for k, v in columns.items()}
    sizes = [2, 2, 5, 1 + n_times]
    return {"seed": seed, "time": time, "statistics": statistics, "cluster_sizes": sizes}


def write_runs(folder, **changes):
    clusters, length = [8.0, 6.0, 4.0, 2.0], [None, 1.0, 2.0, 3.0]
    given = {
        "name": "exact_20",
        "engine": "exact in single precision",
        "length": 20,
        "equation": {"dt": 0.5, "damping": 0.05, "kT": 0.001, "method": "adams"},
        "schedule": None,
        "runs": [
            run(1, 4, n_clusters=clusters, neel_length=length),
            run(2, 3, n_clusters=[10.0, 8.0, 6.0, 0.0], neel_length=length),
        ],
    }
    path = folder / "arrest.json"
    path.write_text(json.dumps({"sets": [given | changes]}))
    return path


def test_runs_are_compared_at_the_times_that_all_have(tmp_path):
    found = reference.load(write_runs(tmp_path))["exact_20"]
    assert (found.label, found.seeds, found.time.tolist()) == ("exact $20^2$", [1, 2], [0, 10, 20])
    _, mean, error = found.mean("n_clusters")
    np.testing.assert_allclose(mean, [9, 7, 5])
    np.testing.assert_allclose(error, np.ones(3))
    _, mean, error = found.mean("clusters_per_1000")
    np.testing.assert_allclose(mean, np.array([9, 7, 5]) / 0.4)
    np.testing.assert_allclose(error, np.full(3, 1 / 0.4))
    assert np.isnan(found.statistics["neel_length"][:, 0]).all()
    level, scatter = found.at("n_clusters", [1, 19])
    np.testing.assert_allclose(level, [9, 5])
    np.testing.assert_allclose(scatter, np.sqrt([2, 2]))
    assert found.row(19)["n_clusters"] == 5 and found.row(19)["clusters_per_1000"] == 12.5


def test_sizes_of_all_clusters_are_counted_together(tmp_path):
    sizes, share = reference.load(write_runs(tmp_path))["exact_20"].share_of_larger()
    np.testing.assert_allclose(sizes, [2, 4, 5])
    np.testing.assert_allclose(share, [1, 4 / 8, 3 / 8])


@pytest.mark.parametrize(
    "changes, label",
    [
        ({"engine": "square 95ae, J = 6", "length": 100}, "network $100^2$"),
        ({"schedule": [[0, 0.001], [9, 0.1]]}, "exact $20^2$, heated to 0.1"),
        ({"equation": {"dt": 0.5, "damping": 0.05, "kT": 0.0}}, "exact $20^2$, $kT$ = 0"),
    ],
)
def test_runs_have_labels(tmp_path, changes, label):
    assert reference.load(write_runs(tmp_path, **changes))["exact_20"].label == label


def test_what_holds_no_runs_is_refused(tmp_path):
    path = write_runs(tmp_path, runs=[])
    laws.assert_refused(lambda: reference.load(path), "path", "arrest.json")


def grown(name, exponent, length=20):
    """A set of three seeds whose clusters grow as t^exponent, with a scatter of a tenth."""
    time = [0.0, *np.geomspace(1, 1000, 40).tolist()]
    size = np.array([1.0, *np.geomspace(1, 1000, 40) ** exponent])

    def one(seed):
        columns = {"mean_size": seed * size, "n_clusters": 50 / (seed * size)}
        columns |= {"overlap_100": 1 - 0.1 * seed * (np.array(time) > 100)}
        columns = {k: v.tolist() for k, v in columns.items()}
        return {"seed": seed, "time": time, "statistics": columns, "cluster_sizes": [1]}

    return {"name": name, "length": length, "runs": [one(seed) for seed in (0.9, 1.0, 1.1)]}


@pytest.mark.parametrize("exponent, verdict", [(0.0, "arrested"), (0.6, "growing")])
def test_quenches_that_stop_and_that_go_on(tmp_path, exponent, verdict):
    found = reference.load(write_runs(tmp_path, **grown("exact_20", exponent)))
    (row,) = reference.plateaus(found).values()
    assert row["verdict"] == verdict
    assert row["slope of the size"].startswith(f"{exponent:.3f}")
    assert row["slope of the number"].removeprefix("-").startswith(f"{exponent:.3f}")
    if exponent == 0:
        assert row["sites per cluster"] == "1.00 ± 0.06"
        assert row["clusters per 1000 sites"] == "125.8 ± 7.3"


def test_short_single_and_heated_runs_are_not_judged(tmp_path):
    long = grown("exact_20", 0.0)
    single = long | {"runs": long["runs"][:1]}
    heated = long | {"schedule": [[0, 0.001], [500, 0.02]]}
    for changes in ({}, single, heated):
        assert not reference.load(write_runs(tmp_path, **changes))["exact_20"].judged
    assert reference.load(write_runs(tmp_path, **long))["exact_20"].judged


def test_two_quenches_at_the_same_times(tmp_path):
    first = reference.load(write_runs(tmp_path, **grown("exact_20", 0.0)))["exact_20"]
    other = grown("square_30", 1.0, length=30) | {"engine": "square 95ae"}
    second = reference.load(write_runs(tmp_path, **other))["square_30"]
    found = reference.matched(first, second, (100, 1000, 3000), ["mean_size"])
    assert found["mean_size", first.label] == {"t = 100": "1 ± 0.1", "t = 1000": "1 ± 0.1"}
    assert found["mean_size", "network $30^2$"]["t = 1000"] == "1e+03 ± 1e+02"
    # Means 1 and 1000, scatters 0.1 and 100, three seeds each: 17.3 errors, 2.000004 degrees of
    # freedom, for which Student's distribution is 1 - t / sqrt(2 + t^2), both tails.
    z = 999 / np.sqrt((0.1**2 + 100**2) / 3)
    p = float(found["mean_size", "p of equal means"]["t = 1000"])
    assert p == pytest.approx(1 - z / np.sqrt(2 + z**2), rel=0.02)
    assert float(found["mean_size", "p of equal means"]["t = 100"]) < 0.01
    assert "t = 3000" not in found["mean_size", "p of equal means"]


def test_a_quench_that_is_heated_and_cooled(tmp_path):
    schedule = [[100, 0.001], [150, 0.02], [450, 0.02], [500, 0.001]]
    given = grown("square_20", 1.0) | {"schedule": schedule}
    for run in given["runs"]:
        run["statistics"]["density_overlap"] = np.linspace(1, 0.25, 41).tolist()
    case = reference.load(write_runs(tmp_path, **given))["square_20"]
    assert case.warm == (100, 450)
    cold = reference.Runs(**vars(case) | {"schedule": None})
    laws.assert_refused(lambda: cold.warm, "square_20", "never")


def test_the_overlap_counts_from_its_age(tmp_path):
    one = reference.load(write_runs(tmp_path, **grown("exact_20", 0.0)))["exact_20"]
    passed, overlap = one.overlap(100)
    assert 0 < passed[0] < 25 and passed[-1] == 900
    np.testing.assert_allclose(overlap, 0.9)
