"""History loaded into the store, on both databases: the courses of the stream, whatever ends a run."""

from __future__ import annotations

import contextlib
import gzip
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import orjson
import pytest

from service.backfill.files import of_files
from service.backfill.loading import Loading, Told
from service.backfill.portions import UNKNOWN_TIME, Portion, Refusal, record_of, topic_of
from service.commands import operations
from service.sandbox.patients import generate
from service.settings import Settings
from tests.property.strategies import START
from tests.property.test_backfill import held
from tests.synthetic import SOURCE
from tests.workers import TOPICS, Clock, expected, recorded, stored, worker

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from service.domain.mappings import Mappings
    from service.sandbox.events import Resource
    from service.store import Store
    from tests.workers import Worker

PATIENTS = generate(7, 3, START)
MOST = 100_000


class Ended(Exception):  # noqa: N818 - what a test does to a run
    """The run is ended, as by a kill."""


@dataclass
class Site:
    """A store, and an export's files of three patients."""

    store: Store
    mappings: Mappings
    files: list[Path]
    batch_size: int = 25
    told: list[Told] = field(default_factory=list)

    def worker(self) -> Worker:
        """Return a worker that has just started."""
        return worker(self.store, self.mappings, Clock(), topics=(*TOPICS, topic_of(SOURCE.id)))

    async def load(self, *, portions: int | None = None, by: Worker | None = None) -> Counter[str]:
        """Load the files, or go on with it; end it, where a number of portions is given, after so many."""
        one = by or self.worker()
        job = await self.store.backfills.begin("job", SOURCE.id, "files", one.vitals.now())
        read = of_files(self.files, SOURCE.id, MOST, UNKNOWN_TIME, dict(job.position))
        return await Loading(
            self.store, one.intake, job, one.vitals.now, self.told.append, batch_size=self.batch_size
        ).run(until(read, portions))

    async def courses(self) -> list[dict[str, bytes]]:
        """Return each patient's courses as they are stored."""
        return [await stored(self.store, each.patient_id) for each in PATIENTS]

    def expected(self) -> list[dict[str, bytes]]:
        """Return each patient's courses as the stream would have made them."""
        return [expected(each.patient_id, each.events, self.mappings) for each in PATIENTS]


async def until(read: AsyncIterator[Portion], portions: int | None) -> AsyncIterator[Portion]:
    """Yield so many portions, then end the run."""
    count = 0
    async for portion in read:
        if count == portions:
            raise Ended
        count += 1
        yield portion


def written(folder: Path, resources: Sequence[Resource]) -> list[Path]:
    """Write resources as an export does: a file for each type, one of them packed."""
    files = []
    for kind, pack in (("Encounter", bytes), ("QuestionnaireResponse", gzip.compress)):
        lines = [orjson.dumps(each) for each in resources if each["resourceType"] == kind]
        files.append(folder / f"{kind}.ndjson")
        files[-1].write_bytes(pack(b"\n".join(lines)))
    return files


@pytest.fixture
def site(store: Store, mappings: Mappings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site whose portions and batches are small, so that there are many."""
    monkeypatch.setattr("service.backfill.files.MOST_LINES", 10)
    return Site(store, mappings, written(tmp_path, [each for one in PATIENTS for each in held(one.events)]))


def lines_of(site: Site) -> int:
    """Return how many resources the files hold."""
    contents = [each.read_bytes() for each in site.files]
    return sum(1 + (gzip.decompress(each) if each[:1] == b"\x1f" else each).count(b"\n") for each in contents)


async def test_files_give_the_courses_that_the_stream_gives(site: Site) -> None:
    """To the byte; every resource is counted once, and so is every course."""
    counts = await site.load()
    assert site.expected() == await site.courses()
    number = sum(len(each) for each in site.expected())
    assert (lines_of(site), 0, number) == (counts["read"], counts["parked"], counts["courses"])
    assert counts["read"] == counts["relevant"] + counts["irrelevant"]
    last = site.told[-1]
    assert (last.total, lines_of(site)) == (last.done, last.records)


async def test_patient_touched_many_times_is_projected_once(site: Site) -> None:
    """However many batches tell of it."""
    one = site.worker()
    await site.load(by=one)
    assert len(PATIENTS) == one.counted("projections")
    for each in PATIENTS:
        (course, *_) = (await recorded(site.store, each.patient_id)).courses
        (revision,) = await site.store.operators.history(course.course_id)
        assert revision.cause


async def test_loading_again_changes_nothing(site: Site) -> None:
    """Neither facts nor courses, whoever does it."""
    await site.load()
    before = [await recorded(site.store, each.patient_id) for each in PATIENTS]
    again = await site.load()
    assert before == [await recorded(site.store, each.patient_id) for each in PATIENTS]
    assert (lines_of(site), 0) == (again["read"], again["courses"])


@pytest.mark.parametrize("portions", [1, 4, 7, 10])
async def test_run_that_is_ended_goes_on(site: Site, portions: int) -> None:
    """From the last batch that was stored; those whom the ended run had put off are projected too."""
    with pytest.raises(Ended):
        await site.load(portions=portions)
    site.told.clear()
    kept = (await site.store.backfills.begin("job", SOURCE.id, "files", UNKNOWN_TIME)).counts.get("read", 0)
    counts = await site.load()
    assert site.expected() == await site.courses()
    assert lines_of(site) == counts["read"]
    assert (lines_of(site) - kept, portions > 2) == (site.told[-1].records, kept > 0)


async def test_run_that_was_ended_before_it_projected_leaves_that_to_the_next(site: Site) -> None:
    """Nothing is left to read; there are patients left to project."""
    whole = len([each async for each in of_files(site.files, SOURCE.id, MOST, UNKNOWN_TIME)])
    one = site.worker()
    site.batch_size = 1
    with pytest.raises(Ended):
        await site.load(portions=whole - 1, by=one)
    assert [{}, {}, {}] == await site.courses()
    await site.load()
    assert site.expected() == await site.courses()


async def test_file_that_was_written_anew_is_read_from_its_beginning(site: Site) -> None:
    """An offset in the old one says nothing of it."""
    with pytest.raises(Ended):
        await site.load(portions=4)
    content = site.files[0].read_bytes()
    site.files[0].write_bytes(b'{"resourceType":"Basic"}\n' + content)
    await site.load()
    assert site.expected() == await site.courses()


async def test_history_may_come_beside_the_stream(site: Site) -> None:
    """Events that were read before, and such as come in between."""
    one = site.worker()
    await one.take(PATIENTS[0].events[::2])
    with contextlib.suppress(Ended):
        await site.load(portions=5)
    await one.take(PATIENTS[0].events)
    await one.take(PATIENTS[1].events[10:])
    await site.load()
    assert site.expected() == await site.courses()


async def test_no_more_is_held_than_a_batch_and_a_portion(site: Site) -> None:
    """When a portion is asked for, all but what still fits into one batch is stored."""
    behind: list[int] = []

    async def counted() -> AsyncIterator[Portion]:
        for number in range(40):
            kept = await site.store.backfills.begin("bounded", SOURCE.id, "files", one.vitals.now())
            behind.append(10 * number - kept.counts.get("read", 0))
            records = [record_of(SOURCE.id, b'{"resourceType":"Basic"}', UNKNOWN_TIME)] * 10
            yield Portion(records, {"number": number}, number)

    one = site.worker()
    job = await site.store.backfills.begin("bounded", SOURCE.id, "files", one.vitals.now())
    counts = await Loading(site.store, one.intake, job, one.vitals.now, site.told.append, batch_size=25).run(counted())
    assert (400, True) == (counts["read"], max(behind) < 25)


async def test_patients_that_a_killed_run_put_off_are_projected_by_the_next(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it was killed before it kept how far it had come."""

    class Killed(Exception):  # noqa: N818 - it says what happened
        pass

    async def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("service.store.backfills.Backfills.keep", killed)
        with pytest.raises(Killed):
            await site.load()
    assert site.expected() != await site.courses()
    await site.load()
    assert site.expected() == await site.courses()


async def test_refusal_in_the_middle_leaves_what_came_before_it_stored(site: Site) -> None:
    """It is raised all the same, and the job goes on from there."""

    async def refused() -> AsyncIterator[Portion]:
        yield Portion([record_of(SOURCE.id, b'{"resourceType":"Basic"}', UNKNOWN_TIME)] * 3, {"number": 1}, 3)
        raise Refusal("The server has had enough.")

    one = site.worker()
    job = await site.store.backfills.begin("refused", SOURCE.id, "files", one.vitals.now())
    with pytest.raises(Refusal):
        await Loading(site.store, one.intake, job, one.vitals.now, site.told.append, batch_size=25).run(refused())
    kept = await site.store.backfills.begin("refused", SOURCE.id, "files", one.vitals.now())
    assert ({"number": 1}, 3) == (kept.position, kept.counts["read"])


async def test_what_can_not_be_read_is_parked_once_and_retried(site: Site, url: str, tmp_path: Path) -> None:
    """A second run parks nothing anew; what a person tries again, the same feed reads."""
    ours = next(each for each in held(PATIENTS[0].events) if each["resourceType"] == "QuestionnaireResponse")
    broken = {**ours, "meta": {"lastUpdated": "yesterday"}}
    site.files = [tmp_path / "broken.ndjson"]
    site.files[0].write_bytes(orjson.dumps(broken) + b"\n{no json\n" + orjson.dumps(broken))
    assert (3, 3) == ((counts := await site.load())["read"], counts["parked"])
    await site.load()
    parked = await site.store.operators.parked()
    assert {("bad-time", topic_of("main")), ("not-json", topic_of("main"))} == {
        (each.reason, each.topic) for each in parked
    }
    assert 2 == len(parked)
    settings = Settings.model_validate({"store": {"url": url}})
    assert [each.id for each in parked] == await operations.retry(settings, [each.id for each in parked])


async def test_resource_of_unknown_age_never_replaces_what_the_stream_told(site: Site, tmp_path: Path) -> None:
    """One without `meta.lastUpdated` counts as older than any event, until somebody says when it was written."""
    events = [each for each in PATIENTS[0].events if each.resource is not None]
    one = site.worker()
    await one.take(events)
    site.files = [tmp_path / "old.ndjson"]
    old = [{**each, "meta": {}, "status": "entered-in-error"} for each in held(events)]
    site.files[0].write_bytes(b"\n".join(map(orjson.dumps, old)))
    await site.load()
    assert expected(PATIENTS[0].patient_id, events, site.mappings) == await stored(site.store, PATIENTS[0].patient_id)
