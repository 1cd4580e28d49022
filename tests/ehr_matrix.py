"""What comes of each operation at each kind of EHR: tried on a real FHIR server behind masks, told as Markdown.

`python -m tests.ehr_matrix > deploy/EHR.md` writes the document; with files of CapabilityStatements it tells of those.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from msgspec.structs import replace

from service.domain.course import Phase
from service.domain.mapping_files import parse, vendor_profiles
from service.outbound.careplan import render, retract
from service.outbound.destination import Route
from service.outbound.negotiation import BY_ITSELF, Way, negotiate
from service.outbound.terms import terms_of
from service.rest.errors import Permanent, Transient
from service.sandbox.hapi import FhirServer
from service.sandbox.mask import Mask
from tests.ehrs import KINDS, STATEMENTS, Records, course_of, delivery, destination

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from service.domain.course import Course
    from service.domain.mappings import Mappings
    from service.domain.vendors import VendorProfile
    from service.outbound.destination import Delivered
    from service.outbound.ehr import EhrDestination
    from service.outbound.negotiation import Negotiated

OPERATIONS = (
    "first plan",
    "same plan again",
    "ledger lost",
    "a clinician's edit, then a change",
    "course withdrawn",
    "answer lost",
    "break-the-glass",
)
ROOT = Path(__file__).parents[1]
_OVER = {"entered-in-error", "superseded"}
_LATER = datetime(2026, 3, 10, 9, 0, tzinfo=UTC)
_NOTHING = "–"
_INTRO = """\
# EHRs

By which route a plan gets into each kind of EHR, what a clinician sees of it there, and what it can't do. Each cell of
the second table was tried: on a real FHIR server, behind a proxy that takes only what the vendor's statement allows
and answers with the vendor's codes. The statements are in our own words, after the published ones, and shorter
([tests/specimens/statements](../tests/specimens/statements)). Azure's published one names no resource type that comes
after DeviceUseStatement in the alphabet: Goal, Task, Flag and Provenance count as not taken there. A site's own server
decides by its own statement:

```
ipt-bridge negotiate https://ehr.example/fhir
```

This file is written by `python -m tests.ehr_matrix > deploy/EHR.md`; a test holds it to what it says. With files of
CapabilityStatements the same command tells of those: `python -m tests.ehr_matrix metadata.json`.

## What a clinician changes there
Whatever they add stays, and so does a status that they set: a plan ended, a Goal rejected, a Task taken up, a Flag
ended. What they change of the service's own in a CarePlan, Goal, Task or Flag (an element, or an entry of it in a list)
is put back once; changed again, it stays as they have it while the rest is kept current, and the course has a finding
for information that names the element, until it is as the plan's again. Of an activity, a target, or a Goal within the
CarePlan that is only so for its words, and what they add to them; it goes when the plan no longer has it. What a server
makes of a resource by itself is told from an edit by reading it once more after a write that puts something back.

Always put back, with the next write and without a finding:
- a status by which nothing is ended, paused or taken up, such as a plan's `draft` or a Goal's `proposed`;
- each session and other activity: that it is there, its status and time, what it is, its goals and outcomes;
- of a target its due date; of a Goal within the CarePlan how far it is, and its targets;
- the narrative, for it tells all findings, and the text of a plan-of-care note;
- identifiers, what says whose and what a resource is, and the service's extensions.
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of EHR."""

    name: str
    said: bytes
    """Its CapabilityStatement."""
    found: Negotiated


@dataclass(frozen=True, slots=True)
class Trial:
    """One kind of EHR being tried."""

    case: Case
    mask: Mask
    ehr: EhrDestination
    records: Records
    mappings: Mappings

    async def deliver(self, course: Course, after: Delivered | None, counter: int, *, gone: bool = False) -> Delivered:
        """Deliver a course's plan."""
        plan = retract(course, self.mappings) if gone else render(course, self.mappings)
        return await self.ehr.deliver(delivery(plan, after, counter))

    def writes(self) -> list[str]:
        """Return the paths that were written to: looking for a clinician's answer sends nothing."""
        return [path for method, path, _ in self.mask.asked if method != "GET" and not path.endswith("_search")]

    def main(self, patient: str) -> list[dict[str, Any]]:
        """Return the resources that stand for the plan, the oldest first."""
        kind = "CarePlan" if self.case.found.routes["CarePlan"].way in BY_ITSELF else "DocumentReference"
        return self.records.of(patient, kind)

    def holds(self, patient: str) -> str:
        """Return what is there of a patient's plan, by type."""
        counts = Counter(kind for kind in KINDS for _ in self.records.of(patient, kind))
        return ", ".join(f"{kind} {count}×" if count > 1 else kind for kind, count in counts.items()) or "nothing"


def cases(profiles: Mapping[str, VendorProfile], files: Sequence[Path]) -> list[Case]:
    """Return the kinds of EHR that statements in files describe, by file name."""
    said = {path.stem: path.read_bytes() for path in sorted(files)}
    return [Case(name, content, negotiate(content, None, profiles)) for name, content in said.items()]


async def outcomes(
    case: Case, server: str, profiles: Mapping[str, VendorProfile], mappings: Mappings
) -> dict[str, str]:
    """Return what comes of each operation at one kind of EHR."""
    records = Records(server)
    try:
        with Mask(server, case.said, case.found.known) as mask:
            async with destination(mask, profiles, scores=True) as ehr:
                trial = Trial(case, mask, ehr, records, mappings)
                return {**await _life(trial), **await _lost(trial), **await _locked(trial)}
    finally:
        records.close()


async def _life(trial: Trial) -> dict[str, str]:
    """Play one course from its first plan to its withdrawal."""
    patient = trial.records.person()
    course = course_of(patient)
    told: dict[str, str] = {}
    first = await trial.deliver(course, None, 1)
    if first.route is Route.CHART_ONLY:
        return dict.fromkeys(OPERATIONS, _NOTHING) | {"first plan": "nothing; chart view"}
    told["first plan"] = trial.holds(patient)

    before = len(trial.writes())
    again = await trial.deliver(course, first, 1)
    told["same plan again"] = "nothing sent" if len(trial.writes()) == before else "sent again"

    held = trial.main(patient)
    found = await trial.deliver(course, None, 1)
    same = len(trial.main(patient)) == len(held) and found.ledger["remotes"].keys() == again.ledger["remotes"].keys()
    told["ledger lost"] = "found again" if same else "sent again"

    trial.records.edit(held[0], language="de")
    asked = len(trial.mask.asked)
    changed = replace(course, phase=Phase.ENDING, latest=_LATER)
    second = await trial.deliver(changed, again, 2)
    told["a clinician's edit, then a change"] = _after_edit(trial, patient, held, trial.mask.asked[asked:])

    await trial.deliver(changed, second, 3, gone=True)
    told["course withdrawn"] = _after_withdrawal(trial, patient)
    return told


def _after_edit(trial: Trial, patient: str, held: list[dict[str, Any]], asked: list[tuple[str, str, int]]) -> str:
    now = trial.main(patient)
    if now[0].get("language") != "de":
        return "edit lost"
    if len(now) > len(held):
        replaced = [each["target"]["reference"] for each in now[-1].get("relatesTo", [])]
        return "kept; another edition" if f"DocumentReference/{held[-1]['id']}" in replaced else "duplicate"
    conflicts = [str(status) for _, _, status in asked if status in {409, 412}]
    return f"kept; {conflicts[0]}, then merged" if conflicts else "kept; read before writing"


def _after_withdrawal(trial: Trial, patient: str) -> str:
    standing = [each for each in trial.main(patient) if each["status"] not in _OVER]
    if not standing:
        return "entered in error"
    return "an edition that says so" if standing[-1].get("relatesTo") else "still there"


async def _lost(trial: Trial) -> dict[str, str]:
    """Lose the answer to what creates the plan, and try again."""
    if trial.case.found.routes["CarePlan"].way is Way.CHART_ONLY:
        return {}
    patient = trial.records.person()
    creates = ("POST ", "PUT CarePlan", "POST CarePlan", "POST DocumentReference")
    trial.mask.lost += creates
    for _ in range(1 + len(creates)):
        try:
            await trial.deliver(course_of(patient), None, 1)
        except Transient:
            continue
        break
    untouched = len(trial.mask.lost) == len(creates)
    trial.mask.lost.clear()
    standing = [each for each in trial.main(patient) if each["status"] not in _OVER]
    return {"answer lost": "void" if untouched else "one of it" if len(standing) == 1 else f"{len(standing)} of it"}


async def _locked(trial: Trial) -> dict[str, str]:
    """Let the server refuse as where somebody has to break the glass first."""
    codes = trial.case.found.known.never_retried
    if codes is None or trial.case.found.routes["CarePlan"].way is Way.CHART_ONLY:
        return {"break-the-glass": _NOTHING}
    patient = trial.records.person()
    trial.mask.locked, before = codes.value[0], len(trial.mask.asked)
    try:
        await trial.deliver(course_of(patient), None, 1)
    except Permanent:
        writes = [each for each in trial.mask.asked[before:] if each[0] != "GET"]
        return {"break-the-glass": "parked at once" if len(writes) == 1 else "tried again"}
    finally:
        trial.mask.locked = None
    return {"break-the-glass": "not noticed"}


def sees(found: Negotiated) -> str:
    """Say what a clinician sees of a plan."""
    terms = terms_of(found, scores=True)
    if terms.plan is Way.CHART_ONLY:
        return "The chart view alone"
    if terms.plan is Way.DOCUMENT:
        note = "A plan-of-care note"
        note += ", kept current" if terms.taken["DocumentReference"].update else ", a further edition for each change"
        return f"{note}{'; scores as Observations where wanted' if 'Observation' in terms.taken else ''}"
    parts = ["a CarePlan", "Goals within it" if terms.contained_goals else "Goals"]
    parts += ["Tasks for reviews" if "Task" in terms.taken else "reviews as its activities"]
    parts += [word for kind, word in (("Communication", "messages"), ("Flag", "safety flags")) if kind in terms.taken]
    said = ", ".join(parts)
    return said[:1].upper() + said[1:]


def routes_table(all_cases: Iterable[Case]) -> list[str]:
    """Return the first table: routes, and what comes of them for whoever looks."""
    lines = [
        "| EHR | CarePlan | Goal | Task | Flag | Provenance | what the clinician sees |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in all_cases:
        routes = [case.found.routes[kind].way.value for kind in ("CarePlan", "Goal", "Task", "Flag", "Provenance")]
        lines.append(f"| {case.name} | {' | '.join(routes)} | {sees(case.found)} |")
    return lines


def outcomes_table(told: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return the second table: what came of each operation."""
    lines = [f"| EHR | {' | '.join(OPERATIONS)} |", f"|---|{'---|' * len(OPERATIONS)}"]
    return lines + [f"| {name} | {' | '.join(of[each] for each in OPERATIONS)} |" for name, of in told.items()]


def limits(all_cases: Iterable[Case]) -> list[str]:
    """Return what each can't do, and where its vendor deviates from its statement."""
    lines = []
    for case in all_cases:
        of_plan = (route for kind, route in case.found.routes.items() if kind != "AuditEvent")
        missing = [text for route in of_plan for text in route.missing]
        deviations = [sentence for sentence, _ in case.found.deviations]
        lines.append(f"- **{case.name}** ({case.found.known.title}): {' '.join(dict.fromkeys(missing + deviations))}")
    return [line.rstrip() if not line.endswith(": ") else f"{line}none known." for line in lines]


def document(all_cases: Sequence[Case], told: Mapping[str, Mapping[str, str]]) -> str:
    """Return deploy/EHR.md."""
    parts = [_INTRO, "## Routes", *routes_table(all_cases), "", "## What was tried", *outcomes_table(told), ""]
    return "\n".join([*parts, "## Known limits", *limits(all_cases), ""])


async def told_of(
    all_cases: Sequence[Case], server: str, profiles: Mapping[str, VendorProfile], mappings: Mappings
) -> dict[str, dict[str, str]]:
    """Return the outcomes at every kind of EHR."""
    return {case.name: await outcomes(case, server, profiles, mappings) for case in all_cases}


def main(files: Sequence[str]) -> None:
    """Print the document about the project's own statements, or about those in files."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    mapping_files = {
        path.relative_to(ROOT / "mappings").as_posix(): path.read_bytes()
        for path in (ROOT / "mappings").rglob("*")
        if path.is_file()
    }
    profiles = vendor_profiles(mapping_files)
    all_cases = cases(profiles, [Path(file) for file in files] or list(STATEMENTS.glob("*.json")))
    with FhirServer(validate=True) as server:
        told = asyncio.run(told_of(all_cases, server.base, profiles, parse(mapping_files)))
    sys.stdout.write(document(all_cases, told))


if __name__ == "__main__":
    main(sys.argv[1:])
