"""What is to be written for a patient whose facts were projected anew. Pure: values in, values out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from service.domain import state
from service.domain.course import FindingState, Phase
from service.remembered import Standing
from service.store.values import CourseUpdate, GoneCourse, PatientUpdate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.domain.course import Course, Projection
    from service.domain.mappings import Mappings
    from service.store.values import StoredCourse

_PLACES = {phase: place for place, phase in enumerate(Phase)}
_CLOSED = FindingState.CLOSED  # an enum's member costs a call wherever it is named


@dataclass(frozen=True, slots=True)
class Decided:
    """What is to be written for a patient, and how the patient's courses stand afterwards."""

    update: PatientUpdate
    courses: Mapping[str, Standing]


def decide(
    projection: Projection, stored: Sequence[StoredCourse], cause: tuple[str, ...], mappings: Mappings
) -> Decided:
    """Return what is to be written for a patient: courses that changed, and what becomes of those that are gone.

    A course that is gone is taken over by a new one that rests on any of the same facts, so that a
    clinician's CarePlan goes on under its new name.
    """
    (decided,) = decide_together([projection], stored, cause, mappings)
    return decided


def decide_together(
    projections: Sequence[Projection], stored: Sequence[StoredCourse], cause: tuple[str, ...], mappings: Mappings
) -> list[Decided]:
    """Return the same for each of several patients of one group, with the stored courses of all.

    A course of one may be taken over by another's. What becomes of those that are gone stands with the first patient.
    """
    before = {course.course_id: course for course in stored}
    courses = [course for projection in projections for course in projection.courses]
    projected = {course.id for course in courses}
    fresh = [course for course in courses if course.id not in before or before[course.id].gone]
    gone = []
    for course in stored:
        if course.gone or course.course_id in projected:
            continue
        last = orjson.loads(course.state)
        # Maintenance never takes over the plan of the treatment that it follows, nor the other way round.
        alike = [each for each in fresh if (each.follows is None) == (last.get("follows") is None)]
        heir = _heir(_last(course.anchor, last), alike)
        if heir is not None:
            fresh.remove(heir)
        last_words = state.revision(b"gone" + course.state, mappings)
        gone.append(GoneCourse(course.course_id, last_words, None if heir is None else heir.id, cause))
    standing = {id_: _standing(before[id_]) for id_ in projected if id_ in before and not before[id_].gone}
    return [
        _update(projection, standing, () if place else tuple(gone), cause, mappings)
        for place, projection in enumerate(projections)
    ]


def revise(
    projection: Projection, standing: Mapping[str, Standing], cause: tuple[str, ...], mappings: Mappings
) -> Decided | None:
    """Return the same where a patient has the courses that it had, none more and none less; else None."""
    if standing.keys() != {course.id for course in projection.courses}:
        return None
    return _update(projection, standing, (), cause, mappings)


def _update(
    projection: Projection,
    standing: Mapping[str, Standing],
    gone: tuple[GoneCourse, ...],
    cause: tuple[str, ...],
    mappings: Mappings,
) -> Decided:
    courses: dict[str, Standing] = {}
    changed = []
    for course in projection.courses:
        content = state.dump(course)
        before = standing.get(course.id)
        after = Standing(state.revision(content, mappings), _asking(course), course.phase)
        courses[course.id] = after
        if before is None or before.revision != after.revision:
            changed.append(_revision(course, content, after, before, cause))
    update = PatientUpdate(
        projection.patient, projection.next_due, projection.as_of, tuple(changed), gone, mappings.digest
    )
    return Decided(update, courses)


def _asking(course: Course) -> frozenset[str]:
    """Ids of the findings that hold: history tells when one is raised, and when it is closed."""
    return frozenset([finding.id for finding in course.findings if finding.state is not _CLOSED])


def _revision(
    course: Course, content: bytes, after: Standing, before: Standing | None, cause: tuple[str, ...]
) -> CourseUpdate:
    known = before.findings if before is not None else frozenset()
    raised = after.findings - known
    return CourseUpdate(
        course_id=course.id,
        anchor=course.anchor,
        phase=course.phase.value,
        revision=after.revision,
        state=content,
        cause=cause,
        opened=tuple(sorted(raised)),
        closed=tuple(sorted(known - after.findings)),
        reason=_went_back(before, after, raised) if before is not None else None,
    )


def _went_back(before: Standing, after: Standing, raised: frozenset[str]) -> str | None:
    """Why the phase of a course lies before the one that it had; None if it doesn't."""
    if _PLACES[after.phase] >= _PLACES[before.phase]:
        return None
    rules = {finding.partition("/")[0] for finding in raised}
    if "protocol.changed" in rules:
        return "another protocol was chosen"
    if "sessions.planned-changed" in rules:
        return "another number of sessions was agreed"
    if before.phase is Phase.CLOSED:
        return "the end no longer stands: the ending form was corrected, or a later one decides to go on"
    return "records that the phase rested on were corrected, withdrawn or came late"


def _standing(course: StoredCourse) -> Standing:
    content = orjson.loads(course.state)
    found = content["findings"]
    findings = frozenset([finding["id"] for finding in found if finding.get("state") != FindingState.CLOSED])
    return Standing(course.revision, findings, Phase(content["phase"]))


def _last(anchor: str, last: Mapping[str, Any]) -> set[str]:
    """What a stored course rested on, as `_facts` gives it of one just projected."""
    sessions = {f"Encounter/{e}" for session in last["sessions"] for e in session["encounters"]}
    forms = {f"QuestionnaireResponse/{f}" for session in last["sessions"] for f in session["forms"]}
    return sessions | forms | {document["fact"] for document in last["documented"]} | {anchor}


def _heir(rested_on: set[str], fresh: Sequence[Course]) -> Course | None:
    """The new course that shares most facts with one that is gone; None if none shares any."""
    shared = [(len(rested_on & _facts(course)), course) for course in fresh]
    most = max((count for count, _ in shared), default=0)
    return next((course for count, course in shared if count == most), None) if most else None


def _facts(course: Course) -> set[str]:
    sessions = {f"Encounter/{e}" for session in course.sessions for e in session.encounters}
    forms = {f"QuestionnaireResponse/{f}" for session in course.sessions for f in session.forms}
    return sessions | forms | {document.fact for document in course.documented} | {course.anchor}
