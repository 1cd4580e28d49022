"""Which protocol a course follows: as a form names it, else by the site's rule, else the default."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain.course import ChosenBy, Documented, ProtocolSpan, SessionState
from service.domain.forms import CourseField

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.domain.evidence import Form, Meeting
    from service.domain.mappings import Mappings
    from service.domain.protocols import Protocol, SiteProtocol
    from service.domain.treatments import Treatment

# An enum's member costs a call wherever it is named.
_CANCELLED, _PROTOCOL = SessionState.CANCELLED, CourseField.PROTOCOL


def protocols_followed(treatment: Treatment, mappings: Mappings) -> tuple[ProtocolSpan, ...]:
    """Return the protocols that a course has followed, the current one last.

    The first that a form names holds from the beginning: until then another one only stood in for it. A course
    that follows another is in maintenance until a form says otherwise.
    """
    opened = treatment.opened.date()
    named = [
        (form, form.values[_PROTOCOL][0])
        for form in treatment.forms
        if _PROTOCOL in form.values and form.values[_PROTOCOL][0] in mappings.protocols
    ]
    if treatment.decided is not None:
        found = [ProtocolSpan(mappings.courses.maintenance, opened, ChosenBy.FORM, treatment.decided.reference)]
    elif named:
        form, code = named[0]
        found = [ProtocolSpan(code, min(opened, form.start.date()), ChosenBy.FORM, form.reference)]
        named = named[1:]
    else:
        return (_by_site(treatment, mappings) or ProtocolSpan(mappings.courses.protocol, opened, ChosenBy.DEFAULT),)
    for form, code in named:
        if code == found[-1].protocol:
            continue
        on = form.start.date()
        if on == found[-1].since and len(found) > 1:
            found.pop()
            if code == found[-1].protocol:
                continue
        found.append(ProtocolSpan(code, on, ChosenBy.FORM, form.reference))
    return tuple(found)


def _by_site(treatment: Treatment, mappings: Mappings) -> ProtocolSpan | None:
    if not mappings.site_protocols:
        return None
    aged = next((form for form in treatment.forms if CourseField.AGE in form.numbers), None)
    for rule in mappings.site_protocols:
        fact = _fits(rule, treatment, aged)
        if fact is not None:
            return ProtocolSpan(rule.protocol, treatment.opened.date(), ChosenBy.SITE, fact)
    return None


def _fits(rule: SiteProtocol, treatment: Treatment, aged: Form | None) -> str | None:
    """The fact by which a rule fits a treatment; an age that is not known fits none that asks for one."""
    fact = None
    if rule.age_from is not None or rule.age_below is not None:
        age = None if aged is None else aged.numbers[CourseField.AGE]
        if aged is None or age is None:
            return None
        if (rule.age_from is not None and age < rule.age_from) or (
            rule.age_below is not None and age >= rule.age_below
        ):
            return None
        fact = aged.reference
    if rule.codes:
        wanted = rule.keys
        coded = (m.reference for m in treatment.meetings if m.state is not _CANCELLED and wanted.intersection(m.types))
        return next(coded, None)
    return fact


def exclusions(meetings: list[Meeting], forms: list[Form], protocol: Protocol) -> Iterator[Documented]:
    """Yield what speaks against a protocol, each with the first fact that names it."""
    if not protocol.exclusions:
        return
    for exclusion in protocol.exclusions:
        reasons = {coding.key for coding in exclusion.reasons}
        naming = [
            (form.start, form.reference)
            for form in forms
            if exclusion.code in form.values.get(CourseField.EXCLUSION, ())
        ]
        naming += [(m.start, m.reference) for m in meetings if reasons.intersection(m.reasons)]
        if naming:
            start, fact = min(naming)
            yield Documented(exclusion.code, start.date(), fact)
