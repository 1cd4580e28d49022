"""Relevance: whether a change is ours, decided on the raw JSON before anything is modelled."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from service.domain.codes import LOINC
from service.domain.spelling import loinc_at_end, squeezed
from service.inbound.codings import raw_codes
from service.inbound.patients import is_merged
from service.inbound.records import Reason, Unreadable
from service.inbound.references import without_version
from service.inbound.tasks import is_ours

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.domain.facts import Code
    from service.domain.mappings import Mappings

READ_TYPES = frozenset({"Encounter", "QuestionnaireResponse", "Task", "Patient"})
"""Resource types that become facts. Of Tasks, only those of our own plans; of Patients, those that were merged."""
CANDIDATE_USES = frozenset({"ipt", "psychotherapy", "preparation", "evaluation", "crisis"})
"""Uses of an encounter code that may make its encounter a session or an assessment."""
_OF_ANOTHER_FORM = re.compile(r"(?<![A-Za-z0-9])D0(?:150|200)[A-I][12]?(?![A-Za-z0-9])")
"""LinkIds of the PHQ-9 as nursing homes ask it: the resident mood interview of the Minimum Data Set 3.0, section D.

It asks for presence and frequency of each symptom apart, and answers in other codes: no answer is to be added.
Source: https://www.cms.gov/medicare/quality/nursing-home-improvement/resident-assessment-instrument-manual
"""
_LOINC_OR_NONE = frozenset({LOINC, ""})


@dataclass(frozen=True, slots=True)
class Relevance:
    """What makes a resource ours, taken from the mappings once."""

    encounter_codes: frozenset[Code]
    questionnaires: Mapping[str, bool]
    """Canonicals, and the last segments that name one alone: whether they are ours or look-alikes."""
    link_ids: frozenset[str]
    """Of instrument items, without leading slash."""
    spelled: frozenset[str]
    """LinkIds of instrument items in other spellings, `squeezed`."""
    item_codes: frozenset[str]
    """LOINC codes of instrument items."""
    instruments: Mapping[str, frozenset[str]]
    """Of the questionnaires that are instruments: the linkIds that are known of each alone, and of its total."""
    names: re.Pattern[str]
    """Finds the name of an instrument that has a number in it, in lower case: `phq-9`, `phq9`."""

    @classmethod
    def of(cls, mappings: Mappings) -> Self:
        """Return the relevance that the mappings amount to."""
        meanings = {**mappings.instrument_by_questionnaire, **{canonical: canonical for canonical in mappings.forms}}
        ours = dict.fromkeys(meanings, True) | dict.fromkeys(mappings.other_questionnaires, False)
        by_segment: dict[str, set[tuple[str, bool]]] = {}
        for canonical, known in ours.items():
            meaning = meanings.get(canonical, canonical), known
            by_segment.setdefault(canonical.rsplit("/", 1)[-1], set()).add(meaning)
        segments = {segment: found.pop()[1] for segment, found in by_segment.items() if len(found) == 1}
        instruments = mappings.instruments.values()
        own = {
            canonical: mappings.instruments[name].total_ids.union(mappings.site_link_ids.get(canonical, ()))
            for canonical, name in mappings.instrument_by_questionnaire.items()
        }
        own_segments = {canonical.rsplit("/", 1)[-1]: link_ids for canonical, link_ids in own.items()}
        return cls(
            encounter_codes=frozenset(code for code, uses in mappings.codes_by_use.items() if uses & CANDIDATE_USES),
            questionnaires=segments | ours,
            link_ids=frozenset(link_id for instrument in instruments for link_id in instrument.link_ids),
            spelled=frozenset(spelling for instrument in instruments for spelling in instrument.spelled_ids),
            item_codes=frozenset(code for instrument in instruments for code in instrument.item_codes),
            instruments={name: ids for name, ids in own_segments.items() if segments.get(name)} | own,
            names=re.compile("|".join(_name(each.id) for each in instruments if re.search("[0-9]", each.id)) or "(?!)"),
        )

    def decide(self, resource: Mapping[str, Any], most_items: int, path: str) -> bool:
        """Return whether an Encounter, a QuestionnaireResponse, a Task or a Patient is ours.

        Raises Unreadable, of a response: too-many-items, with more than `most_items`; unknown-items.
        """
        if resource.get("resourceType") == "Encounter":
            written = raw_codes([resource.get("type"), resource.get("serviceType")])
            return not self.encounter_codes.isdisjoint(written)
        if resource.get("resourceType") == "Task":
            return is_ours(resource)
        if resource.get("resourceType") == "Patient":
            return is_merged(resource)
        return self._is_response_ours(resource, most_items, path)

    def _is_response_ours(self, resource: Mapping[str, Any], most_items: int, path: str) -> bool:
        """Return whether a QuestionnaireResponse is ours.

        Raises Unreadable (unknown-items) for one whose questionnaire is an instrument, or is named like one, and of
        whose answered items none is known; and for one that asks an instrument's items in another form. Its answers,
        and what they may say of self-harm, are not to be passed over.
        """
        canonical = _canonical(resource.get("questionnaire"))
        known = self.questionnaires.get(canonical)
        if known is False:
            return False
        items = _items(resource, most_items, path)
        own = self.instruments.get(canonical)
        if known and own is None:
            return True
        if any(self._is_instrument_item(item) for item in items):
            return True
        named = known or self.names.search(canonical.rsplit("/", 1)[-1].lower()) is not None
        if not named and any(item.get("answer") and _OF_ANOTHER_FORM.search(_link_id(item)) for item in items):
            raise Unreadable(Reason.UNKNOWN_ITEMS, f"{path}.item")
        if not named or not any(item.get("answer") for item in items):
            return bool(known)
        if isinstance(resource.get("questionnaire"), dict):
            return True  # an older FHIR's shape, which its reader refuses by name
        if own is None or own.isdisjoint(_link_id(item) for item in items):
            raise Unreadable(Reason.UNKNOWN_ITEMS, f"{path}.item")
        return True

    def _is_instrument_item(self, item: Mapping[str, Any]) -> bool:
        link_id = _link_id(item)
        if link_id in self.link_ids:
            return True
        if "code" in item and any(
            code in self.item_codes and system in _LOINC_OR_NONE for system, code in raw_codes(item["code"])
        ):
            return True
        return squeezed(link_id) in self.spelled or loinc_at_end(link_id) in self.item_codes


def _name(instrument: str) -> str:
    """Return the pattern of an instrument's name: its id with or without separators, and no longer number behind it."""
    return r"(?<![a-z])" + "[-_. ]?".join(re.findall("[a-z]+|[0-9]+", instrument)) + r"(?![0-9])"


def _canonical(questionnaire: object) -> str:
    """Return a questionnaire's canonical, or the id that a relative one ends in; "" if none is written."""
    if isinstance(questionnaire, dict):
        questionnaire = questionnaire.get("reference")
    if not isinstance(questionnaire, str):
        return ""
    return without_version(questionnaire).removeprefix("Questionnaire/")


def _link_id(item: Mapping[str, Any]) -> str:
    link_id = item.get("linkId")
    return link_id.strip().removeprefix("/") if isinstance(link_id, str) else ""


def _items(response: Mapping[str, Any], most: int, path: str) -> list[Mapping[str, Any]]:
    """Return a response's items, those in groups and under answers included."""
    found: list[Mapping[str, Any]] = []
    count = 0
    waiting = [response]
    while waiting:
        items = waiting.pop().get("item")
        if not isinstance(items, list):
            if not isinstance(items, dict):
                continue
            items = [items]  # as `elements.many`
        count += len(items)
        if count > most:
            raise Unreadable(Reason.TOO_MANY_ITEMS, f"{path}.item")
        for item in items:
            if not isinstance(item, dict):
                continue
            found.append(item)
            answers = item.get("answer")
            for holder in (item, *answers) if isinstance(answers, list) else (item, answers):
                if isinstance(holder, dict) and "item" in holder:
                    waiting.append(holder)  # noqa: PERF401 - a comprehension for each item takes longer
    return found
