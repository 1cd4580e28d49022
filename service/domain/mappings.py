"""The mappings as typed values: what every code, number and text of a site means.

`mapping_files` reads them from the files of `mappings/`.
"""

from __future__ import annotations

from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Self

from pydantic import Field

from service.domain.course import Severity
from service.domain.facts import Code
from service.domain.forms import FormMap
from service.domain.instruments import Instrument
from service.domain.protocols import CourseBounds, Protocol, SiteProtocol
from service.domain.sourced import Coding, FileModel, Source, Threshold

if TYPE_CHECKING:
    from collections.abc import Iterable


class MappingError(ValueError):
    """A mapping file is wrong; the message names file, key and problem."""


class Rule(FileModel):
    """A rule as a clinician reads it; its logic stands in `service/domain/rules/`."""

    id: str
    version: int
    severity: Severity
    title: str
    """What a finding of this rule says, in a few words."""
    sentence: str
    """The finding in the plan, with `{value}` places."""
    sources: tuple[str, ...]
    thresholds: dict[str, Threshold] = Field(default_factory=dict)


class FocusAreaText(FileModel):
    """A focus area in words."""

    code: str
    title: str
    classic_term: str
    choose_when: str
    therapist_tasks: tuple[str, ...]
    patient_goals: tuple[str, ...]
    goal: str
    """The focus-area goal in the plan."""
    source: str
    strategies: tuple[str, ...] = ()
    """Techniques and tasks of a phase that belong to the area: codes of ours."""
    suggested_by: tuple[Coding, ...] = ()
    """Reasons of an encounter that may suggest the area, never set it."""
    goal_codes: tuple[str, ...] = ()
    """Goals of the patient that belong to the area: codes of patient-goal."""


class EncounterCodes(FileModel):
    """Which encounter codes mean what."""

    ipt: tuple[Coding, ...] = ()
    """Explicit: always a session."""
    psychotherapy: tuple[Coding, ...] = ()
    """General: a session only inside an open course, by the site's rule."""
    preparation: tuple[Coding, ...] = ()
    """A meeting before the first session, outside the protocol's count."""
    evaluation: tuple[Coding, ...] = ()
    crisis: tuple[Coding, ...] = ()
    group: tuple[Coding, ...] = ()
    telehealth: tuple[Coding, ...] = ()
    no_show: tuple[Coding, ...] = ()
    discarded: tuple[Coding, ...] = ()
    """Codes that look like ours and are not, each with its reason in `display`."""


class Mappings(FileModel):
    """Everything that the mapping files of one site say."""

    digest: str
    """Hash of the files' bytes, and of the source's labels; part of every revision."""
    sources: dict[str, Source]
    courses: CourseBounds
    protocols: dict[str, Protocol]
    site_protocols: tuple[SiteProtocol, ...]
    """In the order in which the site would have them tried."""
    instruments: dict[str, Instrument]
    other_questionnaires: dict[str, str]
    """Canonicals that look like an instrument of ours and are not, with the reason."""
    focus_areas: dict[str, FocusAreaText]
    rules: dict[str, Rule]
    encounters: EncounterCodes
    forms: dict[str, FormMap]
    """By questionnaire canonical."""
    displays: dict[Code, str]
    """Of our own CodeSystems."""
    same_practitioner: bool
    instrument_by_questionnaire: dict[str, str]
    site_link_ids: dict[str, dict[str, int]]
    """Questionnaire canonical → linkId without leading slash → item index."""
    answer_texts: dict[str, Code]
    """Codes that answers in words stand for at this site, by the words `as_written`."""
    labels: tuple[Code, ...] = ()
    """Security labels that every course of the source carries besides its facts' own."""

    def labelled(self, labels: Iterable[Code]) -> Self:
        """Return the same mappings with these labels for every course: another digest, where there are any."""
        ordered = tuple(sorted(set(labels)))
        if not ordered:
            return self
        digest = blake2b(self.digest.encode(), digest_size=16)
        for label in ordered:
            digest.update("\0".join(("", *label)).encode())
        return self.model_copy(update={"labels": ordered, "digest": digest.hexdigest()})

    def threshold(self, rule: str, name: str) -> float:
        """Return a rule's threshold."""
        return self.rules[rule].thresholds[name].value

    def canonical(self, written: str) -> str:
        """Return the canonical of a questionnaire: as written, or the only one that ends in the id written."""
        identity = written.removeprefix("Questionnaire/")
        return written if "/" in identity else self._canonical_by_id.get(identity, written)

    @cached_property
    def _canonical_by_id(self) -> dict[str, str]:
        meanings = {**self.instrument_by_questionnaire, **{canonical: canonical for canonical in self.forms}}
        found: dict[str, dict[str, str]] = {}
        for canonical in (*meanings, *self.other_questionnaires):
            meaning = meanings.get(canonical, canonical)
            found.setdefault(canonical.rsplit("/", 1)[-1], {}).setdefault(meaning, canonical)
        return {identity: next(iter(one.values())) for identity, one in found.items() if len(one) == 1}

    @cached_property
    def own_displays(self) -> dict[str, dict[str, str]]:
        """Return how the codes of our CodeSystems read, by the system's name."""
        found: dict[str, dict[str, str]] = {}
        for code, display in self.displays.items():
            found.setdefault(code.system.rsplit("/", 1)[-1], {})[code.code] = display
        return found

    @cached_property
    def areas_by_reason(self) -> dict[Code, tuple[str, ...]]:
        """Return which focus areas a reason of an encounter may suggest."""
        found: dict[Code, tuple[str, ...]] = {}
        for area in self.focus_areas.values():
            for coding in area.suggested_by:
                found[coding.key] = (*found.get(coding.key, ()), area.code)
        return found

    @cached_property
    def reason_displays(self) -> dict[Code, str]:
        """Return how the reasons read that may suggest a focus area."""
        return {coding.key: coding.display for area in self.focus_areas.values() for coding in area.suggested_by}

    @cached_property
    def areas_by_goal(self) -> dict[str, frozenset[str]]:
        """Return which focus areas a goal of the patient belongs to; one that belongs to none is missing."""
        found: dict[str, set[str]] = {}
        for area in self.focus_areas.values():
            for goal in area.goal_codes:
                found.setdefault(goal, set()).add(area.code)
        return {goal: frozenset(areas) for goal, areas in found.items()}

    @cached_property
    def codes_by_use(self) -> dict[Code, frozenset[str]]:
        """What each encounter code means; several uses are possible."""
        uses: dict[Code, set[str]] = {}
        for use in EncounterCodes.model_fields:
            for coding in getattr(self.encounters, use):
                uses.setdefault(coding.key, set()).add(use)
        return {code: frozenset(names) for code, names in uses.items()}
