"""What a clinician sees inside the EHR: CDS Hooks, SMART launch, the page.

It reads courses from the store and puts them into words with `outbound.narrative`; it writes nothing.
"""
