"""Envelopes: from a record to what it says happened to which resources.

A dialect is one recogniser in `table.DIALECTS` and one folder in `tests/specimens/`. What a resource says is
the readers' business: a recogniser looks at what is around it.
"""

from service.inbound.envelopes.document import Notice, Opened
from service.inbound.envelopes.table import DIALECTS, open_record

__all__ = ["DIALECTS", "Notice", "Opened", "open_record"]
