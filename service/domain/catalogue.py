"""Every rule, protocol and instrument with its numbers, as a person checks them: value, unit, version, source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel

from service.domain.sourced import Source, Threshold

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from service.domain.instruments import Instrument
    from service.domain.mappings import Mappings

RULES = "Rules"
PROTOCOLS = "Protocols"
INSTRUMENTS = "Instruments"
COURSES = "Courses"


@dataclass(frozen=True, slots=True)
class Number:
    """One number that something is compared with."""

    name: str
    """Where it stands in its file: `reviews.soft_after`, `bands.mild`."""
    value: float
    unit: str
    source: str
    """Title and address of where it comes from."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A rule, a protocol or an instrument."""

    kind: str
    """Heading under which it is listed."""
    id: str
    version: int
    title: str
    thresholds: tuple[Number, ...]
    source: str


def catalogue(mappings: Mappings) -> tuple[Entry, ...]:
    """Return everything that has a number or decides something: rules, protocols, instruments, bounds of a course."""
    sources = mappings.sources
    rules = (
        Entry(
            RULES, rule.id, rule.version, rule.title, _numbers(rule.thresholds, sources), _cited(rule.sources, sources)
        )
        for rule in sorted(mappings.rules.values(), key=lambda each: each.id)
    )
    protocols = (
        Entry(PROTOCOLS, each.id, each.version, each.title, _numbers(each, sources), cite(sources[each.source]))
        for each in sorted(mappings.protocols.values(), key=lambda each: each.id)
    )
    instruments = (
        Entry(
            INSTRUMENTS,
            each.id,
            each.version,
            f"{each.title}, {each.subject}",
            (*_bands(each, sources), *_numbers(each, sources)),
            cite(sources[each.source]),
        )
        for each in sorted(mappings.instruments.values(), key=lambda each: each.id)
    )
    bounds = _numbers(mappings.courses, sources)
    title = "What belongs to one course, whatever its protocol"
    courses = Entry(COURSES, "courses", mappings.courses.version, title, bounds, "; ".join(_different(bounds)))
    return (*rules, *protocols, *instruments, courses)


def cite(source: Source) -> str:
    """Return a source as a reader finds it; what is not published says so."""
    where = f"{source.title} ({source.address})" if source.address else source.title
    return where if source.kind == "published" else f"{where} [{source.kind.replace('-', ' ')}]"


def markdown(entries: Iterable[Entry]) -> str:
    """Return the catalogue as a document with one table for each kind."""
    text = [
        "# Rules, protocols and instruments",
        "",
        "Written by `ipt-bridge rules --markdown`, from the files beside it: change those, never this one.",
        "A source marked as general knowledge is common in the field and tied to no one text; one marked as design",
        "decision is the project's own, to be set as a site sees fit.",
    ]
    kind = ""
    for entry in entries:
        if entry.kind != kind:
            kind = entry.kind
            text += ["", f"## {kind}", "", "| id | version | title | threshold | value | unit | source |"]
            text += ["|---|---|---|---|---|---|---|"]
        cells = (f"`{entry.id}`", str(entry.version), _cell(entry.title), "", "", "", _cell(entry.source))
        text.append(f"| {' | '.join(cells)} |")
        for number in entry.thresholds:
            cells = ("", "", "", f"`{number.name}`", f"{number.value:g}", _cell(number.unit), _cell(number.source))
            text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text) + "\n"


def _bands(instrument: Instrument, sources: Mapping[str, Source]) -> Iterator[Number]:
    for band in instrument.bands:
        yield Number(f"bands.{band.name}", band.start, "points or more", cite(sources[instrument.source]))


def _numbers(table: object, sources: Mapping[str, Source]) -> tuple[Number, ...]:
    return tuple(
        Number(path, threshold.value, threshold.unit, cite(sources[threshold.source]))
        for path, threshold in _thresholds(table)
    )


def _thresholds(table: object, path: str = "") -> Iterator[tuple[str, Threshold]]:
    if isinstance(table, Threshold):
        yield path, table
    elif isinstance(table, BaseModel | dict):
        for name, inner in table.items() if isinstance(table, dict) else iter(table):
            yield from _thresholds(inner, f"{path}.{name}".removeprefix("."))


def _cited(names: Iterable[str], sources: Mapping[str, Source]) -> str:
    return "; ".join(cite(sources[name]) for name in names)


def _different(numbers: Iterable[Number]) -> list[str]:
    return list(dict.fromkeys(number.source for number in numbers))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
