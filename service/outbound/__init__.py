"""From courses to EHRs: plans as FHIR resources, and the destinations that take them.

Rendering is pure: same course and mappings, same bytes. Only the destinations do I/O.
Neither reading events nor SQL belongs here; what was sent is remembered by the caller.
"""
