"""What a clinician changed of ours is told from our own progress and from what a server makes of it."""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from service.outbound.careplan import render
from service.outbound.edits import Mark, edited, either, is_unseen, judged, kept, once_ours, remembered, sent, settled
from service.outbound.elements import COURSE_IDENTIFIER
from service.outbound.ledger import Remote
from service.outbound.merging import merge
from service.outbound.owned import entries, part
from tests import courses
from tests.courses import SAFETY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.domain.mappings import Mappings

Resource = dict[str, Any]
CONDITION = {"reference": "Condition/c-1"}
PHQ_9 = {"coding": [{"system": "http://loinc.org", "code": "44261-6"}]}


@pytest.fixture
def plan(mappings: Mappings) -> dict[str, Resource]:
    """Return the resources of a plan, by role."""
    course = courses.course(conditions=("Condition/c-1",))
    return dict(render(replace(course, findings=(SAFETY, *course.findings)), mappings).resources)


@pytest.fixture
def ours(plan: dict[str, Resource]) -> Resource:
    """Return our CarePlan."""
    return plan["careplan"]


def knows(ours: Resource, marks: Mapping[str, Mark] | None = None) -> Remote:
    """Return what is remembered of a resource as it was sent."""
    return Remote(ours["id"], "1", "d", "active", foreign=False, hashes=sent(ours), marks=marks or {})


def look(
    ours: Resource,
    remote: Resource,
    known: Remote | None = None,
    marks: Mapping[str, Mark] | None = None,
    *,
    is_our_version: bool = False,
) -> dict[str, Mark]:
    """Return the marks of a resource that somebody wrote to since it was sent."""
    return judged(ours, remote, known or knows(ours, marks), is_our_version=is_our_version)


def activity(ours: Resource, place: int, **detail: object) -> Resource:
    """Return our CarePlan with one of our activities changed."""
    theirs = copy.deepcopy(ours)
    theirs["activity"][place]["detail"] |= detail
    return theirs


def test_an_edit_is_put_back_once_then_left_until_it_is_ours_again(ours: Resource) -> None:
    """Marked each time; told when it is left; as ours in the end."""
    theirs = ours | {"title": "Talking therapy"}
    once = look(ours, theirs)
    assert {"title": Mark.PUT_BACK} == once
    assert is_unseen(ours, knows(ours), once)
    assert not is_unseen(ours, knows(ours, once), once)
    assert (frozenset(), ()) == (kept(once), edited("CarePlan", once))
    assert once == look(ours, ours, marks=once)
    again = look(ours, ours | {"title": "Theirs"}, marks=once)
    assert {"title": Mark.LEFT} == again
    assert (frozenset({"title"}), ("CarePlan.title",)) == (kept(again), edited("CarePlan", again))
    assert again == look(ours, theirs, marks=again)
    assert {} == look(ours, ours, marks=again)


def test_what_is_left_is_ours_again_once_we_wish_the_same(ours: Resource) -> None:
    """Or once they go back to what we had sent, though our wish has moved on since."""
    left = {"title": Mark.LEFT}
    now = ours | {"title": "Theirs"}
    assert {} == look(now, ours | {"title": "Theirs"}, knows(ours, left))
    known = Remote(ours["id"], "1", "d", "active", foreign=True, hashes=remembered(now, knows(ours, left), left))
    assert {} == look(now, ours, known)
    assert {"title": Mark.PUT_BACK} == look(ours, now, known)


def test_our_own_progress_is_no_edit(ours: Resource, mappings: Mappings) -> None:
    """Whatever changes in the plan, the server has what was sent."""
    later = replace(courses.course(held=10, planned_sessions=20), sessions=(courses.session(1), courses.session(2)))
    now = render(later, mappings).resources[0][1]
    assert now["activity"] != ours["activity"]
    assert {} == look(now, ours, knows(ours))
    assert {} == look(ours, now, knows(now))


def test_after_a_lost_answer_either_of_two_may_be_there(ours: Resource) -> None:
    """What was sent before, or what the answer was lost of; and nothing of what one of them lacks."""
    less = {name: value for name, value in ours.items() if name not in {"description", "addresses"}}
    other = less | {"title": "Ours, later"}
    known = dataclasses.replace(knows(ours), hashes=either(sent(ours), other))
    wish = ours | {"title": "Ours, last", "description": "Ours, last"}
    for there in (ours, other):
        assert {} == look(wish, there, known)
    assert {"title": Mark.PUT_BACK} == look(wish, other | {"title": "Theirs"}, known)
    assert () == either((), ours)


def test_an_altered_activity_is_an_edit_and_notes_on_it_are_none(ours: Resource) -> None:
    """Of that one alone."""
    third = part("activity", ours["activity"][3])
    assert {third: Mark.PUT_BACK} == look(ours, activity(ours, 3, description="With the partner"))
    noted = copy.deepcopy(ours)
    noted["activity"][3]["progress"] = [*noted["activity"][3].get("progress", []), {"text": "Went well"}]
    assert {} == look(ours, noted | {"activity": [*noted["activity"], {"detail": {"status": "completed"}}]})


@pytest.mark.parametrize("marks", [Mark.PUT_BACK, Mark.LEFT])
def test_a_session_that_was_taken_away_is_put_back_each_time(marks: Mark, ours: Resource) -> None:
    """How many were held stands in the chart, whatever became of its words."""
    third = part("activity", ours["activity"][3])
    gone = ours | {"activity": [*ours["activity"][:3], *ours["activity"][4:]]}
    found = look(ours, gone, marks={third: marks})
    assert Mark.LEFT not in found.values()
    assert ours["activity"] == merge(ours, gone, sent=(), asked="active", kept=kept(found)).resource["activity"]
    assert ours["activity"] == merge(ours, gone, sent=(), asked="active", kept=frozenset({third})).resource["activity"]


@pytest.mark.parametrize(
    "changed",
    [
        {"status": "cancelled"},
        {"scheduledPeriod": {"start": "2030-01-01"}},
        {"scheduledString": "Some day"},
        {"statusReason": {"text": "Ill"}},
        {"doNotPerform": True},
        {"code": {"text": "Walk"}},
        {"goal": [{"reference": "Goal/theirs"}]},
    ],
)
def test_what_a_session_is_and_how_it_stands_is_always_ours(changed: Resource, ours: Resource) -> None:
    """No edit, whatever they make of it; and where its words are left, the rest of it goes on."""
    third = part("activity", ours["activity"][3])
    assert {} == look(ours, activity(ours, 3, **changed))
    theirs = activity(ours, 3, description="Theirs", location={"display": "Room 2"}, **changed)
    theirs["activity"][3] |= {"outcomeReference": [{"reference": "Observation/theirs"}]}
    assert {third: Mark.LEFT} == look(ours, theirs, marks={third: Mark.LEFT})
    now = activity(ours, 3, status="completed", scheduledPeriod={"start": "2026-04-04"})
    held = merge(now, theirs, sent=(), asked="active", kept=frozenset({third})).resource["activity"]
    words = {"description": "Theirs", "location": {"display": "Room 2"}}
    assert now["activity"][3] | {"detail": now["activity"][3]["detail"] | words} == held[3]
    assert [*now["activity"][:3], *now["activity"][4:]] == [*held[:3], *held[4:]]


def test_of_a_target_that_is_left_the_due_date_goes_on(plan: dict[str, Resource]) -> None:
    """What is aimed at is theirs, by when it is due is not."""
    goal = plan["goal/phq-9"]
    (target,) = goal["target"]
    aim = {"detailInteger": 7}
    theirs = goal | {"target": [{"measure": target["measure"], "dueDate": "2030-01-01"} | aim]}
    marks = {part("target", target): Mark.LEFT}
    assert marks == look(goal, theirs, marks=marks)
    now = goal | {"target": [target | {"dueDate": "2026-12-24"}]}
    held = merge(now, theirs, sent=(), asked="active", kept=frozenset(marks)).resource["target"]
    assert [{"measure": target["measure"], "dueDate": "2026-12-24"} | aim] == held
    later = goal | {"target": [target | {"dueDate": "2030-01-01"}]}
    assert {} == look(goal, later)


def test_how_far_a_goal_is_and_since_when_are_left_together(plan: dict[str, Resource]) -> None:
    """Their status with our date would say what nobody said."""
    goal = plan["goal/phq-9"]
    for theirs in ({"achievementStatus": {"text": "Achieved, they say"}}, {"statusDate": "2030-01-01"}):
        marks = look(goal, goal | theirs, marks={"achievementStatus": Mark.PUT_BACK})
        assert ({"achievementStatus": Mark.LEFT}, ("Goal.achievementStatus",)) == (marks, edited("Goal", marks))
        now = goal | {"achievementStatus": {"text": "Ours"}, "statusDate": "2026-12-24"}
        held = merge(now, goal | theirs, sent=(), asked="active", kept=kept(marks)).resource
        named = ("achievementStatus", "statusDate")
        assert [(goal | theirs)[name] for name in named] == [held[name] for name in named]


def test_a_target_whose_measure_has_no_code_is_the_same_whenever_it_is_due() -> None:
    """It stands once, current, and what was left of it stays left."""
    measure = {"text": "Sleep total score"}
    names = {part("target", {"measure": measure, "dueDate": each, "detailInteger": 7}) for each in ("2026", "2027")}
    assert {part("target", {"measure": measure})} == names
    assert part("target", {"measure": {"text": "Other"}}) not in names
    assert part("target", {"dueDate": "2026"}) == part("target", {"dueDate": "2027"})
    assert part("target", {"detailString": "Walk", "dueDate": "2026"}) != part("target", {"dueDate": "2027"})


def test_an_activity_whose_code_was_changed_is_still_ours(ours: Resource) -> None:
    """By its id: put back, it does not stand twice."""
    theirs = activity(ours, 3, code={"text": "Walk"})
    merged = merge(ours, theirs, sent=(), asked="active")
    assert ours["activity"] == merged.resource["activity"]


def test_activities_without_ids_are_no_edits(ours: Resource) -> None:
    """A client that drops ids as it saves has changed nothing that anybody could tell."""
    bare = ours | {"activity": [{"detail": each["detail"]} for each in ours["activity"]]}
    assert {} == look(ours, bare)
    assert ours["activity"] == merge(ours, bare, sent=(), asked="active").resource["activity"]


def test_what_is_left_stays_in_its_place_and_the_rest_is_current(ours: Resource, mappings: Mappings) -> None:
    """An element, an entry that was altered, one that was taken away; with what others added beside them."""
    theirs = activity(ours, 3, description="With the partner") | {"title": "Theirs", "addresses": []}
    theirs["activity"].append({"detail": {"status": "not-started", "description": "Walk"}})
    third = part("activity", ours["activity"][3])
    marks = dict.fromkeys(("title", third, part("addresses", CONDITION)), Mark.LEFT)
    now = render(courses.course(held=10, conditions=("Condition/c-1",)), mappings).resources[0][1]
    assert marks == look(now, theirs, knows(ours, marks))
    held = merge(now, theirs, sent=(), asked="active", kept=kept(marks)).resource
    assert ("Theirs", now["description"], now["text"]) == (held["title"], held["description"], held["text"])
    assert "addresses" not in held
    expected = activity(now, 3, description="With the partner")["activity"]
    assert [*expected, theirs["activity"][-1]] == held["activity"]


@pytest.mark.parametrize("changed", [{}, {"code": {"text": "Walk"}}])
def test_an_entry_that_was_left_and_that_the_plan_no_longer_has_is_removed(changed: Resource, ours: Resource) -> None:
    """As any other of ours, by its code or its id: a session that was not held must not stand there."""
    third = part("activity", ours["activity"][3])
    theirs = activity(ours, 3, description="With the partner", **changed)
    now = ours | {"activity": ours["activity"][:3]}
    known = knows(ours, {third: Mark.LEFT})
    marks = look(now, theirs, known)
    assert {} == marks
    held = merge(now, theirs, sent=once_ours(known), asked="active", kept=kept(marks)).resource
    assert now["activity"] == held["activity"]


def contained(ours: Resource, *, within: bool = True) -> Resource:
    """Return our CarePlan with a Goal within it, or as it is once the plan has that no longer."""
    goal = {
        "resourceType": "Goal",
        "id": "g-1",
        "identifier": [{"system": COURSE_IDENTIFIER, "value": "g-1"}],
        "lifecycleStatus": "active",
        "achievementStatus": {"text": "improving"},
        "description": {"text": "Ours"},
        "target": [{"dueDate": "2026-08-01"}],
    }
    held = {"contained": [goal], "goal": [{"reference": "#g-1"}]} if within else {}
    return {name: value for name, value in ours.items() if name != "goal"} | held


def test_of_a_contained_goal_that_is_left_only_the_words_are_theirs(ours: Resource) -> None:
    """How far it is, and by when, goes on."""
    now = contained(ours)
    theirs = copy.deepcopy(now)
    theirs["contained"][0] |= {"description": {"text": "Theirs"}, "lifecycleStatus": "on-hold", "target": []}
    theirs["contained"][0] |= {"achievementStatus": {"text": "achieved"}, "statusDate": "2030-01-01"}
    marks = look(now, theirs, marks={part("contained", now["contained"][0]): Mark.LEFT})
    (held,) = merge(now, theirs, sent=(), asked="active", kept=kept(marks)).resource["contained"]
    assert now["contained"][0] | {"description": {"text": "Theirs"}} == held


def test_what_is_contained_goes_with_what_refers_to_it(ours: Resource) -> None:
    """When the plan has it no longer, or what referred to it was left as taken away; no reference leads nowhere."""
    now, gone = contained(ours), contained(ours, within=False)
    for remembered_of_it in (entries(now), ()):
        held = merge(gone, now, sent=remembered_of_it, asked="active").resource
        assert not {"contained", "goal"} & held.keys()
    walk = {"detail": {"status": "not-started", "goal": [{"reference": "#g-1"}]}}
    theirs = now | {"activity": [*now["activity"], walk]}
    held = merge(gone, theirs, sent=entries(now), asked="active").resource
    assert [now["contained"][0] | {"lifecycleStatus": "cancelled"}] == held["contained"]
    withdrawn = gone | {"status": "entered-in-error"}
    (blank,) = merge(withdrawn, theirs, sent=entries(now), asked="active").resource["contained"]
    assert ("entered-in-error", {"text": "Entered in error"}) == (blank["lifecycleStatus"], blank["description"])
    assert "target" not in blank
    left = frozenset({part("goal", {"reference": "#g-1"})})
    unreferred = merge(now, now | {"goal": []}, sent=entries(now), asked="active", kept=left).resource
    assert not {"contained", "goal"} & unreferred.keys()


def test_what_the_server_makes_of_ours_is_never_an_edit(ours: Resource) -> None:
    """Seen where nobody has written since, or when it is read once more after ours was put back."""
    shaped = ours | {"title": ours["title"].upper()}
    marks = look(ours, shaped, is_our_version=True)
    assert {"title": Mark.RESHAPED} == marks
    assert marks == look(ours, ours | {"title": "Theirs"}, marks=marks)
    theirs = shaped | {"description": "Theirs"}
    both = look(ours, theirs)
    assert {"title": Mark.PUT_BACK, "description": Mark.PUT_BACK} == both
    assert {"title": Mark.RESHAPED, "description": Mark.PUT_BACK} == settled(ours, shaped, both, is_our_version=True)
    left = {"description": Mark.LEFT}
    assert left | {"title": Mark.RESHAPED} == settled(ours, theirs, left, is_our_version=True)


def test_what_a_server_made_of_ours_is_over_when_it_holds_what_was_sent(ours: Resource) -> None:
    """Another value, which it takes as it is: from then on edits of it count."""
    assert {} == look(ours, ours, marks={"title": Mark.RESHAPED})


def test_where_somebody_may_have_written_meanwhile_what_differs_counts_for_nothing(ours: Resource) -> None:
    """What is as it was sent was surely put back."""
    marks = dict.fromkeys(("description", "title"), Mark.PUT_BACK)
    again = ours | {"title": "Whose?"}
    assert {"description": Mark.PUT_BACK} == settled(ours, again, marks, is_our_version=False)


def test_a_value_that_was_never_seen_after_it_was_sent_is_looked_at(ours: Resource) -> None:
    """Put back long ago, and another one since: what the server makes of that is no second edit."""
    marks = {"title": Mark.PUT_BACK}
    now = ours | {"title": "Ours, later"}
    assert is_unseen(now, knows(ours, marks), marks)
    known = dataclasses.replace(knows(ours, marks), hashes=either(sent(ours), now))
    assert is_unseen(now, known, marks)
    assert marks == look(now, ours | {"title": "OURS, LATER"}, known)


@pytest.mark.parametrize(
    "theirs",
    [
        {"text": {"status": "generated", "div": "<div>Theirs</div>"}},
        {"subject": {"reference": "Patient/another"}},
        {"intent": "order"},
        {"extension": []},
        {"identifier": []},
        {"note": [{"text": "Theirs"}], "careTeam": [{"reference": "CareTeam/t"}]},
        {"addresses": [{**CONDITION, "display": "Depression"}, {"reference": "Condition/theirs"}]},
    ],
)
def test_what_is_always_ours_and_what_is_not_ours_is_no_edit(theirs: Resource, ours: Resource) -> None:
    """The narrative, whose it is, our own extensions; what others add; a reference that names its target."""
    assert {} == look(ours, ours | theirs)


@pytest.mark.parametrize(
    ("role", "element", "value"),
    [
        ("goal/phq-9", "target", [{"measure": PHQ_9, "detailInteger": 7}]),
        ("goal/phq-9", "achievementStatus", {"text": "Achieved, they say"}),
        (f"task/{SAFETY.id}", "priority", "routine"),
        (f"task/{SAFETY.id}", "restriction", {"period": {"end": "2027-01-01"}}),
        (f"flag/{SAFETY.id}", "code", {"text": "Theirs"}),
    ],
)
def test_goals_tasks_and_flags_have_edits_too(
    role: str, element: str, value: object, plan: dict[str, Resource]
) -> None:
    """Each element by its FHIR path."""
    ours = plan[role]
    marks = look(ours, ours | {element: value}, marks=look(ours, ours | {element: value}))
    assert (f"{ours['resourceType']}.{element}",) == edited(ours["resourceType"], marks)


def test_of_other_resources_nothing_is_an_edit(plan: dict[str, Resource]) -> None:
    """Nobody but us writes a Provenance."""
    ours = plan["provenance"]
    assert {} == look(ours, ours | {"recorded": "2026-01-01T00:00:00Z"})


def test_an_element_that_we_never_had_is_an_edit(plan: dict[str, Resource]) -> None:
    """It is ours to say nothing there."""
    ours = {name: value for name, value in plan["goal/phq-9"].items() if name != "achievementStatus"}
    assert {"achievementStatus": Mark.PUT_BACK} == look(ours, plan["goal/phq-9"])


@pytest.mark.parametrize("known", [None, Remote("c-1", "1", "d", "active", foreign=True)])
def test_without_memory_nothing_is_an_edit(known: Remote | None, ours: Resource) -> None:
    """A lost ledger, or one of before edits were told."""
    for is_our_version in (False, True):
        marks = judged(ours, ours | {"title": "Theirs"}, known, is_our_version=is_our_version)
        assert {} == marks


def test_what_is_left_stays_left_though_what_was_sent_is_forgotten(ours: Resource) -> None:
    """As after two workers wrote at once, or one that was never heard of; and what is taken away stays away."""
    marks = {"description": Mark.LEFT, "title": Mark.LEFT}
    known = dataclasses.replace(knows(ours, marks), hashes=())
    theirs = {name: value for name, value in ours.items() if name != "description"}
    theirs |= {"title": "Theirs"}
    assert marks == look(ours, theirs | {"period": {"start": "2020-01-01"}}, known)
    assert marks == look(ours, theirs, dataclasses.replace(known, hashes=remembered(ours, known, marks)))
    assert {} == look(ours, ours, known)


def test_what_is_withdrawn_leaves_nothing(ours: Resource) -> None:
    """Our words must not stay, whoever changed them."""
    marks = {"title": Mark.LEFT, "description": Mark.RESHAPED}
    withdrawn = ours | {"status": "entered-in-error"}
    assert {"description": Mark.RESHAPED} == look(withdrawn, ours | {"title": "Theirs"}, marks=marks)
