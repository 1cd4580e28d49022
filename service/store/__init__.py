"""What the service remembers: facts, courses with their history, deliveries and what is parked.

The only room with SQL. It knows the domain's values and nothing of Kafka, FHIR or settings; whatever
is a decision is taken outside and comes in as a value.
"""

from service.store.errors import StoreError, is_transient
from service.store.store import Store
from service.store.transaction import Transaction
from service.store.values import (
    NOTHING_STORED,
    WHOLE,
    BackfillJob,
    Claimed,
    Counts,
    CourseUpdate,
    Delivered,
    DeliveryState,
    Destination,
    Edition,
    GoneCourse,
    HistoryEntry,
    KeptRecord,
    Ledger,
    Merged,
    Parked,
    ParkedItem,
    ParkedKind,
    ParkedState,
    PatientUpdate,
    Pending,
    Postponed,
    Retry,
    SchemaState,
    StoredCourse,
    Written,
)

__all__ = [
    "NOTHING_STORED",
    "WHOLE",
    "BackfillJob",
    "Claimed",
    "Counts",
    "CourseUpdate",
    "Delivered",
    "DeliveryState",
    "Destination",
    "Edition",
    "GoneCourse",
    "HistoryEntry",
    "KeptRecord",
    "Ledger",
    "Merged",
    "Parked",
    "ParkedItem",
    "ParkedKind",
    "ParkedState",
    "PatientUpdate",
    "Pending",
    "Postponed",
    "Retry",
    "SchemaState",
    "Store",
    "StoreError",
    "StoredCourse",
    "Transaction",
    "Written",
    "is_transient",
]
