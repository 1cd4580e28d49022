"""What one site adds to the standard mappings: its codes, questionnaires, forms and choice of protocols."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from service.domain.codes import as_written, read_code
from service.domain.forms import FormMap, SiteForm, map_site_form
from service.domain.mappings import EncounterCodes, MappingError
from service.domain.protocols import SiteProtocol
from service.domain.sourced import FileModel, WrittenCode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from service.domain.facts import Code
    from service.domain.instruments import Instrument


class SiteInstrument(FileModel):
    """A site's own questionnaire for a known instrument."""

    questionnaires: tuple[str, ...] = ()
    link_ids: dict[str, int] = Field(default_factory=dict)
    """The site's linkId to the number of the item, from 1."""


class PublishedQuestionnaire(FileModel):
    """A published questionnaire that asks an instrument under linkIds which mean its items in it alone."""

    instrument: str
    canonicals: tuple[str, ...]
    link_ids: tuple[tuple[str, ...], ...]
    """The linkIds of each item, in the instrument's order."""


class Site(FileModel):
    """What one site adds to the standard mappings."""

    same_practitioner: bool = True
    """A general psychotherapy encounter counts only if a practitioner of the course took part."""
    encounters: EncounterCodes = EncounterCodes()
    instruments: dict[str, SiteInstrument] = Field(default_factory=dict)
    other_questionnaires: tuple[str, ...] = ()
    """Canonicals that are named like an instrument and are none: never read."""
    answer_texts: dict[str, WrittenCode] = Field(default_factory=dict)
    """Answers that come in words, as the words read, to the codes that they stand for; without it none is read."""
    forms: tuple[SiteForm, ...] = ()
    protocols: tuple[SiteProtocol, ...] = ()
    """The first that fits a patient counts."""


def joined(standard: EncounterCodes, own: EncounterCodes) -> EncounterCodes:
    """Return the standard codes with the site's own after them, by use."""
    return EncounterCodes(**{use: getattr(standard, use) + getattr(own, use) for use in EncounterCodes.model_fields})


def published_items(
    where: str, published: PublishedQuestionnaire, instruments: Mapping[str, Instrument]
) -> dict[str, int]:
    """Return the index of the item that each linkId of a published questionnaire names. Raises MappingError."""
    if published.instrument not in instruments:
        msg = f'mappings/{where}: "{published.instrument}" is not an instrument of mappings/instruments/.'
        raise MappingError(msg)
    count = len(instruments[published.instrument].items)
    if len(published.link_ids) != count:
        msg = f"mappings/{where}.link_ids: {published.instrument} has {count} items, each with its own list."
        raise MappingError(msg)
    return {link_id: index for index, names in enumerate(published.link_ids) for link_id in names}


def site_items(
    where: str, name: str, addition: SiteInstrument, instruments: Mapping[str, Instrument]
) -> dict[str, int]:
    """Return the index of the item that each linkId of the site's questionnaire names."""
    if name not in instruments:
        msg = f'mappings/{where}: "{name}" is not an instrument of mappings/instruments/.'
        raise MappingError(msg)
    count = len(instruments[name].items)
    for link_id, number in addition.link_ids.items():
        if not 1 <= number <= count:
            msg = f"mappings/{where}.{name}.link_ids.{link_id}: items of {name} are numbered from 1 to {count}."
            raise MappingError(msg)
    return {link_id.removeprefix("/"): number - 1 for link_id, number in addition.link_ids.items()}


def site_texts(path: str, own: Site, instruments: Mapping[str, Instrument]) -> dict[str, Code]:
    """Return the code of each answer in words. Raises MappingError where it is no instrument's, or words are twice."""
    known = {code for instrument in instruments.values() for scores in instrument.item_scores for code in scores}
    found: dict[str, Code] = {}
    for text, written in own.answer_texts.items():
        words, code = as_written(text), read_code(written)
        if code not in known:
            msg = f'mappings/{path}, answer_texts: "{written}" is no answer of an instrument.'
            raise MappingError(msg)
        if not words or words in found:
            msg = (
                f'mappings/{path}, answer_texts: "{text}" is empty, or there twice; case and spaces make no difference.'
            )
            raise MappingError(msg)
        found[words] = code
    return found


def site_forms(
    path: str, own: Site, displays: Mapping[Code, str], by_questionnaire: Mapping[str, str]
) -> Iterator[FormMap]:
    """Yield the maps of the site's own forms. Raises MappingError."""
    known = frozenset(code.code for code in displays)
    for place, form in enumerate(own.forms):
        if form.questionnaire in by_questionnaire:
            msg = f"mappings/{path}, forms[{place}].questionnaire: is an instrument's too; name it once."
            raise MappingError(msg)
        try:
            yield map_site_form(form, known)
        except ValueError as error:
            msg = f"mappings/{path}, forms[{place}].{error}."
            raise MappingError(msg) from error
