"""What every mapping file is made of: numbers with their unit and source, codes with their check digit."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from service.domain.codes import LOINC, checked, read_code
from service.domain.facts import Code


def _loinc(code: str) -> str:
    return checked(LOINC, code).code


def _written(code: str) -> str:
    read_code(code)
    return code


Loinc = Annotated[str, AfterValidator(_loinc)]
WrittenCode = Annotated[str, AfterValidator(_written)]
"""A code written as `system|code`."""


class FileModel(BaseModel):
    """A table of a mapping file: no unknown key is accepted."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(FileModel):
    """Where a number or rule comes from."""

    title: str
    kind: Literal["published", "general-knowledge", "design-decision"]
    address: str = ""
    """URL or DOI."""


class Threshold(FileModel):
    """A number that a rule compares with."""

    value: float
    unit: str
    source: str
    """Key into `sources.toml`."""

    @cached_property
    def count(self) -> int:
        """The value as a whole number, for thresholds that count."""
        return int(self.value)

    @cached_property
    def days(self) -> timedelta:
        """The value as a span of time, for thresholds in days."""
        return timedelta(days=self.value)


class Coding(FileModel):
    """A code that a mapping names, its check digit proven where its system has one."""

    system: str
    code: str
    display: str

    @model_validator(mode="after")
    def _check_digit(self) -> Self:
        checked(self.system, self.code)
        return self

    @property
    def key(self) -> Code:
        """System and code alone."""
        return Code(self.system, self.code)
