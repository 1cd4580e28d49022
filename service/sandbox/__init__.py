"""Real parts for the demo and the tests: a Kafka broker, a FHIR server, a FHIR validator, PostgreSQL.

Importable only where the extra `sandbox` is installed; nothing in the service proper imports it.
"""
