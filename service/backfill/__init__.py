"""History: what an EHR, its exports or a topic already hold, read as if the stream had brought it.

Each kind of place is a module that yields portions of records, with where to go on after them; `loading` takes
them to the intake. What a record says, and what becomes of it, is decided there, in the one place for all records.
"""
