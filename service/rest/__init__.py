"""FHIR REST: one client of one server, how it authenticates, and what its answers mean.

For whoever reads from an EHR (`inbound`) and whoever writes to one (`outbound`), who do not know each other.
Nothing here knows facts, courses or plans.
"""
