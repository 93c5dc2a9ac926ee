"""CITATION.cff holds what format 1.2.0 asks for and agrees with the package and the README."""

import re

import pytest
import yaml

import sdml
from sdml import files

ALLOWED = {
    *("cff-version", "message", "title", "type", "version", "license", "authors", "references"),
    *("abstract", "date-released", "doi", "identifiers", "keywords", "preferred-citation"),
    *("repository-code", "url"),
}
REFERENCE_REQUIRED = {"type", "title", "authors"}
PERSON = {"family-names", "given-names", "orcid", "affiliation", "name-particle", "name-suffix"}
ENTITY = {"name", "website", "orcid"}
DOI = re.compile(r"10\.\d{4,9}/[^\s\"']+")


@pytest.fixture(scope="module")
def citation() -> dict:
    """The whole of CITATION.cff."""
    return yaml.safe_load((files.root() / "CITATION.cff").read_text(encoding="utf-8"))


def is_author(entry: dict) -> bool:
    """Whether an entry is a person or an entity of the format, with text throughout."""
    kinds = ("name" in entry and set(entry) <= ENTITY) or (entry and set(entry) <= PERSON)
    return bool(kinds) and all(isinstance(value, str) and value for value in entry.values())


def test_required_entries(citation):
    assert citation["cff-version"] == "1.2.0"
    assert set(citation) <= ALLOWED
    assert citation["type"] in ("software", "dataset")
    for name in ("message", "title"):
        assert isinstance(citation[name], str) and citation[name]
    assert citation["authors"] and all(map(is_author, citation["authors"]))


def test_references_are_complete(citation):
    for reference in citation["references"]:
        assert set(reference) >= REFERENCE_REQUIRED
        assert all(map(is_author, reference["authors"]))
        assert DOI.fullmatch(reference["doi"])
        assert type(reference["year"]) is int
        # Without quotation marks YAML reads an article number as an integer, octal at that.
        assert isinstance(reference["start"], str)


def test_it_agrees_with_the_package_and_the_readme(citation):
    assert citation["version"] == sdml.__version__
    assert (files.root() / "LICENSE").read_text(encoding="utf-8").startswith(citation["license"])
    readme = (files.root() / "README.md").read_text(encoding="utf-8")
    (article,) = citation["references"]
    for part in (article["doi"], str(article["year"]), article["start"], article["journal"]):
        assert part in readme
    words = " ".join(readme.replace("*", "").split())
    assert article["title"] in words


def test_wrong_authors_are_seen():
    assert not is_author({})
    assert not is_author({"family-names": "Chern", "firstname": "G.-W."})
    assert not is_author({"family-names": "Fan", "given-names": True})
