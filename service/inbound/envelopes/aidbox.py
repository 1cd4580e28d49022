"""Aidbox: a notification in a wrapper that names its topic.

Without the wrapper it is a notification like any other, whose status is an `AidboxSubscriptionStatus`.
Source: Aidbox, "Topic-based subscriptions: Kafka".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.inbound.bundles import open_bundle
from service.inbound.envelopes.document import Opened
from service.inbound.envelopes.held import unpacked
from service.inbound.envelopes.notifications import notification

if TYPE_CHECKING:
    from service.inbound.envelopes.document import Document

_WRAPPER = frozenset({"topic", "value", "key", "partition", "offset", "timestamp", "headers"})


def wrapped(document: Document) -> Opened | None:
    """Open `{"topic", "value": Bundle}`."""
    content = document.content
    if "topic" not in content or "value" not in content or not content.keys() <= _WRAPPER:
        return None
    path = f"{document.path}value."
    bundle = unpacked(content["value"], document.limits, path + "Bundle")
    if bundle.get("resourceType") != "Bundle":
        return None
    opened = notification(document._replace(content=bundle, path=path))
    return opened or Opened("", list(open_bundle(bundle, document.source, document.limits, path + "Bundle")))
