"""What the commands print for people, on a terminal or into a file."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from service.backfill.portions import is_backfilled
from service.commands.whatif import LIMIT
from service.domain.course import SessionState
from service.inbound.records import Reason
from service.outbound.narrative import lines
from service.outbound.wording import day
from service.store import ParkedKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from service.commands.checks import Check
    from service.commands.operations import Explained, Shown, Verified
    from service.commands.whatif import Changed, Summary
    from service.domain.catalogue import Entry
    from service.domain.compare import What
    from service.outbound.explain import Reason as Because
    from service.outbound.negotiation import Negotiated
    from service.store import ParkedItem, Retry

_CHANGES: dict[What, str] = {
    "course": "courses that there would be, or would no longer be",
    "phase": "courses in another phase",
    "protocol": "courses under another protocol",
    "sessions": "courses with another count of sessions",
    "score": "courses with other scores",
    "finding": "courses with other findings",
    "goal": "courses with other goals",
}
_UNWRAPPED = 10_000
_MARKS = {SessionState.HELD: "●", SessionState.PLANNED: "○", SessionState.IN_PROGRESS: "◐"}


def checks(console: Console, results: Sequence[Check]) -> None:
    """Print one line for each part."""
    for each in results:
        mark, style = ("wrong", "red") if not each.ok else ("look ", "yellow") if each.warning else ("ok   ", "green")
        console.print(Text(mark, style), Text(f"{each.what}: {each.text}"), soft_wrap=True)


def courses(console: Console, shown: Sequence[Shown]) -> None:
    """Print each course: what a clinician reads, then session by session."""
    for each in shown:
        course = each.course
        story = lines(course, each.mappings)
        console.print(f"[bold]Patient {course.patient_id}[/bold]  course {course.id}  source {course.source}")
        for text in (story.headline, story.focus, *story.scores):
            console.print(f"  {text}", markup=False, soft_wrap=True)
        for text in story.attention:
            console.print(f"  ! {text}", style="red", markup=False, soft_wrap=True)
        for text in story.notes:
            console.print(f"  · {text}", markup=False, soft_wrap=True)
        for line in story.work:
            console.print(f"  {line.label}: {', '.join(line.items)}", markup=False, soft_wrap=True)
        for text in story.next:
            console.print(f"  {text}", markup=False, soft_wrap=True)
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for heading in ("", "session", "date", "state", "phase", "minutes", "encounters", "forms"):
            table.add_column(heading)
        for session in course.sessions:
            table.add_row(
                _MARKS.get(session.state, "×"),
                str(session.number or "–"),
                day(session.start.date()),
                session.state.value,
                session.phase.value if session.phase else "–",
                str(session.minutes or "–"),
                ", ".join(session.encounters),
                ", ".join(session.forms),
            )
        console.print(table)
        console.print(f"  {story.basis}", style="dim", markup=False, soft_wrap=True)


def reasons(console: Console, explained: Sequence[Explained]) -> None:
    """Print the reasons of each course as a tree; in a file or a pipe nothing wraps, each reason is a line."""
    if not console.is_terminal:
        console.width = _UNWRAPPED
    for each in explained:
        name = f"course {each.course.id} of patient {each.course.patient_id}, source {each.course.source}"
        root = Tree(Text(name))
        for reason in each.reasons:
            _grow(root, reason)
        console.print(root, highlight=False)


def _grow(tree: Tree, reason: Because) -> None:
    text = "  ".join(part for part in (reason.text, ", ".join(reason.facts)) if part)
    branch = tree.add(Text(f"{reason.field}: {text}" if reason.field else text))
    if reason.source:
        branch.add(Text(f"source: {reason.source}", "dim"))
    for inner in reason.because:
        _grow(branch, inner)


def rules(console: Console, entries: Sequence[Entry]) -> None:
    """Print each rule, protocol and instrument with its thresholds, under a heading for each kind."""
    kind = ""
    for entry in entries:
        if entry.kind != kind:
            kind = entry.kind
            console.print(Text(kind, "bold"))
        console.print(Text(f"  {entry.id} v{entry.version}  {entry.title}"), soft_wrap=True)
        console.print(Text(f"    source: {entry.source}", "dim"), soft_wrap=True)
        width = max((len(number.name) for number in entry.thresholds), default=0)
        for number in entry.thresholds:
            told = f"    {number.name:<{width}}  {number.value:g} {number.unit}"
            source = "" if number.source == entry.source else f"  {number.source}"
            console.print(Text(told), Text(source, "dim"), soft_wrap=True)


def rule_as_json(entry: Entry) -> dict[str, Any]:
    """Return a rule, protocol or instrument as JSON values."""
    return {
        "id": entry.id,
        "version": entry.version,
        "title": entry.title,
        "thresholds": [asdict(number) for number in entry.thresholds],
        "source": entry.source,
    }


def changed(console: Console, found: Changed) -> None:
    """Print what would differ in a patient's courses, a line each."""
    labels = f"  labels: {', '.join(label.code for label in found.labels)}" if found.labels else ""
    console.print(
        f"patient {found.patient.patient_id}  source {found.patient.source}{labels}", markup=False, soft_wrap=True
    )
    course = ""
    for each in found.differences:
        if each.course != course:
            course = each.course
            console.print(f"  course {course}", markup=False, soft_wrap=True)
        name = f"{each.what} {each.name}".rstrip()
        console.print(f"    {name}: {_or_none(each.before)}  ⇒  {_or_none(each.after)}", markup=False, soft_wrap=True)


def compared(console: Console, summary: Summary) -> None:
    """Print how many courses would change, and in what."""
    console.print(f"{summary.courses} courses of {summary.patients} patients compared.")
    if not summary.patients_changed:
        console.print("None would change.")
    else:
        console.print(f"{summary.courses_changed} courses of {summary.patients_changed} patients would change:")
    for what, number in sorted(summary.by_what.items()):
        console.print(f"  {_CHANGES[what]}: {number}")
    console.print(LIMIT, style="dim", markup=False, soft_wrap=True)


def changed_as_json(found: Changed) -> dict[str, Any]:
    """Return what would differ in a patient's courses as JSON values."""
    return {
        "source": found.patient.source,
        "patient": found.patient.patient_id,
        "labels": [label._asdict() for label in found.labels],
        "differences": [asdict(each) for each in found.differences],
    }


def summary_as_json(summary: Summary) -> dict[str, Any]:
    """Return how much would change as JSON values."""
    return {
        "patients": summary.patients,
        "courses": summary.courses,
        "patientsChanged": summary.patients_changed,
        "coursesChanged": summary.courses_changed,
        "changes": {what: summary.by_what.get(what, 0) for what in _CHANGES},
        "limit": LIMIT,
    }


def _or_none(text: str | None) -> str:
    return "nothing" if text is None else text


def verified(console: Console, result: Verified) -> None:
    """Print what recomputing has shown."""
    console.print(f"{result.courses} courses of {result.patients} patients recomputed from their facts.")
    if result.put_off:
        console.print(
            f"{result.put_off} patients wait for a running service to project them: it catches up with a backlog."
        )
    if not result.different:
        console.print("Every other one is as stored." if result.put_off else "Every one is as stored.")
        return
    console.print(
        f"{len(result.different)} patients differ. Restart the service if the mappings have changed; else report it."
    )
    for source, patient in result.different:
        console.print(f"  {source} {patient}", markup=False)


def negotiated(console: Console, found: Negotiated) -> None:
    """Print the route of each resource, what was decisive, and what will be missing."""
    software = found.software or "software not named"
    console.print(f"{software}, FHIR {found.fhir_version}, profile {found.profile}", markup=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("resource", "route", "decisive", "missing"):
        table.add_column(heading)
    for kind, each in found.routes.items():
        table.add_row(kind, each.way.value, Text(each.decisive), Text("\n".join(each.missing) or "–"))
    console.print(table, highlight=False)
    auth = found.authentication
    console.print(f"authentication: {auth.method}; {auth.reason}", markup=False, highlight=False, soft_wrap=True)
    if auth.token_endpoint:
        console.print(f"  token endpoint {auth.token_endpoint}", markup=False, highlight=False, soft_wrap=True)
    for text, source in found.deviations:
        console.print(Text(f"known: {text}"), Text(source, "dim"), soft_wrap=True)


def parked(console: Console, items: Sequence[ParkedItem]) -> None:
    """Print what is parked, a line each."""
    if not items:
        console.print("Nothing is parked.")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("number", "state", "kind", "source", "reason", "at", "where from"):
        table.add_column(heading)
    for each in items:
        table.add_row(str(each.id), each.state, each.kind, each.source, each.reason, each.path or "–", _origin(each))
    console.print(table)


def parked_item(console: Console, found: Retry) -> None:
    """Print one parked item and what to do."""
    item = found.item
    console.print(f"{item.kind} {item.id}, {item.state}, from {_origin(item)}", markup=False, soft_wrap=True)
    at = f"{': ' if item.kind is ParkedKind.DELIVERY else ' at '}{item.path}" if item.path else ""
    console.print(f"{item.reason}{at}", markup=False, soft_wrap=True)
    if item.reason in set(Reason):
        console.print(Reason(item.reason).advice, markup=False, soft_wrap=True)
    if item.note:
        console.print(f"discarded: {item.note}", markup=False, soft_wrap=True)
    console.print(f"Try again: ipt-bridge parked retry {item.id}", markup=False, soft_wrap=True)


def _origin(item: ParkedItem) -> str:
    if item.topic is not None:
        place = f"{item.topic}/{item.partition}@{item.offset}"
        if is_backfilled(item.topic):
            place = f"{item.topic}#{item.offset:016x}"
        return f"{place} entry {item.entry}" if item.entry >= 0 else place
    return f"course {item.course_id} at {item.destination}"
