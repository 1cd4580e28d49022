"""Pages of a search: one entry that can't be read spoils no other, and is handed on as the server wrote it."""

from __future__ import annotations

import orjson
import pytest

from service.backfill.pages import page_of, resources
from service.rest.errors import Permanent, Transient

SOUND = b'{"resourceType":"Encounter","id":"e-1","note":"a , ] } \\" b"}'
TWICE = b'{"resourceType":"Encounter","id":"e-2","status":"cancelled","status":"finished"}'
HALF = b'{"resourceType":"Encounter","id":"e-3","note":"\\ud800"}'
DEEP = b'{"resourceType":"Encounter","id":"e-4","x":' + b"[" * 300 + b"]" * 300 + b"}"
DEEPER = b'{"resourceType":"Encounter","id":"e-5","x":' + b"[" * 30_000 + b"]" * 30_000 + b"}"
NO_TEXT = b'{"resourceType":"Encounter","id":"e-6","note":"\xff"}'


def page(*found: bytes, mode: bytes = b"match") -> bytes:
    """Return a page with these resources, written with spaces and lines."""
    entries = b" ,\n".join(b'{ "search": {"mode":"' + mode + b'"}, "resource" : ' + each + b" }" for each in found)
    links = b'"link":[{"relation":"next","url":"https://ehr.example/fhir?page=2"}]'
    return b'{"resourceType":"Bundle","type":"searchset",' + links + b',"entry": [\n' + entries + b"]}\n"


@pytest.mark.parametrize("odd", [TWICE, HALF, DEEP, DEEPER, NO_TEXT], ids=["twice", "half", "deep", "deeper", "bytes"])
def test_entry_that_cannot_be_read_is_handed_on_as_written_beside_the_others(odd: bytes) -> None:
    """A key that stands twice, half a character, nesting, bytes that are no text; the page's links count too."""
    read = page_of(page(SOUND, odd, SOUND))
    assert [SOUND, odd, SOUND] == [each.text for each in resources(read)]
    assert "next" == read.head["link"][0]["relation"]


def test_page_without_faults_gives_its_resources() -> None:
    """Each by itself, without the server's spaces."""
    assert [SOUND] * 2 == [each.text for each in resources(page_of(page(SOUND, SOUND)))]
    assert [] == list(resources(page_of(b'{"resourceType":"Bundle","type":"searchset","total":0}')))


def test_what_is_no_result_is_left_out_beside_a_fault() -> None:
    """An outcome, and what came along, though another entry can't be read."""
    outcome = b'{"resourceType":"OperationOutcome","note":"\\ud800"}'
    assert [] == resources(page_of(page(HALF, outcome, mode=b"include")))
    assert [HALF] == [each.text for each in resources(page_of(page(outcome, HALF)))]


def test_entry_whose_own_keys_stand_twice_stands_for_itself() -> None:
    """Nobody can tell which of two resources it holds."""
    entry = b'{"resource":' + SOUND + b',"resource":' + SOUND + b"}"
    body = b'{"resourceType":"Bundle","entry":[' + entry + b"]}"
    assert [entry] == [each.text for each in resources(page_of(body))]


def test_page_whose_own_keys_stand_twice_is_refused() -> None:
    """It could hide entries."""
    with pytest.raises(Permanent) as caught:
        page_of(b'{"resourceType":"Bundle","entry":[],"entry":[]}')
    assert "duplicate-key" == caught.value.code


@pytest.mark.parametrize(
    "body",
    [
        page(SOUND)[:-3],
        page(HALF)[:-3],
        page(HALF) + b"}",
        page(HALF)[:60] + b'"',
        b"<html>",
        b"[1]",
        b'{"resourceType":"Patient"}',
        orjson.dumps({"resourceType": "Bundle"}) * 2,
        b"",
    ],
)
def test_what_is_no_page_is_no_answer_of_a_fhir_server(body: bytes) -> None:
    """Whatever else answers, or an answer that ended early: it is asked again."""
    with pytest.raises(Transient) as caught:
        page_of(body)
    assert "not-fhir" == caught.value.code
