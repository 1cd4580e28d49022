"""How codes, dates, scores and findings read, in the plan and wherever else a person sees a course."""

from __future__ import annotations

import re
from collections import Counter
from datetime import date
from functools import cache
from typing import TYPE_CHECKING

from service.domain.forms import FHIR_BASE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from service.domain.course import Finding, PlannedSession
    from service.domain.mappings import Mappings

# English whatever the machine's locale: plans are the same bytes everywhere.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_DATE_LENGTH = len("2026-03-12")
_PLACE = re.compile(r"\{(\w+)\}")
# What neither XML nor a FHIR string can hold.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
# Values of findings that are codes of ours, or displays of several, separated by commas.
_CODED_VALUES = {"state": "session-state", "missing": "course-field"}

NO_TREATMENT_OF_USE = "Interpersonal psychotherapy does not treat substance use; addiction care belongs beside it."
"""Said wherever a plan tells of substance use: evidence that it does is weak (Rounsaville 1983, Carroll 1991,
Markowitz 2008)."""

_TASKS = {
    "diagnosis-documented": "diagnosis",
    "interpersonal-inventory": "interpersonal inventory",
    "primary-focus-area": "focus area",
    "agreement": "agreement",
}
"""The tasks that move a course on, as a checklist names them."""


def day(value: date) -> str:
    """Return a date as `12 Mar 2026`."""
    return f"{value.day} {_MONTHS[value.month - 1]} {value.year}"


def clean(text: str) -> str:
    """Return the text without characters that XML or a FHIR string can't hold."""
    # Text that is printable has none of them, and most is.
    return text if text.isprintable() else _UNPRINTABLE.sub("\ufffd", text)


@cache
def own(system: str) -> str:
    """Return the canonical of the CodeSystem of ours with this name."""
    return f"{FHIR_BASE}/CodeSystem/{system}"


def display(mappings: Mappings, system: str, code: str) -> str:
    """Return how a code of our CodeSystem `system` reads; the code itself if the system lacks it."""
    known = mappings.own_displays.get(system)
    return clean(code if known is None else known.get(code, code))


def task(mappings: Mappings, code: str) -> str:
    """Return how a task of a phase reads in a checklist."""
    return _TASKS.get(code) or inner(display(mappings, "phase-task", code))


def inner(text: str) -> str:
    """Return the text as it reads inside a sentence: without a leading capital, abbreviations kept."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def title(mappings: Mappings, instrument: str) -> str:
    """Return an instrument's title, PHQ-9; its id if no mapping knows it."""
    known = mappings.instruments.get(instrument)
    return clean(known.title if known else instrument)


def subject(mappings: Mappings, instrument: str) -> str:
    """Return what an instrument measures and its title, `Depression (PHQ-9)`."""
    known = mappings.instruments.get(instrument)
    return f"{known.subject[:1].upper()}{known.subject[1:]} ({known.title})" if known else clean(instrument)


def count(number: int, thing: str) -> str:
    """Return `1 session`, `2 sessions`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def joined(parts: Sequence[str]) -> str:
    """Return `a, b and c`."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1]))) if parts else ""


def used(mappings: Mappings, system: str, named: Iterable[Iterable[str]], *, most: int | None = None) -> list[str]:
    """Return how often sessions name each code, `role play 2×`, the most frequent first."""
    counted = Counter(code for codes in named for code in set(codes))
    ordered = sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:most]
    return [f"{inner(display(mappings, system, code))} {times}×" for code, times in ordered]


def aimed_at(planned: PlannedSession, mappings: Mappings) -> str:
    """Return `, aimed at grief and loss: mourn the loss`; empty if the session is aimed at nothing yet."""
    known = mappings.focus_areas.get(planned.area or "")
    words = [inner(known.title)] if known else []
    words += [inner(display(mappings, "patient-goal", planned.goal))] if planned.goal else []
    return clean(f", aimed at {': '.join(words)}") if words else ""


def sentence(finding: Finding, mappings: Mappings) -> str:
    """Return a finding as a sentence without its full stop: its rule's, with its values in place.

    A finding of a rule that the mappings don't know reads as the rule's id.
    """
    rule = mappings.rules.get(finding.rule)
    if rule is None:
        return clean(finding.rule)
    values = dict(finding.values)
    # Not str.format: a mapping file may name a value, and reach nothing inside it.
    said = list(_places(rule.sentence))
    for place in range(1, len(said), 2):
        name = said[place]
        said[place] = _value(mappings, name, values[name]) if name in values else "?"
    return clean("".join(said))


@cache
def _places(sentence: str) -> tuple[str, ...]:
    """Return a rule's sentence in pieces: words, the name of a value, words again."""
    return tuple(_PLACE.split(sentence))


def _value(mappings: Mappings, name: str, value: str | float) -> str:
    if not isinstance(value, str):
        return f"{value:g}"
    if name == "instrument":
        return title(mappings, value)
    if name in _CODED_VALUES:
        return ", ".join(inner(display(mappings, _CODED_VALUES[name], code.strip())) for code in value.split(","))
    return _date_or_text(value)


def _date_or_text(value: str) -> str:
    if len(value) != _DATE_LENGTH or _ISO_DATE.fullmatch(value) is None:
        return value
    try:
        return day(date.fromisoformat(value))
    except ValueError:
        return value
