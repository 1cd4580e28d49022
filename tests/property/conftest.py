"""`make fuzz` draws so many examples of each property; `make test` draws Hypothesis' default of 100."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("long", max_examples=50_000, deadline=None)
settings.register_profile("unhurried", deadline=None)
if settings.get_current_profile_name() == "default":
    settings.load_profile("unhurried")  # how long an example takes says something of the machine
