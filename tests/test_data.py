"""The manifest lists every file in data/ with its checksum; released weights have cards."""

import hashlib

from sdml import forcefield, paths


def manifest() -> dict[str, str]:
    lines = (paths.data() / "SHA256SUMS").read_text().splitlines()
    return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}


def test_manifest_lists_every_file_with_its_checksum():
    files = [p for p in paths.data().rglob("*") if p.is_file() and p.name != "SHA256SUMS"]
    found = {
        p.relative_to(paths.data()).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in files
    }
    assert manifest() == found


def test_released_weights_have_cards_with_held_out_errors():
    names = [path.stem for path in paths.models().glob("*.safetensors")]
    assert {"triangular", "square"} <= set(names)
    for name in names:
        card = forcefield.load(name).card
        text = (paths.models() / f"{name}.md").read_text()
        assert f"{card['held_out_errors']['torque_r2']:.3g}" in text
        assert not set(card["held_out_quenches"]) & set(card["training_quenches"])
