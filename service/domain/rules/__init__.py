"""The rules: what a course's record gives reason to tell a clinician.

Each rule is a small pure function of a case that yields what it raises; its title, version, sentence and
sources stand in the file of `mappings/rules/` of its module's name, its thresholds there, in the protocol or in
the instrument. No rule decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain.course import Finding, FindingState, Severity
from service.domain.rules import attendance, change, ehr, ending, focus, phases, records, reviews, safety, substance
from service.domain.rules import protocol as protocol_rules

if TYPE_CHECKING:
    from service.domain.course import Answered
    from service.domain.mappings import Mappings
    from service.domain.protocols import Protocol
    from service.domain.rules.case import Case, Raised

RULES = (
    *safety.RULES,
    *change.RULES,
    *phases.RULES,
    *reviews.RULES,
    *ending.RULES,
    *protocol_rules.RULES,
    *attendance.RULES,
    *focus.RULES,
    *substance.RULES,
    *records.RULES,
    *ehr.RULES,
)
"""Every rule function, in the order in which a clinician would ask."""

# An enum's member costs a call wherever it is named.
_OPEN, _ANSWERED, _CLOSED = FindingState.OPEN, FindingState.ANSWERED, FindingState.CLOSED
_URGENCY = {severity: place for place, severity in enumerate(Severity)}


def findings(case: Case, mappings: Mappings, protocol: Protocol) -> tuple[Finding, ...]:
    """Return what the rules find in a course, the most urgent first, then by date; with what no longer holds."""
    found = [_finding(raised, case, mappings) for rule in RULES for raised in rule(case, mappings, protocol)]
    found.sort(key=lambda finding: (_URGENCY[finding.severity], finding.raised, finding.rule, finding.id))
    return tuple(found)


def _finding(raised: Raised, case: Case, mappings: Mappings) -> Finding:
    rule = mappings.rules[raised.rule]
    finding_id = f"{raised.rule}/{raised.key}" if raised.key else raised.rule
    answered, closed = raised.answered, raised.closed
    if case.answers:
        answered = _first(answered, case.answers.get(finding_id))
    return Finding(
        id=finding_id,
        rule=rule.id,
        version=rule.version,
        severity=rule.severity,
        raised=raised.on,
        due=raised.due,
        values=tuple(raised.values.items()),
        facts=tuple(dict.fromkeys(raised.facts)),
        source=rule.sources[0],
        state=_CLOSED if closed is not None else _OPEN if answered is None else _ANSWERED,
        answered=answered,
        closed=closed,
    )


def _first(one: Answered | None, other: Answered | None) -> Answered | None:
    if one is None or other is None:
        return one or other
    return min(one, other, key=lambda answered: (answered.on, answered.fact))
