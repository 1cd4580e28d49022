"""What is known of an EHR's FHIR server beyond its own statement. Lookups only, each with its source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain.sourced import FileModel

if TYPE_CHECKING:
    from collections.abc import Iterator


class Known(FileModel):
    """A yes or no."""

    value: bool
    source: str
    """Title or address of the document that says so."""


class KnownNumber(FileModel):
    """A number: a limit, or an HTTP status."""

    value: int
    unit: str
    source: str


class KnownCodes(FileModel):
    """Codes of an OperationOutcome."""

    value: tuple[str, ...]
    source: str


class KnownFormats(FileModel):
    """Media types."""

    value: tuple[str, ...]
    source: str


class KnownHeaders(FileModel):
    """HTTP headers, by name."""

    value: dict[str, str]
    source: str


class VendorProfile(FileModel):
    """One kind of server: how it is recognised, and where it deviates from its statement or from the others.

    What is None is as FHIR's specification and the server's own statement have it.
    """

    title: str
    software: tuple[str, ...] = ()
    """Words of the statement's `software.name`, lower case."""
    named: tuple[str, ...] = ()
    """Words of its name, title, publisher, implementation or URL, where no software name decides; lower case."""
    client_ids: Known | None = None
    """Whether ids of the client's choosing are taken where the statement leaves `updateCreate` out."""
    stale_if_match: KnownNumber | None = None
    """Status of an update whose `If-Match` names an old version."""
    without_if_match: KnownNumber | None = None
    """Status of an update without `If-Match`."""
    modifier_extensions: Known | None = None
    """Whether `modifierExtension` is accepted."""
    never_retried: KnownCodes | None = None
    """Codes after which no second attempt may be made."""
    headers: KnownHeaders | None = None
    """Headers that every request needs."""
    page_limit: KnownNumber | None = None
    """Most entries of a search's page."""
    note_formats: KnownFormats | None = None
    """What a DocumentReference may hold, of what notes can be; no statement says so."""

    def deviations(self) -> Iterator[tuple[str, str]]:
        """Yield each known deviation as a sentence, with its source."""
        if self.client_ids is not None:
            takes = "Takes" if self.client_ids.value else "Does not take"
            yield f"{takes} ids of the client's choosing where updateCreate is left out.", self.client_ids.source
        if self.stale_if_match is not None:
            yield f"Answers a stale If-Match with {self.stale_if_match.value}.", self.stale_if_match.source
        if self.without_if_match is not None:
            text = f"Answers an update without If-Match with {self.without_if_match.value}."
            yield text, self.without_if_match.source
        if self.modifier_extensions is not None:
            takes = "Accepts" if self.modifier_extensions.value else "Refuses"
            yield f"{takes} modifierExtension.", self.modifier_extensions.source
        if self.never_retried is not None:
            codes = ", ".join(self.never_retried.value)
            yield f"After these codes nothing is tried again: {codes}.", self.never_retried.source
        if self.headers is not None:
            yield f"Every request needs the headers {', '.join(self.headers.value)}.", self.headers.source
        if self.page_limit is not None:
            yield f"A page of a search holds at most {self.page_limit.value} entries.", self.page_limit.source
        if self.note_formats is not None:
            yield f"Takes notes as {' or '.join(self.note_formats.value)}.", self.note_formats.source
