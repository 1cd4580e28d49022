"""Addresses that a server gives: which of them are followed."""

from __future__ import annotations

import pytest

from service.rest.links import at_hosts, below

BASE = "https://ehr.example/fhir"


@pytest.mark.parametrize(
    ("link", "rest"),
    [
        ("https://ehr.example/fhir?_getpages=1", "?_getpages=1"),
        ("https://ehr.example/fhir/?_getpages=1", "?_getpages=1"),
        ("https://EHR.example:443/fhir/Encounter?page=2", "Encounter?page=2"),
        ("Encounter?page=2", "Encounter?page=2"),
        ("/fhir/Encounter?page=a%2Fb", "Encounter?page=a%2Fb"),
    ],
)
def test_link_below_the_base_is_followed(link: str, rest: str) -> None:
    """Absolute or relative, with the default port or without."""
    assert rest == below(BASE, link)


@pytest.mark.parametrize(
    "link",
    [
        "http://ehr.example/fhir/Encounter?page=2",
        "https://ehr.example:8443/fhir/Encounter?page=2",
        "https://ehr.example.evil.example/fhir/Encounter",
        "https://user@ehr.example/fhir/Encounter",
        "https://ehr.example/fhirs/Encounter",
        "https://ehr.example/admin",
        "https://ehr.example/fhir/../admin",
        "https://ehr.example/fhir/%2e%2e/admin",
        "//evil.example/fhir/Encounter",
        "file:///etc/passwd",
        "http://[",
    ],
)
def test_link_to_anywhere_else_is_not(link: str) -> None:
    """Another scheme, port, host or path, or what is no address."""
    assert below(BASE, link) is None


def test_files_are_fetched_from_the_base_and_from_named_hosts_alone() -> None:
    """By name, or by name and port; never by a weaker scheme."""
    named = frozenset({"storage.example", "files.example:8443"})
    links = {
        "https://ehr.example/export/1.ndjson": True,
        "https://storage.example/1.ndjson": True,
        "https://files.example:8443/1.ndjson": True,
        "https://files.example/1.ndjson": False,
        "http://storage.example/1.ndjson": False,
        "https://other.example/1.ndjson": False,
    }
    assert links == {link: at_hosts(BASE, link, named) is not None for link in links}
