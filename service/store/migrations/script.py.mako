"""${message}."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """One sentence on what the tables have afterwards."""
    ${upgrades if upgrades else "raise NotImplementedError"}
