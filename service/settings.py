"""Every setting as a frozen, typed value, with its unit and default.

`service/configuration.py` reads them from file, environment and secrets; nothing here looks outside.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FilePath,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from service.credentials import HTTP_URL, Group, TokenEndpoint, Transport
from service.inbound.envelopes import DIALECTS

_DRIVERS = {
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
}


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _without_slash(base: str) -> str:
    return base.rstrip("/")


_FhirBase = Annotated[str, Field(pattern=HTTP_URL), AfterValidator(_without_slash)]
_Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
_Sources = Annotated[tuple[_Name, ...], Field(min_length=1)] | None


def _host_and_port(address: str) -> str:
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal()):
        msg = "each broker is written host:port"
        raise ValueError(msg)
    return address


class Kafka(Group):
    """The cluster that events come from and plans may go to."""

    bootstrap: Annotated[
        tuple[Annotated[str, AfterValidator(_host_and_port)], ...],
        NoDecode,
        BeforeValidator(_split),
        Field(min_length=1),
    ] = ("127.0.0.1:9092",)
    """Brokers to ask first, each `host:port`; in the environment separated by commas."""
    group_id: str = "ipt-bridge"
    """Consumer group; workers with the same one share the partitions."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How connections are encrypted and authenticated, in Kafka's own words."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = "SCRAM-SHA-512"
    """Used with SASL_PLAINTEXT and SASL_SSL only."""
    sasl_username: str | None = None
    """User of the SASL mechanism."""
    sasl_password: SecretStr | None = None
    """Secret. Password of the SASL mechanism."""
    sasl_oauth_token_endpoint: TokenEndpoint = None
    """URL that OAUTHBEARER's tokens come from, by client credentials."""
    sasl_oauth_client_id: str | None = None
    """Id under which the service is registered there."""
    sasl_oauth_client_secret: SecretStr | None = None
    """Secret. The client's secret there."""
    sasl_oauth_scopes: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = ()
    """Scopes to ask for there; in the environment separated by commas."""
    sasl_oauth_ca_file: FilePath | None = None
    """PEM file of the authorities that sign the token endpoint's certificate; without it, those of the system."""
    ca_file: FilePath | None = None
    """PEM file of the authorities that sign the brokers' certificates; without it, those of the system."""
    certificate_file: FilePath | None = None
    """PEM file of this client's own certificate, for mutual TLS."""
    key_file: FilePath | None = None
    """PEM file of the key to `certificate_file`."""
    key_password: SecretStr | None = None
    """Secret. Password of `key_file`, where it has one."""
    batch_size: PositiveInt = 2000
    """Most records in one batch, which is one transaction; so many only where they wait (records)."""
    batch_timeout_s: PositiveFloat = 0.05
    """Longest wait for the next records of a batch, where many are known to be there (seconds)."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.security_protocol.startswith("SASL"):
            self._has_credentials()
        if (self.certificate_file is None) != (self.key_file is None):
            msg = "certificate_file and key_file go together"
            raise ValueError(msg)
        return self

    def _has_credentials(self) -> None:
        if self.sasl_mechanism == "OAUTHBEARER":
            names = ["sasl_oauth_token_endpoint", "sasl_oauth_client_id", "sasl_oauth_client_secret"]
        else:
            names = ["sasl_username", "sasl_password"]
        missing = [name for name in names if getattr(self, name) is None]
        if missing:
            msg = f"{self.security_protocol} by {self.sasl_mechanism} needs {' and '.join(missing)}"
            raise ValueError(msg)


class Topic(Group):
    """One topic of a source."""

    name: str
    """Kafka's name of the topic."""
    resource_type: Literal["Encounter", "QuestionnaireResponse", "Task", "Patient"] | None = None
    """What a record without a value deletes, where its key is a bare resource id."""


def _named(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


def _known_dialect(name: str) -> str:
    if name not in DIALECTS:
        msg = f"the dialects are {', '.join(DIALECTS)}"
        raise ValueError(msg)
    return name


class Source(Transport):
    """One EHR or tenant whose events are read."""

    id: _Name = "main"
    """Name of the source in the store, the metrics and the plans' ids: never change it (letters, digits, hyphens)."""
    topics: Annotated[tuple[Annotated[Topic, BeforeValidator(_named)], ...], Field(min_length=1)] = (
        Topic(name="fhir.encounter", resource_type="Encounter"),
        Topic(name="fhir.questionnaireresponse", resource_type="QuestionnaireResponse"),
    )
    """Topics with this source's events: names, or tables of `name` and `resource_type`."""
    time_zone: ZoneInfo = ZoneInfo("UTC")
    """IANA name of the zone in which the EHR writes times that carry none."""
    fhir_base: _FhirBase | None = None
    """FHIR base URL of the EHR: changes that only name a resource are fetched there, and nowhere else.

    A subject at any other address is another server's patient, and is parked.
    """
    subjects_by_identifier: Literal["park", "search"] = "park"
    """What is done where a patient is named by an identifier alone: park it, or search for the patient at `fhir_base`.

    The search has to find exactly one patient.
    """
    fhir_version: Literal["R4", "R4B", "R5"] = "R4"
    """Version of the full model that its resources are held against, by `inbound.conformance`; all are read."""
    envelope: Annotated[str, AfterValidator(_known_dialect)] | None = None
    """The one dialect that its records are in; without it, each record's is told by its content and headers."""
    labels: tuple[Annotated[str, Field(pattern=r"^[^|\s]+\|[^|\s]+$")], ...] = ()
    """Security labels, each `system|code`, that all courses of this source carry besides those of its resources.

    As of a unit whose records are all under 42 CFR Part 2.
    """
    site: str | None = None
    """File of `mappings/sites/`, without its ending, with this site's own codes and forms."""

    @model_validator(mode="after")
    def _has_a_server(self) -> Self:
        if self.subjects_by_identifier == "search" and self.fhir_base is None:
            msg = "subjects_by_identifier searches at fhir_base: set that too"
            raise ValueError(msg)
        if self.auth.kind != "none" and self.fhir_base is None:
            msg = "auth is for the server at fhir_base: set that too"
            raise ValueError(msg)
        return self


class Store(Group):
    """The database of facts, courses and deliveries."""

    url: SecretStr = SecretStr("sqlite:///ipt-bridge.sqlite")
    """`sqlite:///path` or `postgresql://user@host:port/database`."""
    password: SecretStr | None = None
    """Secret. Password of the database's user; rather here than in `url`."""

    @model_validator(mode="after")
    def _known_kind(self) -> Self:
        if urlsplit(self.url.get_secret_value()).scheme not in _DRIVERS:
            msg = "the url begins with sqlite:/// or postgresql://"
            raise ValueError(msg)
        return self

    def sqlalchemy_url(self) -> str:
        """Return the URL with driver and password: a secret itself."""
        parts = urlsplit(self.url.get_secret_value())
        driver = _DRIVERS[parts.scheme]
        if driver == "sqlite+aiosqlite":
            return self.url.get_secret_value().replace(parts.scheme, driver, 1)
        user, _, host = parts.netloc.rpartition("@")
        if self.password is not None:
            user = f"{user.partition(':')[0]}:{quote(self.password.get_secret_value(), safe='')}"
        # libpq's word for it, which asyncpg calls `ssl`.
        query = [("ssl" if name == "sslmode" else name, value) for name, value in parse_qsl(parts.query)]
        return urlunsplit((driver, f"{user}@{host}" if user else host, parts.path, urlencode(query), ""))

    @property
    def place(self) -> str:
        """Where the database is, without user and password: safe to show."""
        parts = urlsplit(self.url.get_secret_value())
        return f"{parts.scheme.partition('+')[0]}://{parts.netloc.rpartition('@')[2]}{parts.path}"


class KafkaDestination(Group):
    """Plans as records on a compacted topic."""

    kind: Literal["kafka"]
    """What this destination is."""
    name: _Name = "kafka"
    """Name in the store, the metrics and the commands (letters, digits, hyphens)."""
    topic: str = "ipt.careplan"
    """Topic for the plans, keyed by course id."""
    sources: _Sources = None
    """Ids of the sources whose courses go there; without it, all."""
    withhold: tuple[str, ...] = ()
    """Security labels, each `system|code` or a code alone: plans that carry one are kept from this destination."""


class FhirDestination(Transport):
    """Plans as resources in a FHIR server."""

    kind: Literal["fhir"]
    """What this destination is."""
    name: _Name = "ehr"
    """Name in the store, the metrics and the commands (letters, digits, hyphens)."""
    base: _FhirBase
    """FHIR base URL, as `https://ehr.example/fhir`."""
    sources: _Sources = None
    """Ids of the sources whose courses go there: those whose patients have the same ids in both.

    Needed where there are several sources: `Patient/1` of one is somebody else in another's EHR.
    """
    timeout_s: PositiveFloat = 30.0
    """Longest wait for one answer (seconds)."""
    concurrency: PositiveInt | None = None
    """Plans under way at once at this server; without it, `deliveries.concurrency` (plans)."""
    requests_per_second: PositiveFloat | None = None
    """Most requests that one worker sends to it; without it, as many as it answers (requests a second)."""
    withhold: tuple[str, ...] = ()
    """Security labels, each `system|code` or a code alone: plans that carry one are kept from this destination."""
    profile: str | None = None
    """Vendor profile, a file of `mappings/ehr/` without its ending; without it, the one that the server's own
    statement fits."""
    scores: bool = False
    """Whether scores go as Observations beside the note, where the server takes no CarePlan but these."""
    note_format: Literal["text/html", "application/pdf"] | None = None
    """What notes are; without it, HTML unless the vendor's server is known to take only PDF. In a PDF, letters other
    than Latin, Greek and Cyrillic ones stand as their Unicode numbers."""
    retract_by: Literal["status", "delete"] = "status"
    """How a plan is taken back: as `entered-in-error`; or deleted, where the server lets it be and nobody else has
    written to it, else `entered-in-error` too."""
    audit_events: bool = False
    """Whether the server is told of each write there by an AuditEvent, where it takes them. Most EHRs keep their own
    audit trail of what a client writes; the service's stands in its store in any case."""
    answers_every_s: PositiveFloat = 600.0
    """How often its open Tasks are looked at for what clinicians completed, beside each delivery (seconds)."""


Destination = Annotated[KafkaDestination | FhirDestination, Field(discriminator="kind")]


class Limits(Group):
    """What one record may hold; anything larger is parked unread."""

    bytes: PositiveInt = 2_000_000
    """Largest value of a record (bytes)."""
    depth: PositiveInt = 64
    """Deepest nesting of its JSON (levels)."""
    items: PositiveInt = 10_000
    """Most items of one QuestionnaireResponse, nested ones included (items)."""
    entries: PositiveInt = 5_000
    """Most entries of one Bundle (entries)."""


class Inbound(Group):
    """How events are read."""

    conformance: Literal["off", "sample", "enforce"] = "off"
    """Whether resources are also held against the full FHIR model: never; a sample, which counts where they deviate;
    or all that are ours, which parks those that do. `ipt-bridge sources` shows it."""
    gap_after_s: PositiveFloat = 300.0
    """How long an event number of a Subscription may be missing before that is a gap: events come late (seconds)."""


class Fetching(Group):
    """How resources that changes only name are fetched from the sources' EHRs."""

    concurrency: PositiveInt = 4
    """Requests under way at once at each EHR (requests)."""
    backoff_s: PositiveFloat = 1.0
    """Wait after a first failed attempt, doubled after each further one (seconds)."""
    backoff_max_s: PositiveFloat = 300.0
    """Longest wait between two attempts (seconds)."""
    failures: PositiveInt = 5
    """So many resources in a row whose fetching fails, and the EHR is left alone for a while (resources)."""
    lease_s: PositiveFloat = 600.0
    """How long one worker keeps what it fetches to itself before another may fetch it (seconds)."""


class Deliveries(Group):
    """How plans are brought to their destinations."""

    concurrency: PositiveInt = 4
    """Plans under way at once at each FHIR server (plans); a topic takes them in batches."""
    backoff_s: PositiveFloat = 1.0
    """Wait after a first failed attempt, doubled after each further one (seconds)."""
    backoff_max_s: PositiveFloat = 300.0
    """Longest wait between two attempts (seconds)."""
    lease_s: PositiveFloat = 120.0
    """How long one worker keeps a delivery to itself before another may take it (seconds)."""


class Sweeper(Group):
    """The loop that projects courses which time alone has changed."""

    interval_s: PositiveFloat = 60.0
    """Wait between two looks for patients that fell due (seconds)."""


class Http(Group):
    """Where health and metrics are served."""

    host: str = "127.0.0.1"
    """Address to listen at; `0.0.0.0` in a container."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    """TCP port; 0 takes a free one."""


class Log(Group):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is written."""
    format: Literal["auto", "json", "console"] = "auto"
    """JSON lines, or lines for a person; `auto` writes those to a terminal only."""


class Settings(BaseSettings):
    """All settings of the service; each has a default that works on one machine."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        env_prefix="IPT_",
        env_nested_delimiter="__",
    )

    kafka: Kafka = Kafka()
    """The Kafka cluster."""
    sources: Annotated[tuple[Source, ...], Field(min_length=1)] = (Source(),)
    """EHRs or tenants whose events are read."""
    store: Store = Store()
    """The database."""
    destinations: tuple[Destination, ...] = (KafkaDestination(kind="kafka"),)
    """Where plans go."""
    limits: Limits = Limits()
    """What one record may hold."""
    inbound: Inbound = Inbound()
    """How events are read."""
    fetching: Fetching = Fetching()
    """How resources are fetched that changes only name."""
    deliveries: Deliveries = Deliveries()
    """How plans are delivered."""
    sweeper: Sweeper = Sweeper()
    """How often time is looked at."""
    http: Http = Http()
    """Health and metrics."""
    log: Log = Log()
    """Logging."""
    mappings: Path | None = None
    """Folder of the mapping files; without it, those that came with the service."""

    @model_validator(mode="after")
    def _unambiguous(self) -> Self:
        for what, names in (
            ("source id", [source.id for source in self.sources]),
            ("topic", [topic.name for source in self.sources for topic in source.topics]),
            ("destination name", [destination.name for destination in self.destinations]),
        ):
            twice = [name for name, times in Counter(names).items() if times > 1]
            if twice:
                msg = f'the {what} "{twice[0]}" stands twice'
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _each_in_its_own_chart(self) -> Self:
        known = {source.id for source in self.sources}
        for destination in self.destinations:
            if unknown := set(destination.sources or ()) - known:
                msg = f'the destination "{destination.name}" names the source "{min(unknown)}", which there is not'
                raise ValueError(msg)
            if isinstance(destination, FhirDestination) and destination.sources is None and len(known) > 1:
                msg = (
                    f'with several sources, the FHIR destination "{destination.name}" needs the ids of those '
                    "whose patients it has: set its sources"
                )
                raise ValueError(msg)
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings passes it
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the arguments alone, so that `Settings(...)` is a value like any other."""
        return (init_settings,)
