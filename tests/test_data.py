"""The manifest lists all stored data and weights with their checksums; weights have cards."""

import hashlib
import os

import pytest

from sdml import dataset, evaluation, files, forcefield

ACCURACY = {
    "triangular": {"pooled": 0.95, "random": 0.85, "forming": 0.85, "coarsening": 0.85},
    "square": {"random": 0.9, "early": 0.9, "late": 0.85, "holes": 0.7},
    "triangular_paper": {"pooled": 0.84, "random": 0.82, "forming": 0.83, "coarsening": 0.86},
    "square_paper": {"random": 0.9, "early": 0.9, "late": 0.9},
}
"""Smallest R2 of the transverse field, by stage of exact quenches."""
ELSEWHERE = {"triangular_large": 0.95, "square_large": 0.95}
ELSEWHERE |= {"triangular_thermal": 0.95, "square_thermal": 0.85}


def manifest() -> dict[str, str]:
    lines = (files.data() / "SHA256SUMS").read_text().splitlines()
    return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}


def test_manifest_lists_every_file_with_its_checksum():
    stored = [*files.data().rglob("*"), *files.weights().iterdir()]
    found = {
        os.path.relpath(p, files.data()): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in stored
        if p.is_file() and p.name != "SHA256SUMS"
    }
    assert manifest() == found


def test_released_weights_have_cards_with_held_out_errors():
    names = [path.stem for path in files.weights().glob("*.safetensors")]
    assert {"triangular", "square"} <= set(names)
    for name in names:
        card = forcefield.load(name).card
        text = (files.weights() / f"{name}.md").read_text()
        assert f"{card['held_out_errors']['torque_r2']:.3g}" in text
        assert not set(card["held_out_quenches"]) & set(card["training_quenches"])


@pytest.mark.parametrize("name", ACCURACY)
def test_released_weights_do_on_the_shipped_labels_what_their_cards_say(name):
    judged = dataset.load(files.data() / "labels" / f"{name.partition('_')[0]}_judged.h5")
    field = forcefield.load(name)
    assert sorted(set(judged.trajectory.tolist())) == field.card["held_out_quenches"]
    found = evaluation.stage_errors(judged, evaluation.predict(field, judged))
    expected = field.card["held_out_stages"]
    for stage, errors in found.items():
        for key, value in errors.items():
            assert value == pytest.approx(expected[stage][key], rel=1e-3), (stage, key)
    for stage, smallest in ACCURACY[name].items():
        assert found[stage]["torque_r2"] >= smallest, stage


@pytest.mark.parametrize("name", ACCURACY)
def test_errors_on_quenches_that_chose_nothing(name):
    """They repeat from the shipped labels, and no network has seen these quenches."""
    set_name = f"{name.partition('_')[0]}_fresh"
    fresh, field = dataset.load(files.data() / "labels" / f"{set_name}.h5"), forcefield.load(name)
    card, own = field.card, set(fresh.trajectory.tolist())
    assert not own & {*card["training_quenches"], *card["held_out_quenches"]}
    stored = files.loaded(files.reference() / "fresh_errors.json")["sets"][set_name]
    expected = stored["networks"][name]
    assert stored["quenches"] == sorted(own)
    assert expected["sha256"] == [forcefield.checksum(field)]
    for stage, errors in evaluation.stage_errors(fresh, evaluation.predict(field, fresh)).items():
        row = expected["stages"][stage]
        assert errors["torque_r2"] == pytest.approx(row["torque_r2"], rel=1e-3), stage
        assert row["field_mse_vector"] == pytest.approx(3 * errors["field_mse"], rel=1e-3), stage


@pytest.mark.parametrize("labels", ELSEWHERE)
def test_released_weights_hold_on_larger_lattices_and_for_thermal_states(labels):
    data = dataset.load(files.data() / "labels" / f"{labels}.h5")
    field = forcefield.load(labels.partition("_")[0])
    errors = evaluation.field_errors(data, evaluation.predict(field, data))
    assert errors["torque_r2"] >= ELSEWHERE[labels]


@pytest.mark.parametrize("name", ["triangular", "square"])
def test_shipped_training_labels_are_a_part_of_those_of_the_weights(name):
    shipped = dataset.load(files.data() / "labels" / f"{name}_training.h5")
    field, quenches = forcefield.load(name), {k for k in shipped.trajectory.tolist() if k >= 0}
    field.on_lattice_of(shipped.model)
    held_out = {127} if name == "square" else set()  # scored while training, not learned
    assert quenches <= set(field.card["training_quenches"]) | held_out
    assert not quenches & set(field.card["held_out_quenches"])
