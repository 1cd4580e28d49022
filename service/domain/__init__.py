"""From facts to courses: what IPT means, as plain values and pure functions.

Standard library, pydantic and msgspec only; nothing here does I/O, reads a clock or logs.
Bytes and FHIR shapes belong in `inbound`, FHIR resources that leave in `outbound`.
"""
