"""A QuestionnaireResponse that brings its Questionnaire along, as adaptive forms do: `"questionnaire": "#form"`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from service.inbound.changes import Change


def with_questionnaire(change: Change) -> Change:
    """Return a change whose response names the Questionnaire that it contains, and the codes of the items there.

    The canonical is the Questionnaire's `url`, else what it is `derivedFrom`. Itself, if it contains none.
    """
    resource = change.resource
    named = None if resource is None else resource.get("questionnaire")
    reference = named.get("reference") if isinstance(named, dict) else named
    if resource is None or not isinstance(reference, str) or not reference.startswith("#"):
        return change
    form = next(_forms(resource, reference[1:]), None)
    if form is None:
        return change
    canonical = next(_canonicals(form), reference)
    codes: dict[str, Any] = {}
    _collect(form, codes)
    told = {"reference": canonical} if isinstance(named, dict) else canonical
    return replace(change, resource=_with_codes({**resource, "questionnaire": told}, codes))


def _forms(response: Mapping[str, Any], identity: str) -> Iterator[Mapping[str, Any]]:
    contained = response.get("contained")
    for each in contained if isinstance(contained, list) else ():
        if isinstance(each, dict) and each.get("resourceType") == "Questionnaire" and each.get("id") == identity:
            yield each


def _canonicals(form: Mapping[str, Any]) -> Iterator[str]:
    derived = form.get("derivedFrom")
    for each in (form.get("url"), *(derived if isinstance(derived, list) else ())):
        if isinstance(each, str) and each:
            yield each


def _collect(parent: Mapping[str, Any], codes: dict[str, Any]) -> None:
    """Add the codes of items by their linkId, those in groups too."""
    items = parent.get("item")
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict):
            link_id = item.get("linkId")
            if isinstance(link_id, str) and item.get("code"):
                codes[link_id] = item["code"]
            _collect(item, codes)


def _with_codes(parent: dict[str, Any], codes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a response, an item or an answer whose items have the codes of their linkIds; their own go before."""
    copy = dict(parent)
    for name in ("item", "answer"):
        inner = parent.get(name)
        if isinstance(inner, list):
            copy[name] = [_with_codes(each, codes) if isinstance(each, dict) else each for each in inner]
    link_id = parent.get("linkId")
    if isinstance(link_id, str) and "code" not in copy and link_id in codes:
        copy["code"] = codes[link_id]
    return copy
