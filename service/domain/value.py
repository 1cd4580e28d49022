"""What the domain's values are made of."""

from __future__ import annotations

from msgspec import Struct


class Value(Struct, frozen=True, omit_defaults=True, gc=False):
    """An immutable value: equal by its fields, hashed by them, and never part of a cycle.

    A `Struct` rather than a dataclass: a history of millions of events makes a hundred such values for each patient,
    and a frozen dataclass sets each field by a call in Python. The garbage collector does not look at them:
    what cannot be part of a cycle never needs it.
    """
