"""IPT Bridge: FHIR events in, Interpersonal Psychotherapy courses, CarePlans out.

Read `cli.py` first; data moves record → change → fact → course → plan → delivery.
Only commands, wiring, settings, telemetry and the two loops stand at this level.
"""
