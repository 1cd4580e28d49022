"""From bytes to facts: envelopes (what happened to a resource) and readers (what it says), as pure functions.

No I/O, no Kafka types, no store: whoever fetches the bytes passes them in, and merges what comes out.
"""
