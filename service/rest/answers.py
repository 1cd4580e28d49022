"""What a FHIR server's answer means, for the resource or for the way to the server. Codes are kept, never texts."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson

from service.rest.errors import NEVER_RETRIED, Permanent, Transient

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import httpx

Element = dict[str, Any]
"""JSON of a resource, or of a part of one."""
MOST_CODES = 10  # an OperationOutcome can list hundreds of issues

_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_ETAG = re.compile(r'(?:W/)?"?([A-Za-z0-9\-.]{1,64})"?')
_PLACE = re.compile(
    r"(?P<kind>[A-Z][A-Za-z]{1,40})/(?P<id>[A-Za-z0-9.\-]{1,64})(?:/_history/(?P<version>[A-Za-z0-9.\-]{1,64}))?/?$"
)
_SECONDS = re.compile(r"\d{1,6}")
_LONGEST_INT = 15  # digits; longer ones are kept as they were written

# Neither of these says anything of the plan: the way to the server, or the service's own standing, is at fault.
_TRY_AGAIN = frozenset({401, 408, 425, 429})


class Refused(Permanent):
    """The server refuses the content (400, 404, 422): what it refers to may be missing there."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, read whole."""

    status: int
    version: str | None
    """Of the ETag."""
    body: bytes
    location: str | None = None
    """Where a created resource is, as the server says it."""
    etag: str | None = None
    """The ETag as it came."""

    @property
    def ok(self) -> bool:
        """Whether the server has done what was asked."""
        return 200 <= self.status < 300  # noqa: PLR2004 - HTTP's class of success


def raise_unless_fhir(answer: Answer, headers: httpx.Headers, never_retried: Collection[str] = ()) -> None:
    """Raise Transient for every answer that says nothing of the resource.

    Raises Permanent, whatever the status, where an OperationOutcome names a code of `never_retried`.
    """
    if never_retried and not answer.ok:
        codes = outcome_codes(answer.body)
        if not set(codes).isdisjoint(never_retried):
            message = f"The FHIR server must not be asked again ({', '.join(codes)}). Clear it up there, then retry."
            raise Permanent(NEVER_RETRIED, message, outcome_codes=codes)
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR and answer.status != HTTPStatus.NOT_IMPLEMENTED:
        message = f"The FHIR server answers {answer.status}. It is tried again by itself."
        # A proxy says 503, too, where the connection ended after it had passed the request on; a server says more.
        is_its_own = "Retry-After" in headers or is_outcome(answer.body)
        unsent = is_its_own and answer.status == HTTPStatus.SERVICE_UNAVAILABLE
        raise Transient(f"http-{answer.status}", message, retry_after=retry_after(headers), unsent=unsent)
    if answer.status == HTTPStatus.UNAUTHORIZED:
        message = "The FHIR server does not accept our credentials (401). Check the authentication that is set for it."
        raise Transient("unauthorised", message, retry_after=retry_after(headers))
    if answer.status in _TRY_AGAIN:
        message = f"The FHIR server asks to wait ({answer.status}). It is tried again by itself."
        raise Transient(f"http-{answer.status}", message, retry_after=retry_after(headers))
    if 300 <= answer.status < 400 and answer.status != HTTPStatus.NOT_MODIFIED:  # noqa: PLR2004 - HTTP's class of redirection
        message = f"The FHIR server redirects ({answer.status}). Set its base to where it really is."
        raise Transient("redirected", message)
    media_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if answer.body and media_type in {"text/html", "application/xhtml+xml"}:
        # A proxy's or a login page: it speaks for neither success nor failure of the plan.
        raise not_fhir(answer.status)


def not_fhir(status: int) -> Transient:
    """Return what to raise where something else than a FHIR server answers."""
    message = f"What answers {status} is not a FHIR server. Check its base and what lies in between."
    return Transient("not-fhir", message)


def is_outcome(body: bytes) -> bool:
    """Return whether a body is an OperationOutcome: a FHIR server's own word, and no gateway's."""
    try:
        outcome = orjson.loads(body)
    except ValueError:
        return False
    return isinstance(outcome, dict) and outcome.get("resourceType") == "OperationOutcome"


def permanent(answer: Answer) -> Permanent:
    """Return what to raise for a refusal, with its codes: a Refused where the content is at fault."""
    codes = outcome_codes(answer.body)
    named = f" ({', '.join(codes)})" if codes else ""
    if answer.status == HTTPStatus.FORBIDDEN:
        message = f"The FHIR server forbids it{named}. Ask for the right to write this patient's plan, then retry."
        return Permanent("forbidden", message, outcome_codes=codes)
    if answer.status in {HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED}:
        message = f"The FHIR server does not take this ({answer.status}){named}. Look at what its statement offers."
        return Permanent("not-supported", message, outcome_codes=codes)
    message = f"The FHIR server refuses the plan ({answer.status}){named}. Look at the plan, then retry."
    return Refused(f"http-{answer.status}", message, outcome_codes=codes)


def not_given(answer: Answer) -> Permanent:
    """Return what to raise for a read that is refused, with its codes."""
    codes = outcome_codes(answer.body)
    named = f" ({', '.join(codes)})" if codes else ""
    if answer.status == HTTPStatus.FORBIDDEN:
        message = f"The FHIR server forbids reading it{named}. Ask for the right to read these resources."
        return Permanent("forbidden", message, outcome_codes=codes)
    message = f"The FHIR server refuses to give it ({answer.status}){named}. Look at what its statement lets read."
    return Permanent(f"http-{answer.status}", message, outcome_codes=codes)


def not_searched(answer: Answer) -> Permanent:
    """Return what to raise for a search that is refused, with its codes."""
    codes = outcome_codes(answer.body)
    named = f" ({', '.join(codes)})" if codes else ""
    if answer.status == HTTPStatus.FORBIDDEN:
        message = f"The FHIR server forbids the search{named}. Ask for the right to search these resources."
        return Permanent("forbidden", message, outcome_codes=codes)
    message = f"The FHIR server refuses the search ({answer.status}){named}. Look at what its statement lets search by."
    return Permanent(f"http-{answer.status}", message, outcome_codes=codes)


def outcome_codes(body: bytes) -> tuple[str, ...]:
    """Return the codes of an OperationOutcome's errors, never its texts: they may tell of the patient."""
    try:
        outcome = orjson.loads(body)
        issues = outcome["issue"] if outcome["resourceType"] == "OperationOutcome" else []
        errors = [issue for issue in issues if issue.get("severity") in {"fatal", "error"}]
        codes = [code for issue in errors for code in (issue.get("code"), *_detail_codes(issue))]
    except (ValueError, TypeError, KeyError, AttributeError):
        return ()
    sound = [code for code in codes if isinstance(code, str) and _CODE.fullmatch(code)]
    return tuple(dict.fromkeys(sound))[:MOST_CODES]


def _detail_codes(issue: Mapping[str, Any]) -> list[object]:
    return [coding.get("code") for coding in issue.get("details", {}).get("coding", [])]


def place_of(location: str | None, kind: str) -> tuple[str | None, str | None]:
    """Return id and version of a created resource, from the address that the server gives it; None where it says none.

    Nothing is ever requested at that address: `[base]/Type/id/_history/version` is only read.
    """
    match = _PLACE.search(location or "")
    if match is None or match["kind"] != kind:
        return None, None
    return match["id"], match["version"]


def entries_of(bundle: Element, kind: str) -> list[Element]:
    """Return the resources of one type in a searchset."""
    entries = bundle.get("entry")
    found = [each.get("resource") for each in entries if isinstance(each, dict)] if isinstance(entries, list) else []
    return [each for each in found if isinstance(each, dict) and each.get("resourceType") == kind]


def next_page(bundle: Element) -> str | None:
    """Return the address of a searchset's next page as the server gives it; None where it is the last."""
    links = bundle.get("link")
    for each in links if isinstance(links, list) else []:
        url = each.get("url") if isinstance(each, dict) and each.get("relation") == "next" else None
        if isinstance(url, str):
            return url
    return None


def stated_version(resource: Element) -> str | None:
    """Return the version that a resource's meta names."""
    meta = resource.get("meta")
    stated = meta.get("versionId") if isinstance(meta, dict) else None
    return stated if isinstance(stated, str) else None


def entry_versions(body: bytes, count: int) -> list[str | None]:
    """Return the versions that a transaction's answer names; None for each that it does not.

    Raises Transient (not-fhir) for any answer but one that says of so many entries that they are stored.
    """
    try:
        bundle = orjson.loads(body)
        told = [entry["response"] for entry in bundle["entry"]]
        stored = bundle["type"] == "transaction-response" and all(str(each["status"])[:1] == "2" for each in told)
        versions = [version_of(each.get("etag")) for each in told]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise not_fhir(HTTPStatus.OK) from None
    if not stored or len(versions) != count:
        raise not_fhir(HTTPStatus.OK)
    return versions


def raise_unless_told(answer: Answer, kind: str) -> bool:
    """Return whether a success says of a resource that it was written: a version, an address, the resource, an outcome.

    Raises Transient (not-fhir) where it says something else: a proxy's page of maintenance is a success, too.
    """
    if answer.body:
        try:
            told = orjson.loads(answer.body)
        except ValueError:
            raise not_fhir(answer.status) from None
        if not isinstance(told, dict) or told.get("resourceType") not in {kind, "OperationOutcome"}:
            raise not_fhir(answer.status)
    return bool(answer.body or answer.version or place_of(answer.location, kind)[0])


def version_of(etag: object) -> str | None:
    """Return the version that an ETag names; None without one."""
    # HAPI's transaction entries say `3` where its headers say `W/"3"`.
    match = _ETAG.fullmatch(etag.strip()) if isinstance(etag, str) else None
    return match[1] if match else None


def retry_after(headers: httpx.Headers) -> float | None:
    """Return how many seconds the server asks to wait; a date counts from the server's own clock."""
    asked = headers.get("Retry-After", "").strip()
    if _SECONDS.fullmatch(asked):
        return float(asked)
    try:
        waits = parsedate_to_datetime(asked) - parsedate_to_datetime(headers.get("Date", ""))
    except (ValueError, TypeError):
        return None
    return max(waits.total_seconds(), 0.0)


def raw_json(body: bytes) -> Element:
    """Return a JSON object whose long numbers and fractions keep the digits they were written with."""
    try:
        value = json.loads(body, parse_float=_verbatim, parse_int=_integer, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise not_fhir(HTTPStatus.OK) from None
    if not isinstance(value, dict):
        raise not_fhir(HTTPStatus.OK)
    return value


def _verbatim(digits: str) -> orjson.Fragment:
    return orjson.Fragment(digits.encode())


def _integer(digits: str) -> int | orjson.Fragment:
    return int(digits) if len(digits) <= _LONGEST_INT else _verbatim(digits)


def _no_constant(name: str) -> None:
    message = f"{name} is not JSON"
    raise ValueError(message)


def written(resource: Element) -> bytes:
    """Return a resource as JSON. Raises Permanent for what was read and can't be written."""
    try:
        return orjson.dumps(resource)
    except orjson.JSONEncodeError:
        message = "The resource that the FHIR server holds can't be written back unchanged. Look at it there."
        raise Permanent("not-writable", message) from None
