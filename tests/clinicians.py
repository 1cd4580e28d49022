"""Clinicians who work in the EHR at random moments of our deliveries, as a property test draws them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from service.outbound.identity import token

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.outbound.elements import Element

THEIRS = "Theirs "
"""What every text of theirs begins with."""
GONE_FIRST = ("Provenance", "Task", "Flag", "CarePlan")
"""What has to be deleted before what stands after it, since it refers to it."""


@dataclass(frozen=True, slots=True)
class Move:
    """One thing that a clinician does."""

    role: str
    """Of the resource that they do it to."""
    what: str
    """`note`, `activity`, `progress`, `goal`, `delete`, or the element that they set."""
    value: str = ""
    """What they set it to."""


@dataclass
class Clinician:
    """Somebody who opens a resource, changes it, and saves it, as an EHR lets them: never over another's save."""

    http: httpx.AsyncClient
    patient: str
    """Reference."""
    roles: dict[str, Element]
    """Our resources by role, as the plan has them: their identifiers tell which one is meant."""
    moments: dict[int, Move]
    """What they do, by the number of the request of ours that it comes before."""
    after_reading: bool = True
    """Whether they may save between our reading a resource and our writing it: not where If-Match is not heeded."""
    requests: int = 0
    written: list[tuple[str, str, str]] = field(default_factory=list)
    """Role, place and text of all that they added and did not delete."""
    set: dict[tuple[str, str], str] = field(default_factory=dict)
    """What they last set, by role and element."""

    async def act(self, method: str) -> None:
        """Do what is due before this request, if what it is done to is there."""
        if method == "PUT" and not self.after_reading:
            return
        due = sorted(moment for moment in self.moments if moment <= self.requests)
        self.requests += 1
        for moment in due:
            await self.do(self.moments.pop(moment))

    async def do(self, move: Move) -> None:
        """Do one thing, tried again while others save in between."""
        if move.what == "delete":
            await self._delete(move.role)
            return
        text = f"{THEIRS}{uuid.uuid4()}"
        added = f"Goal/{await self._own_goal(text)}" if move.what == "goal" else text
        while (resource := await self.find(move.role)) is not None:
            headers = {"If-Match": f'W/"{resource["meta"]["versionId"]}"'}
            path = f"{resource['resourceType']}/{resource['id']}"
            changed = {**resource, move.what: move.value} if move.value else with_text(resource, move.what, added)
            saved = await self.http.put(path, json=changed, headers=headers)
            if saved.status_code in {httpx.codes.CONFLICT, httpx.codes.PRECONDITION_FAILED, httpx.codes.GONE}:
                continue
            assert saved.is_success, saved.text
            if move.value:
                self.set[move.role, move.what] = move.value
            else:
                self.written.append((move.role, move.what, added))
            return

    async def find(self, role: str) -> Element | None:
        """Return the one resource of a role that counts, if there is any; more than one is a failure."""
        ours = self.roles[role]
        if ours["resourceType"] == "Provenance":
            raise AssertionError("clinicians leave it alone")
        found = await self.search(ours["resourceType"], {"identifier": token(ours["identifier"][0])})
        status = "lifecycleStatus" if ours["resourceType"] == "Goal" else "status"
        counting = [each for each in found if each[status] != "entered-in-error"]
        assert len(counting) <= 1, role
        return counting[0] if counting else None

    async def search(self, kind: str, params: dict[str, str]) -> list[Element]:
        """Return what the server finds."""
        answer = await self.http.get(kind, params=params)
        assert answer.is_success, answer.text
        return [entry["resource"] for entry in answer.json().get("entry", [])]

    async def _own_goal(self, text: str) -> str:
        goal = {
            "resourceType": "Goal",
            "id": f"own-{uuid.uuid4()}",
            "lifecycleStatus": "active",
            "description": {"text": text},
            "subject": {"reference": self.patient},
        }
        (await self.http.put(f"Goal/{goal['id']}", json=goal)).raise_for_status()
        return str(goal["id"])

    async def _delete(self, role: str) -> None:
        """Delete a resource, and before it what refers to it; with it goes what they had added and set there."""
        if (resource := await self.find(role)) is None:
            return
        own = f"{resource['resourceType']}/{resource['id']}"
        referring = [*await self.search("Provenance", {"target": own})]
        if role == "careplan":
            for kind in ("Task", "Flag"):
                referring += await self.search(kind, {"patient": self.patient.rpartition("/")[2]})
            tasks = [each for each in referring if each["resourceType"] == "Task"]
            for task in tasks:
                referring += await self.search("Provenance", {"target": f"Task/{task['id']}"})
        gone = {f"{each['resourceType']}/{each['id']}": each for each in (*referring, resource)}
        for path in sorted(gone, key=lambda each: GONE_FIRST.index(each.partition("/")[0])):
            deleted = await self.http.delete(path)
            if deleted.status_code == httpx.codes.CONFLICT:
                return  # something of ours has come to refer to it meanwhile
            assert deleted.is_success, deleted.text
            self._forget(gone[path])

    def _forget(self, resource: Element) -> None:
        names = {each["value"] for each in resource.get("identifier", [])}
        for role, ours in self.roles.items():
            if "identifier" in ours and ours["identifier"][0]["value"] in names:
                self.written = [each for each in self.written if each[0] != role]
                self.set = {key: value for key, value in self.set.items() if key[0] != role}


def with_text(resource: Element, what: str, text: str) -> Element:
    """Return a resource with something that a clinician added to it."""
    match what:
        case "activity":
            added = {"detail": {"status": "not-started", "description": text}}
            return {**resource, "activity": [*resource.get("activity", []), added]}
        case "progress":
            first, *others = resource["activity"]
            noted = {**first, "progress": [*first.get("progress", []), {"text": text}]}
            return {**resource, "activity": [noted, *others]}
        case "goal":
            return {**resource, "goal": [*resource.get("goal", []), {"reference": text}]}
        case _:
            return {**resource, "note": [*resource.get("note", []), {"text": text}]}


def texts(role: str, resource: Element) -> list[tuple[str, str, str]]:
    """Return all that a resource holds of a clinician's additions, as `Clinician.written` has them."""
    found = [("note", each["text"]) for each in resource.get("note", [])]
    for activity in resource.get("activity", []):
        found += [("progress", each["text"]) for each in activity.get("progress", [])]
        found.append(("activity", activity.get("detail", {}).get("description", "")))
    found += [("goal", each["reference"]) for each in resource.get("goal", []) if "Goal/own-" in each["reference"]]
    return [(role, place, text) for place, text in found if place == "goal" or text.startswith(THEIRS)]


def lacking(ours: Element, held: Element, edited: Iterable[str]) -> list[str]:
    """Return the elements of ours that a resource does not hold as the plan has them, but for those `edited`.

    Entries that others added to a list, and progress notes on our activities, are no difference. Nor is how a
    reference is written: by the server's own id, or by an identifier where the server does not know what is meant.
    """
    passed_over = {"id", "meta", *edited}
    return [name for name, value in ours.items() if name not in passed_over and not _holds(held.get(name), value)]


def _holds(held: Any, value: Any) -> bool:  # noqa: ANN401 - any JSON value
    if not isinstance(value, list):
        return bool(_bare(held) == _bare(value))
    there = [_bare(each) for each in held or []]
    return all(_bare(each) in there for each in value)


def _bare(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return a value without a clinician's progress notes, and with no word of where a reference leads."""
    if isinstance(value, list):
        return [_bare(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "reference" in value or value.keys() == {"type", "identifier"}:
        return "a reference"
    bare = {name: _bare(inner) for name, inner in value.items()}
    if "progress" in bare:
        bare["progress"] = [each for each in bare["progress"] if not each["text"].startswith(THEIRS)]
    return {name: inner for name, inner in bare.items() if inner != []}
