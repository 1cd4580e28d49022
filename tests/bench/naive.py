"""A yardstick: a FastStream handler of each record, with a SQLAlchemy transaction of its own, publishing each plan.

As a team would write it first: mapped classes, one record at a time, the plan published when the
transaction is committed. The IPT work in it is the service's own, and so is the plan.
Arguments: bootstrap servers, group, database URL, topic of the plans, topics to read.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker
from faststream.kafka.annotations import KafkaMessage  # noqa: TC002 - FastStream reads the annotation
from sqlalchemy import BigInteger, ForeignKey, Text, select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from service.configuration import load_mappings
from service.domain import state
from service.domain.facts import Fact, FactKey, OrderKey, PatientKey
from service.domain.projection import project
from service.inbound.reading import read_record
from service.inbound.records import Limits, Record, SourceContext
from service.inbound.relevance import Relevance
from service.outbound.careplan import bundle, render
from service.settings import Settings
from service.store import codec
from tests.bench.assigned import Said

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from service.domain.course import Course

SOURCE = SourceContext("main", ZoneInfo("UTC"))


class Base(DeclarativeBase):
    """The tables of this yardstick."""


class Patient(Base):
    """One row to lock."""

    __tablename__ = "patients"

    id: Mapped[str] = mapped_column(primary_key=True)


class Known(Base):
    """The newest reading of one resource."""

    __tablename__ = "facts"

    reference: Mapped[str] = mapped_column(primary_key=True)
    patient: Mapped[str] = mapped_column(ForeignKey(Patient.id), index=True)
    last_updated: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[str]
    body: Mapped[str] = mapped_column(Text)


class Treatment(Base):
    """A course."""

    __tablename__ = "courses"

    id: Mapped[str] = mapped_column(primary_key=True)
    patient: Mapped[str] = mapped_column(ForeignKey(Patient.id), index=True)
    state: Mapped[str] = mapped_column(Text)


async def naive(bootstrap: str, group: str, url: str, target: str, topics: Sequence[str]) -> None:
    """Read until ended."""
    mappings = load_mappings(Settings())
    relevance = Relevance.of(mappings)
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    session_of = async_sessionmaker(engine, expire_on_commit=False)
    broker = KafkaBroker(bootstrap, logger=None)

    @broker.subscriber(
        *topics,
        group_id=group,
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.NACK_ON_ERROR,
        listener=Said(),
        decoder=_undecoded,
    )
    async def handle(message: KafkaMessage) -> None:
        raw: Any = message.raw_message
        now = datetime.now(UTC)
        record = Record(raw.topic, raw.partition, raw.offset, now, raw.key, raw.value)
        for fact in read_record(record, SOURCE, relevance, Limits()).facts:
            key = PatientKey(SOURCE.id, str(fact.patient_id))
            async with session_of.begin() as session:
                await _merge(session, fact)
                facts = await _facts(session, key)
                courses = project(key, facts, now, mappings).courses
                for course in courses:
                    await _keep(session, course)
            for course in courses:
                await broker.publish(bundle(render(course, mappings)), target, key=course.id.encode())

    await FastStream(broker, logger=None).run()


async def _undecoded(message: KafkaMessage) -> bytes:
    return message.body


async def _merge(session: AsyncSession, fact: Fact) -> None:
    if await session.get(Patient, fact.patient_id, with_for_update=True) is None:
        session.add(Patient(id=fact.patient_id))
        await session.flush()
    known = await session.get(Known, fact.key.reference)
    if known is None:
        known = Known(reference=fact.key.reference)
        session.add(known)
    elif (known.last_updated, known.version, known.digest) >= (
        fact.order.last_updated,
        fact.order.version,
        fact.order.digest,
    ):
        return
    known.patient = str(fact.patient_id)
    known.last_updated, known.version, known.digest = fact.order.last_updated, fact.order.version, fact.order.digest
    known.body = "" if fact.reading is None else codec.encode(fact.reading)
    await session.flush()


async def _facts(session: AsyncSession, patient: PatientKey) -> list[Fact]:
    rows = await session.scalars(select(Known).where(Known.patient == patient.patient_id))
    return [
        Fact(
            FactKey(SOURCE.id, *row.reference.split("/", 1)),
            OrderKey(row.last_updated, row.version, deleted=False, digest=row.digest),
            patient.patient_id,
            codec.decode(row.body),
        )
        for row in rows
    ]


async def _keep(session: AsyncSession, course: Course) -> None:
    await session.merge(Treatment(id=course.id, patient=course.patient_id, state=state.dump(course).decode()))


if __name__ == "__main__":
    asyncio.run(naive(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:]))
