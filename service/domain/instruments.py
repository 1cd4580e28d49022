"""Instruments as the mapping files describe them: items, answers, bands and cut-offs."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Literal, Self

from pydantic import model_validator

from service.domain.codes import read_code
from service.domain.sourced import FileModel, Loinc, Threshold, WrittenCode
from service.domain.spelling import loinc_at_end, spellings, squeezed

if TYPE_CHECKING:
    from service.domain.facts import Code


class Band(FileModel):
    """A severity band; `start` is its lowest total."""

    start: int
    name: str


class InstrumentItem(FileModel):
    """One scored item."""

    loinc: Loinc | None = None
    """None where no code is published for the item."""
    title: str = ""
    """Empty where the licence allows no text."""
    aliases: tuple[Loinc, ...] = ()
    """Codes under which published examples wrongly ask this item: read, never written."""
    link_ids: tuple[str, ...] = ()
    """linkIds that name this item in any questionnaire, beside its LOINC code."""
    answers: dict[WrittenCode, int] | None = None
    """Scores of this item's answers where they differ from the instrument's."""
    maximum: int | None = None
    """Highest score, where no coded answer states it."""
    points: tuple[int, ...] = ()
    """Scores that come as a number, where no code is published for the answer."""
    asked_if: int | None = None
    """Number of an earlier item, from 1: this one is asked only if that one scored above 0."""


class Safety(FileModel):
    """The item that asks about self-harm, and the score that calls a clinician the same day."""

    item: int
    at_least: Threshold


class Instrument(FileModel):
    """A scored questionnaire."""

    id: str
    version: int
    title: str
    subject: str
    """What it measures, in a clinician's word: depression."""
    panel: Loinc | None = None
    """None where no code is published for the questionnaire, or for its total."""
    total: Loinc | None = None
    maximum: int
    questionnaires: tuple[str, ...]
    """Canonicals, without version."""
    source: str
    answers: dict[WrittenCode, int]
    """Score of each answer code."""
    bands: tuple[Band, ...]
    items: tuple[InstrumentItem, ...]
    scoring: Literal["sum", "stated", "highest"] = "sum"
    """How the total comes about: the items' sum, the total that the sender states, or the highest item."""
    caseness: Threshold | None = None
    caseness_by_sex: dict[Literal["female", "male"], Threshold] | None = None
    """In place of `caseness`, where it depends on the patient's sex."""
    reliable_change: Threshold | None = None
    remission_below: Threshold | None = None
    response: Threshold | None = None
    """Improvement on the first total, in percent, from which one speaks of response."""
    partial_response: Threshold | None = None
    total_link_ids: tuple[str, ...] = ()
    total_aliases: tuple[Loinc, ...] = ()
    """Codes under which published examples state the total: read, never written."""
    part_of: str | None = None
    """The longer instrument whose first items these are, by its id."""
    safety: Safety | None = None
    safety_total: Threshold | None = None
    """The total that calls a clinician the same day, where the whole questionnaire asks about self-harm."""
    copyright: str = ""
    """Who holds the rights, and what they allow; empty if the questionnaire is free."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        starts = [band.start for band in self.bands]
        if starts != sorted(set(starts)) or not starts or starts[0] != 0:
            msg = "bands must start at 0 and rise"
            raise ValueError(msg)
        if self.safety and not 1 <= self.safety.item <= len(self.items):
            msg = f"safety.item must be between 1 and {len(self.items)}"
            raise ValueError(msg)
        if self.scoring == "sum" and sum(self.item_maximum) != self.maximum:
            msg = f"maximum is {self.maximum}, and the highest scores of the items add up to {sum(self.item_maximum)}"
            raise ValueError(msg)
        if self.scoring == "highest" and max(self.item_maximum, default=0) != self.maximum:
            msg = f"maximum is {self.maximum}, and the highest score of an item {max(self.item_maximum, default=0)}"
            raise ValueError(msg)
        if self.caseness is not None and self.caseness_by_sex is not None:
            msg = "caseness or caseness_by_sex, not both"
            raise ValueError(msg)
        if self.caseness_by_sex is not None and set(self.caseness_by_sex) != {"female", "male"}:
            msg = "caseness_by_sex names both, female and male"
            raise ValueError(msg)
        for number, item in enumerate(self.items, 1):
            if item.asked_if is not None and not 1 <= item.asked_if < number:
                msg = f"items[{number - 1}].asked_if must be the number of an earlier item"
                raise ValueError(msg)
        return self

    @property
    def same_day(self) -> Threshold | None:
        """What calls a clinician the same day, whatever the total; None if nothing is asked about self-harm."""
        return self.safety_total if self.safety is None else self.safety.at_least

    def cut_off(self, sex: str | None) -> tuple[float, float] | None:
        """Return the lowest total that may be a case, and the lowest that is one; None if no cut-off is known.

        They differ where the cut-off depends on the patient's sex and that is neither `female` nor `male`.
        """
        if self.caseness is not None:
            return self.caseness.value, self.caseness.value
        if self.caseness_by_sex is None:
            return None
        own = [each.value for which, each in self.caseness_by_sex.items() if sex == which]
        values = own or [each.value for each in self.caseness_by_sex.values()]
        return min(values), max(values)

    def band(self, total: int) -> str:
        """Return the name of the band that a total falls in."""
        return next(band.name for band in reversed(self.bands) if total >= band.start)

    @cached_property
    def item_codes(self) -> dict[str, int]:
        """Index of the item that a LOINC code names."""
        return {
            code: index
            for index, item in enumerate(self.items)
            for code in (item.loinc, *item.aliases)
            if code is not None
        }

    @cached_property
    def link_ids(self) -> dict[str, int]:
        """Index of the item that a linkId names, written without a leading slash."""
        own = {link_id: index for index, item in enumerate(self.items) for link_id in item.link_ids}
        return own | self.item_codes

    @cached_property
    def spelled_ids(self) -> dict[str, int]:
        """Index of the item that a linkId names in another spelling, `squeezed`; none that could name two."""
        found: dict[str, set[int]] = {}
        for index, item in enumerate(self.items):
            for spelling in spellings(item.link_ids, index + 1):
                found.setdefault(spelling, set()).add(index)
        return {spelling: indices.pop() for spelling, indices in found.items() if len(indices) == 1}

    def item_named(self, link_id: str) -> int | None:
        """Return the index of the item that a linkId without leading slash names, however it is spelled."""
        index = self.link_ids.get(link_id)
        if index is None:
            index = self.spelled_ids.get(squeezed(link_id))
        return self.item_codes.get(loinc_at_end(link_id)) if index is None else index

    @cached_property
    def total_ids(self) -> frozenset[str]:
        """LinkIds of the item that states the total."""
        return self.total_codes.union(self.total_link_ids)

    @cached_property
    def total_codes(self) -> frozenset[str]:
        """Codes of the item that states the total."""
        return frozenset(code for code in (self.total, *self.total_aliases) if code is not None)

    @cached_property
    def item_scores(self) -> tuple[dict[Code, int], ...]:
        """Score of each answer code, by item."""
        return tuple(_scores(item.answers if item.answers is not None else self.answers) for item in self.items)

    @cached_property
    def bare_scores(self) -> tuple[dict[str, int], ...]:
        """Score of each answer code that came without its system, by item."""
        return tuple({code.code: score for code, score in scores.items()} for scores in self.item_scores)

    @cached_property
    def item_maximum(self) -> tuple[int, ...]:
        """Highest score of each item."""
        return tuple(
            item.maximum if item.maximum is not None else max(scores.values(), default=0)
            for item, scores in zip(self.items, self.item_scores, strict=True)
        )


def _scores(answers: dict[str, int]) -> dict[Code, int]:
    return {read_code(written): score for written, score in answers.items()}
