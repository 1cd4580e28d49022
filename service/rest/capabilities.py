"""What a FHIR server states of itself: its CapabilityStatement, read leniently, with everything that may be missing.

Source: https://hl7.org/fhir/R4/capabilitystatement.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

_VERSION = re.compile(r"R?(\d{1,2})(?:[A-Z]|(\.\d{1,2})[\w.-]{0,40})?")
_MAJOR = "4"
_DRAFTS_OF_R5 = frozenset({".2", ".4", ".5", ".6"})  # 4.0 is R4, 4.1 and 4.3 are R4B
_RELEASES = {"0": "DSTU1", "1": "DSTU2", "3": "STU3", "5": "R5", "6": "R6"}
_LONGEST_TEXT = 200  # characters of a server's own name that are shown
_STATEMENTS = frozenset({"CapabilityStatement", "Conformance", "Bundle"})
_DEEPEST = 3  # wrappers around a statement


class NotNegotiable(ValueError):  # noqa: N818 - it says what the document is
    """This is no CapabilityStatement of FHIR R4; the message is one sentence on what it is and what to give instead."""


@dataclass(frozen=True, slots=True)
class Stated:
    """What a server states of one resource type. None: left out."""

    interactions: frozenset[str] = frozenset()
    update_create: bool | None = None
    conditional_create: bool | None = None
    conditional_update: bool | None = None
    versioning: str | None = None
    searched_by: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Statement:
    """What a server states of itself."""

    software: str | None
    """Name of the software, as stated."""
    version: str | None
    """Version of the software."""
    named: tuple[str, ...]
    """Name, title, publisher, implementation and URL, where stated."""
    fhir_version: str
    system: frozenset[str]
    """Interactions with the whole system: transaction, batch."""
    resources: dict[str, Stated]
    token_endpoint: str | None
    services: tuple[str, ...]
    """Codes of `rest.security.service`: OAuth, SMART-on-FHIR, Basic."""


def read_json(content: bytes) -> Any:  # noqa: ANN401 - any JSON
    """Return a document's JSON value. Raises NotNegotiable, which says what it is instead."""
    text = content.removeprefix(b"\xef\xbb\xbf").strip()
    if not text:
        raise NotNegotiable("The document is empty. Give the CapabilityStatement as the server sends it.")
    if text.startswith(b"<"):
        if b"http://hl7.org/fhir" in text[:5000] and b"<html" not in text[:1000].lower():
            raise NotNegotiable("The document is XML. Give the CapabilityStatement as JSON (application/fhir+json).")
        raise NotNegotiable("The document is a web page, no CapabilityStatement. Give the base URL of the FHIR server.")
    try:
        return orjson.loads(text)
    except ValueError:
        raise NotNegotiable("The document is not JSON. Give the CapabilityStatement as the server sends it.") from None


def read_statement(content: bytes) -> Statement:
    """Return what a CapabilityStatement states. Raises NotNegotiable."""
    statement = _unwrapped(read_json(content))
    version = _checked_version(statement)
    rest = [each for each in entries(statement.get("rest")) if said(each.get("mode")) in {"server", None}]
    if not rest and entries(statement.get("rest")):
        raise NotNegotiable("The CapabilityStatement is a client's. Give the server's.")
    software, implementation = _table(statement.get("software")), _table(statement.get("implementation"))
    named = (
        *(statement.get(key) for key in ("name", "title", "publisher", "url")),
        implementation.get("description"),
        implementation.get("url"),
    )
    resources: dict[str, Stated] = {}
    for each in (resource for part in rest for resource in entries(part.get("resource"))):
        kind = said(each.get("type"))
        if kind is not None:
            resources[kind] = _joined(resources.get(kind, Stated()), _stated(each))
    security = [_table(part.get("security")) for part in rest]
    return Statement(
        software=said(software.get("name")),
        version=said(software.get("version")),
        named=tuple(text for text in map(said, named) if text is not None),
        fhir_version=version,
        system=frozenset(code for part in rest for code in _codes(part.get("interaction"))),
        resources=resources,
        token_endpoint=next((url for part in security for url in _token_endpoints(part)), None),
        services=tuple(dict.fromkeys(code for part in security for code in _services(part))),
    )


def said(value: object) -> str | None:
    """Return a text that is one and says something, on one line and not endless."""
    if not isinstance(value, str):
        return None
    return "".join(each for each in " ".join(value.split()) if each.isprintable())[:_LONGEST_TEXT] or None


def entries(value: object) -> list[dict[str, Any]]:
    """Return the objects of a list; a single object counts as a list of one, anything else as none."""
    if isinstance(value, dict):
        return [value]
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _unwrapped(document: object, depth: int = 0) -> dict[str, Any]:
    """Return the statement, out of a Bundle or out of `{"resource": …}`."""
    if not isinstance(document, dict):
        raise NotNegotiable("The document is no FHIR resource. Give a FHIR server's CapabilityStatement.")
    kind = said(document.get("resourceType"))
    if kind == "CapabilityStatement":
        return document
    if depth < _DEEPEST and (kind == "Bundle" or (kind is None and "resource" in document)):
        within = entries(document.get("entry")) if kind == "Bundle" else [document]
        found = [resource for each in within if (resource := _table(each.get("resource")))]
        stated = [each for each in found if said(each.get("resourceType")) in _STATEMENTS]
        ours = [each for each in stated if (said(each.get("fhirVersion")) or "").startswith(_MAJOR)]
        for each in ours or stated:
            return _unwrapped(each, depth + 1)
    if kind == "Conformance":
        raise NotNegotiable("The statement is of FHIR DSTU2 (a Conformance resource); FHIR R4 is needed.")
    if kind is None and ("token_endpoint" in document or "authorization_endpoint" in document):
        raise NotNegotiable("This is the smart-configuration. Give the CapabilityStatement, and this one by --smart.")
    what = f"a FHIR {kind}" if kind is not None and kind.isalnum() else "no FHIR resource"
    raise NotNegotiable(f"The document is {what}, no CapabilityStatement. Give what GET [base]/metadata answers.")


def _checked_version(statement: dict[str, Any]) -> str:
    version = said(statement.get("fhirVersion"))
    if version is None:
        raise NotNegotiable("The CapabilityStatement names no fhirVersion; FHIR R4 (4.0) is needed.")
    match = _VERSION.fullmatch(version)
    if match is None:
        raise NotNegotiable("The CapabilityStatement's fhirVersion is no version of FHIR; FHIR R4 (4.0) is needed.")
    if match[1] != _MAJOR:
        name = f" ({_RELEASES[match[1]]})" if match[1] in _RELEASES else ""
        raise NotNegotiable(f"The server speaks FHIR {version}{name}; FHIR R4 (4.0) is needed.")
    if match[2] in _DRAFTS_OF_R5:
        raise NotNegotiable(f"The server speaks FHIR {version} (a draft of R5); FHIR R4 (4.0) is needed.")
    return version


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _codes(value: object) -> Iterator[str]:
    for each in entries(value):
        code = said(each.get("code"))
        if code is not None:
            yield code


def _stated(resource: dict[str, Any]) -> Stated:
    names = (said(each.get("name")) for each in entries(resource.get("searchParam")))
    return Stated(
        interactions=frozenset(_codes(resource.get("interaction"))),
        update_create=_flag(resource.get("updateCreate")),
        conditional_create=_flag(resource.get("conditionalCreate")),
        conditional_update=_flag(resource.get("conditionalUpdate")),
        versioning=said(resource.get("versioning")),
        searched_by=frozenset(name for name in names if name is not None),
    )


def _joined(one: Stated, other: Stated) -> Stated:
    """Return what a type that is listed twice allows: every interaction; of the rest, what was stated first."""
    return Stated(
        interactions=one.interactions | other.interactions,
        update_create=_first(one.update_create, other.update_create),
        conditional_create=_first(one.conditional_create, other.conditional_create),
        conditional_update=_first(one.conditional_update, other.conditional_update),
        versioning=one.versioning or other.versioning,
        searched_by=one.searched_by | other.searched_by,
    )


def _first(one: bool | None, other: bool | None) -> bool | None:  # noqa: FBT001 - three values, stated or not
    return other if one is None else one


def _token_endpoints(security: dict[str, Any]) -> Iterator[str]:
    for extension in entries(security.get("extension")):
        if (said(extension.get("url")) or "").endswith("oauth-uris"):
            for part in entries(extension.get("extension")):
                url = said(part.get("valueUri")) or said(part.get("valueUrl"))
                if part.get("url") == "token" and url is not None:
                    yield url


def _services(security: dict[str, Any]) -> Iterator[str]:
    for service in entries(security.get("service")):
        yield from _codes(service.get("coding"))
