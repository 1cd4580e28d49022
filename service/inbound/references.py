"""References as EHRs write them, and the patient that a resource is about."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from service.inbound.records import Reason, Unreadable

if TYPE_CHECKING:
    from collections.abc import Mapping

_ID = re.compile(r"""[!"$-.0->@-{}~]{1,128}""")
_TYPE = re.compile(r"[A-Z][A-Za-z]{2,63}")
_URL = re.compile(rf"(?:.*/)?({_TYPE.pattern})/\s*({_ID.pattern})\s*(?:/_history/([^/]*))?", re.DOTALL)
_RELATIVE = re.compile(rf"({_TYPE.pattern})/({_ID.pattern})")
"""What most references are: `_URL` reads the same, and takes longer."""
_WEB = ("http://", "https://")
_STRUCTURES = "http://hl7.org/fhir/StructureDefinition/"
_ESCAPED = re.compile(r"[\\|,$]")
_LONGEST_IDENTIFIER = 1000
"""Characters of system and value; a hospital number has some tens, and a request line takes some thousands."""
_URN = ("urn:uuid:", "urn:oid:")


def without_version(canonical: str) -> str:
    """Return a canonical without `|version` and `#fragment`."""
    return canonical.split("|", 1)[0].split("#", 1)[0].strip()


class Target(NamedTuple):
    """The resource that a reference or URL names."""

    resource_type: str
    resource_id: str
    version_id: str | None = None

    @property
    def relative(self) -> str:
        """The relative FHIR reference, `Encounter/e-1`."""
        return f"{self.resource_type}/{self.resource_id}"


def resource_id(value: object) -> str:
    """Return a resource's id, or "" if it is not one.

    FHIR allows letters, digits, `-` and `.`, up to 64 of them; real ids hold `_` and more, so that any
    visible ASCII goes but what has a meaning in URLs.
    """
    if isinstance(value, str):
        value = value.strip()
        return value if _ID.fullmatch(value) else ""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def named(url: object) -> Target | None:
    """Return what a relative or absolute URL, with or without `/_history/version`, names."""
    found = _URL.fullmatch(url.strip()) if isinstance(url, str) else None
    return None if found is None else Target(*found.groups())


def target(reference: object, local: Mapping[str, str], expected: str | None = None) -> Target | None:
    """Return the resource that a Reference names, or None where it names none that has an id.

    Reads relative and absolute URLs, `urn:` (by `local`, else as the id of an `expected` resource), a
    bare id beside `type`, Aidbox's `{resourceType, id}`, and the Reference in R5's CodeableReference.
    """
    if not isinstance(reference, dict):
        return None
    text = reference.get("reference")
    if isinstance(text, str) and (relative := _RELATIVE.fullmatch(text)) is not None:
        return Target(*relative.groups())
    if isinstance(text, dict):
        reference, text = text, text.get("reference")
    if not isinstance(text, str) or not (text := text.strip()):
        return _typed(reference.get("resourceType"), reference.get("id"))
    if text.startswith(_URN):
        if text in local:
            return named(local[text])
        return _typed(reference.get("type") or expected, text.rsplit(":", 1)[1])
    return named(text) or _typed(reference.get("type"), text)


def _typed(resource_type: object, identity: object) -> Target | None:
    if isinstance(resource_type, str) and _TYPE.fullmatch(resource_type) and (identity := resource_id(identity)):
        return Target(resource_type, identity)
    return None


def patient_id(resource: Mapping[str, Any], local: Mapping[str, str], path: str, base: str | None = None) -> str:
    """Return the id of the patient that an Encounter, a QuestionnaireResponse or a Task is about.

    A response without subject is about its `source`, if that is a Patient. Where the source's `base` is
    known, an address outside it is another server's patient. Raises Unreadable: no-subject,
    subject-not-a-patient, unresolved-subject, foreign-subject.
    """
    name = "for" if resource.get("resourceType") == "Task" else "subject"
    subject = resource.get(name)
    if not subject and resource.get("resourceType") == "QuestionnaireResponse":
        answered_by = target(resource.get("source"), local)
        if answered_by is not None and answered_by.resource_type == "Patient":
            if base is not None and is_elsewhere(resource.get("source"), base):
                raise Unreadable(Reason.FOREIGN_SUBJECT, f"{path}.source")
            return answered_by.resource_id
    found = target(subject, local, expected="Patient")
    if found is None:
        identified = isinstance(subject, dict) and subject.keys() - {"display", "type", "extension"}
        raise Unreadable(Reason.UNRESOLVED_SUBJECT if identified else Reason.NO_SUBJECT, f"{path}.{name}")
    if found.resource_type != "Patient":
        raise Unreadable(Reason.SUBJECT_NOT_A_PATIENT, f"{path}.{name}")
    if base is not None and is_elsewhere(subject, base):
        raise Unreadable(Reason.FOREIGN_SUBJECT, f"{path}.{name}")
    return found.resource_id


def subject_token(resource: Mapping[str, Any]) -> str | None:
    """Return the search token of a subject that is an identifier alone; None without both, or too long to be one.

    Source: https://hl7.org/fhir/R4/search.html#escaping
    """
    subject = resource.get("for" if resource.get("resourceType") == "Task" else "subject")
    if not isinstance(subject, dict) or subject.get("reference"):
        return None
    if subject.get("type") not in {None, "Patient", f"{_STRUCTURES}Patient"}:
        return None
    identifier = subject.get("identifier")
    if not isinstance(identifier, dict):
        return None
    parts = [identifier.get("system"), identifier.get("value")]
    written = [part.strip() for part in parts if isinstance(part, str) and part.strip()]
    if len(written) != len(parts) or sum(map(len, written)) > _LONGEST_IDENTIFIER:
        return None
    return "|".join(_ESCAPED.sub(r"\\\g<0>", part) for part in written)


def is_elsewhere(reference: object, base: str) -> bool:
    """Return whether a Reference is an address outside a FHIR base, which has no slash at its end."""
    text = reference.get("reference") if isinstance(reference, dict) else None
    if not isinstance(text, str):
        return False
    address = text.strip()
    return address.startswith(_WEB) and not address.startswith(f"{base}/")
