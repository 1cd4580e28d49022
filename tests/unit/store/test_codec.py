"""Bodies of facts: what goes in comes out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.facts import ActReading, Answer, Code, EncounterReading, Reading, ResponseReading, TaskReading
from service.store.codec import decode, decode_labels, encode, encode_labels

TEXTS = st.text(max_size=8)
CODES = st.lists(st.builds(Code, TEXTS | st.sampled_from(["http://loinc.org", "a|b%7C", "%"]), TEXTS), max_size=3).map(
    tuple
)
REFERENCES = st.lists(TEXTS, max_size=3).map(tuple)
OFFSETS = st.timedeltas(timedelta(hours=-14), timedelta(hours=14)).map(
    lambda offset: timezone(timedelta(minutes=offset // timedelta(minutes=1)))
)
# A fixed offset has no hour that comes twice, so `fold` means nothing.
INSTANTS = st.none() | st.datetimes(timezones=OFFSETS).map(lambda instant: instant.replace(fold=0))
NUMBERS = st.none() | st.floats(allow_nan=False, allow_infinity=False)

READINGS: st.SearchStrategy[Reading] = (
    st.builds(TaskReading, TEXTS, TEXTS, INSTANTS, st.none() | TEXTS)
    | st.builds(ActReading, TEXTS, TEXTS, TEXTS, TEXTS, INSTANTS.filter(bool), TEXTS, REFERENCES)
    | st.builds(
        EncounterReading,
        TEXTS,
        CODES,
        CODES,
        CODES,
        INSTANTS,
        INSTANTS,
        REFERENCES,
        REFERENCES,
        REFERENCES,
        st.none() | TEXTS,
        REFERENCES,
        REFERENCES,
    )
    | st.builds(
        ResponseReading,
        TEXTS,
        TEXTS,
        INSTANTS,
        st.none() | TEXTS,
        st.none() | TEXTS,
        st.lists(st.builds(Answer, TEXTS, CODES, CODES, NUMBERS, st.none() | st.booleans(), NUMBERS), max_size=3).map(
            tuple
        ),
    )
)


@given(READINGS)
def test_reading_comes_back_as_it_went_in(reading: Reading) -> None:
    """Nothing is lost or rounded, and times keep their offset."""
    found = decode(encode(reading))

    assert reading == found
    assert repr(reading) == repr(found)


@given(CODES)
def test_labels_come_back_as_they_went_in(labels: tuple[Code, ...]) -> None:
    """No labels are no text at all."""
    assert labels == decode_labels(encode_labels(labels))
    assert bool(labels) == bool(encode_labels(labels))


def test_equal_numbers_of_different_kinds_keep_their_own_text() -> None:
    """A body does not depend on which bodies were made before it."""
    bodies = [encode(ResponseReading("completed", answers=(Answer("1", number=number),))) for number in (1, 1.0, 1)]

    assert bodies[0] == bodies[2] != bodies[1]


def test_body_of_a_later_release_is_refused() -> None:
    """Half-read facts would make wrong courses."""
    with pytest.raises(ValueError, match="this release"):
        decode('[2,0,"finished"]')


@pytest.mark.parametrize(
    ("body", "reading"),
    [
        ('[1,0,"finished",[],[],[],null,null,[],[],[],null,[],[]]', EncounterReading("finished")),
        ('[1,1,"completed","",null,null,null,[]]', ResponseReading("completed")),
        ('[1,2,"completed","",null,null]', TaskReading("completed")),
    ],
)
def test_body_of_an_earlier_release_is_still_read(body: str, reading: Reading) -> None:
    """What lies in the stores of those who upgrade."""
    assert reading == decode(body)


def test_an_act_of_before_edits_were_told_is_read() -> None:
    """Its body ends with the version."""
    act = ActReading("revoked", "c", "careplan", "ehr", datetime(2026, 3, 2, tzinfo=UTC), "7")
    *old, edited = orjson.loads(encode(act))
    assert [] == edited
    assert act == decode(orjson.dumps(old).decode())
