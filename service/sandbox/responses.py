"""Synthetic questionnaire responses, as FHIR R4 resources in the shape that EHRs send."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.sandbox.events import local

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from random import Random

    from service.sandbox.events import Resource

_LOINC = "http://loinc.org"
_OURS = "https://ipt-bridge.org/fhir"
_ORDINAL = "http://hl7.org/fhir/StructureDefinition/ordinalValue"

_DAYS = (
    ("LA6568-5", "Not at all"),
    ("LA6569-3", "Several days"),
    ("LA6570-1", "More than half the days"),
    ("LA6571-9", "Nearly every day"),
)
_FREQUENCY = (
    ("LA6270-8", "Never"),
    ("LA18933-4", "Less than monthly"),
    ("LA18876-5", "Monthly"),
    ("LA18891-4", "Weekly"),
    ("LA18934-2", "Daily or almost daily"),
)
_OFTEN = (
    ("LA6270-8", "Never"),
    ("LA18926-8", "Monthly or less"),
    ("LA18927-6", "2-4 times a month"),
    ("LA18928-4", "2-3 times a week"),
    ("LA18929-2", "4 or more times a week"),
)
_DRINKS = (
    ("LA15694-5", "1 or 2"),
    ("LA15695-2", "3 or 4"),
    ("LA18930-0", "5 or 6"),
    ("LA18931-8", "7 to 9"),
    ("LA18932-6", "10 or more"),
)
_NO = (("LA32-8", "No"),)
_NO_OR_YES = (*_NO, ("LA33-6", "Yes"))

_ASKED = {
    "assessment": (
        "diagnosis-documented",
        "interpersonal-inventory",
        "primary-focus-area",
        "secondary-focus-area",
        "dispute-stage",
        "formulation",
        "agreement",
        "planned-sessions",
        "goal",
        "protocol",
        "age",
        "administrative-sex",
        "exclusion",
        "function",
        "communication",
        "support",
    ),
    "session": (
        "worked-on",
        "phase-task",
        "pattern",
        "technique",
        "coping-strategy",
        "dispute-stage",
        "next-step",
        "pattern-effect",
        "technique-at-home",
        "maladaptive-coping",
        "coping-trend",
        "use-since-last",
        "addiction-care",
        "function",
        "communication",
        "support",
    ),
    "ending": (
        "gain",
        "relapse-prevention-plan",
        "decision",
        "planned-sessions",
        "stopped-because",
        "function",
        "communication",
        "support",
    ),
}
"""Questions of each form in their order: a response that answers them in another is not valid."""

Answers = tuple[tuple[str, str], ...]
"""LOINC answer codes with their displays, by points from 0."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A scored questionnaire, as LOINC defines it where it does."""

    panel: str
    """LOINC code; a canonical where there is none."""
    total: str
    """LOINC code or linkId; empty where no number states it."""
    items: tuple[tuple[str, Answers], ...]
    """LOINC code or linkId of each item, and its answers; those without a code are numbers."""

    @property
    def highest(self) -> tuple[int, ...]:
        """The most points that each item can be given."""
        return tuple(len(answers) - 1 for _, answers in self.items)


def _same(answers: Answers, *items: str) -> tuple[tuple[str, Answers], ...]:
    return tuple((item, answers) for item in items)


PHQ_9 = Scale(
    "44249-1",
    "44261-6",
    _same(_DAYS, "44250-9", "44255-8", "44259-0", "44254-1", "44251-7", "44258-2", "44252-5", "44253-3", "44260-8"),
)
PHQ_2 = Scale("55757-9", "55758-7", PHQ_9.items[:2])
GAD_7 = Scale(
    "69737-5",
    "70274-6",
    _same(_DAYS, "69725-0", "68509-9", "69733-4", "69734-2", "69735-9", "69689-8", "69736-7"),
)
_ABLE_TO_STOP = 3
"""Item of the DAST-10 on being able to stop, where no is what scores."""


def _numbers(highest: int) -> Answers:
    """Return the answers of an item that is a number from 0."""
    return tuple([("", str(number)) for number in range(highest + 1)])


AUDIT = Scale(
    "72110-0",
    "75624-7",
    (
        ("68518-0", _OFTEN),
        ("68519-8", _DRINKS),
        *_same(_FREQUENCY, "68520-6", "97734-8", "97735-5", "97736-3", "97737-1", "97738-9"),
        *_same(_NO, "97739-7", "97740-5"),
    ),
)


AUDIT_C = Scale("72109-2", "75626-2", AUDIT.items[:3])
DAST_10 = Scale(
    "82666-9",
    "82667-7",
    tuple([(f"dast-10-{item}", _NO_OR_YES if item != _ABLE_TO_STOP else _NO_OR_YES[::-1]) for item in range(1, 11)]),
)
PHQ_9M = Scale("89206-7", "89204-2", _same(_DAYS, *(f"phq-9m-{item}" for item in range(1, 10))))
WSAS = Scale(f"{_OURS}/Questionnaire/wsas", "wsas-total", _same(_numbers(8), *(f"wsas-{item}" for item in range(1, 6))))
PCL_5 = Scale("101697-1", "101698-9", _same(_numbers(4), *(f"pcl-5-{item}" for item in range(1, 21))))
EPDS = Scale("71354-5", "99046-5", ())
C_SSRS = Scale(
    f"{_OURS}/Questionnaire/c-ssrs",
    "",
    _same(_NO_OR_YES, "93246-7", "93247-5", "93248-3", "93249-1", "93250-9", "93267-3", "93269-9"),
)
SCALES = {
    "audit-c": AUDIT_C,
    "dast-10": DAST_10,
    "phq-9m": PHQ_9M,
    "wsas": WSAS,
    "pcl-5": PCL_5,
    "epds": EPDS,
    "c-ssrs": C_SSRS,
}
"""Further instruments by id."""
_SCREENED: tuple[tuple[int | None, ...], ...] = (
    (0, 0, None, None, None, 0, None),
    (1, 0, None, None, None, 0, None),
    (1, 1, 1, 0, 0, 0, None),
    (1, 1, 1, 1, 0, 0, None),
)
"""Answers to the C-SSRS screener by the level of risk; what is not asked is None."""


def filled_in(scale: Scale, total: int, rng: Random) -> Sequence[int | None]:
    """Return an answer to each item that together amount to a total, in points."""
    if scale is C_SSRS:
        return _SCREENED[total]
    return spread(total, scale.highest, rng) if scale.items else ()


@dataclass(frozen=True, slots=True)
class Response:
    """What stays the same over the versions of one response."""

    response_id: str
    patient_id: str
    author: str
    """Relative reference of who answered."""
    authored: datetime
    encounter: str | None = None
    """Relative reference of the encounter."""

    @property
    def reference(self) -> str:
        """`QuestionnaireResponse/id`."""
        return f"QuestionnaireResponse/{self.response_id}"

    def scored(
        self,
        scale: Scale,
        points: Sequence[int | None],
        *,
        status: str = "completed",
        stated: int | None = None,
        ordinals: Mapping[int, int] | None = None,
    ) -> Resource:
        """Return the answered scale, its items by linkId with a leading slash and its total as a decimal.

        A None among the points leaves the item out. `stated` takes the place of the right total;
        `ordinals` puts a score beside the answer of an item, by index, whatever the answer is worth.
        """
        items: list[Resource] = []
        for index, ((code, answers), given) in enumerate(zip(scale.items, points, strict=True)):
            if given is None:
                continue
            answer, display = answers[given]
            if not answer:
                items.append({"linkId": f"/{code}", "answer": [{"valueInteger": given}]})
                continue
            coding: dict[str, Any] = {"system": _LOINC, "code": answer, "display": display}
            if ordinals is not None and index in ordinals:
                coding = {"extension": [{"url": _ORDINAL, "valueDecimal": float(ordinals[index])}]} | coding
            items.append({"linkId": f"/{code}", "answer": [{"valueCoding": coding}]})
        total = sum(given for given in points if given is not None) if stated is None else stated
        if scale.total:
            items.append({"linkId": f"/{scale.total}", "answer": [{"valueDecimal": float(total)}]})
        canonical = scale.panel if ":" in scale.panel else f"http://loinc.org/q/{scale.panel}"
        return self._version(canonical, status, items)

    def form(self, kind: str, answers: Mapping[str, Any], *, status: str = "completed") -> Resource:
        """Return the answered form of a course: ticks, numbers, and lists of `code system/code`."""
        items = [
            {"linkId": link_id, "answer": [_answer(value) for value in (given if isinstance(given, list) else [given])]}
            for link_id, given in sorted(answers.items(), key=lambda answer: _ASKED[kind].index(answer[0]))
        ]
        return self._version(f"{_OURS}/Questionnaire/ipt-{kind}", status, items)

    def _version(self, questionnaire: str, status: str, items: list[Resource]) -> Resource:
        resource: Resource = {
            "resourceType": "QuestionnaireResponse",
            "id": self.response_id,
            "questionnaire": questionnaire,
            "status": status,
            "subject": {"reference": f"Patient/{self.patient_id}"},
            "authored": local(self.authored),
            "author": {"reference": self.author},
            "item": items,
        }
        if self.encounter is not None:
            resource["encounter"] = {"reference": self.encounter}
        return resource


def _answer(value: bool | int | str) -> Resource:  # noqa: FBT001 - a tick is one of three kinds of answer
    if isinstance(value, bool):
        return {"valueBoolean": value}
    if isinstance(value, int):
        return {"valueInteger": value}
    system, code = value.split("/")
    return {"valueCoding": {"system": f"{_OURS}/CodeSystem/{system}", "code": code}}


def spread(total: int, highest: Sequence[int], rng: Random) -> list[int]:
    """Return points for each item that add up to the total, none above its highest.

    Raises ValueError if the items cannot add up to so much.
    """
    if not 0 <= total <= sum(highest):
        msg = f"a total of {total} is not between 0 and {sum(highest)}"
        raise ValueError(msg)
    points = [0] * len(highest)
    for _ in range(total):
        below = [index for index, most in enumerate(highest) if points[index] < most]
        points[rng.choice(below)] += 1
    return points
