"""Why something did not get through: for now, or for good."""

from __future__ import annotations

CONFLICT = "conflict"
"""Code of a Transient for which the other side is not at fault: somebody else keeps changing the same resource."""

NEVER_RETRIED = "never-retried"
"""Code of a Permanent that a server answers with a code after which its vendor lets nothing be asked again."""

UNANSWERED = "unanswered-create"
"""Code of a Permanent after a create without an answer: whether it took effect nobody but a person can find out."""


class Transient(Exception):  # noqa: N818 - it says what the failure is; retrying mends it
    """The other side can't do it at present. Not the content's fault: try again later.

    `code` is short and stable, for logs, metrics and the deliveries; `retry_after` is in seconds, as
    it was asked. `unsent`: whether the request surely never got there, or nothing was done of it.
    """

    def __init__(self, code: str, message: str, *, retry_after: float | None = None, unsent: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after
        self.unsent = unsent

    @property
    def asks_all(self) -> bool:
        """Whether the other side has too much to do, whatever is asked of it (429); not where one thing fails (503)."""
        return self.code.endswith("-429")


class Permanent(Exception):  # noqa: N818 - it says what the failure is; a person must look
    """The other side refuses this and would refuse it again: park it.

    `outcome_codes` are codes that the server named; never its text, which may tell of the patient.
    """

    def __init__(self, code: str, message: str, *, outcome_codes: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.outcome_codes = outcome_codes


class Conflicting(Transient):
    """Somebody else keeps changing the same resource: what is ours and what is there, as hashes of their content."""

    def __init__(self, message: str, *, ours: str, theirs: str) -> None:
        super().__init__(CONFLICT, message)
        self.hashes = f"ours {ours}, there {theirs}"
        """For a person who has to look: they tell two contents apart, and say nothing of either."""
