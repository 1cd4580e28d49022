"""A real FHIR server: HAPI FHIR JPA, R4, its database in memory, on 127.0.0.1."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Self

import httpx

from service.rest.transport import authorities
from service.sandbox.jars import Progress, load, locked, silent
from service.sandbox.java import Program, command, compiled
from service.sandbox.process import Child, SandboxError, free_port
from service.sandbox.sharing import Sharing, sharing

HEAP = "768m"
READY_S = 180  # 10-20 s on two quiet cores
REQUEST_S = 30

RESOURCE_TYPES = (
    "AuditEvent",
    "Binary",
    "CarePlan",
    "CareTeam",
    "CodeSystem",
    "Communication",
    "ConceptMap",
    "Condition",
    "DocumentReference",
    "Encounter",
    "EpisodeOfCare",
    "Flag",
    "Goal",
    "Observation",
    "Organization",
    "Patient",
    "PlanDefinition",
    "Practitioner",
    "PractitionerRole",
    "Provenance",
    "Questionnaire",
    "QuestionnaireResponse",
    "SearchParameter",
    "ServiceRequest",
    "StructureDefinition",
    "Subscription",
    "Task",
    "ValueSet",
)


class FhirServer:
    """A HAPI FHIR server while the `with` block lasts, or from `start()` to `stop()`.

    With `validate` it answers 422 to what is not valid FHIR R4; with `subscriptions` it delivers
    rest-hook Subscriptions. With `archive` the first end writes a class-data archive (ten seconds),
    from which every later start takes half the time. Everything else is lost at the end.
    """

    def __init__(
        self,
        *,
        validate: bool = True,
        subscriptions: bool = False,
        archive: bool = True,
        progress: Progress = silent,
    ) -> None:
        self._port = free_port()
        self.base = f"http://127.0.0.1:{self._port}/fhir"
        self._options = ("validate" if validate else "-", "subscriptions" if subscriptions else "-")
        self._archive = archive
        self._sharing = Sharing()
        self._progress = progress
        self._folder: Path | None = None
        self._child: Child | None = None

    @property
    def version(self) -> str:
        """HAPI FHIR's version, as `8.8.0`."""
        return next(
            jar.coordinates.split(":")[2]
            for jar in locked("hapi")
            if jar.coordinates.startswith("ca.uhn.hapi.fhir:hapi-fhir-jpaserver-base:")
        )

    def start(self) -> None:
        """Return when the server answers."""
        jars = load(locked("hapi"), f"HAPI FHIR {self.version}", self._progress)
        classes = compiled("HapiServer.java", jars, self._progress)
        self._folder = Path(tempfile.mkdtemp(prefix="ipt-bridge-fhir-"))
        program = Program(
            "HapiServer",
            [classes, *jars],
            HEAP,
            {"user.home": str(self._folder)},  # the libraries make folders there
        )
        self._sharing = sharing(program) if self._archive else Sharing()
        arguments = (str(self._port), *self._options, ",".join(RESOURCE_TYPES))
        self._child = Child(
            "The FHIR server",
            command(program, *arguments, folder=self._folder, flags=self._sharing.flags),
            log=self._folder / "fhir-server.log",
            remove=self._folder,
        )
        self._child.wait_until(self._answers, deadline_s=READY_S)

    def stop(self) -> None:
        """End the server; what it held is gone."""
        if self._child is not None:
            self._sharing.keep(self._child.stop())
            self._child = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def reset(self) -> None:
        """Take every resource out of the server, with its history."""
        order = {
            "resourceType": "Parameters",
            "parameter": [{"name": "expungeEverything", "valueBoolean": True}],
        }
        answer = httpx.post(f"{self.base}/$expunge", json=order, timeout=REQUEST_S, verify=authorities())
        if not answer.is_success:
            raise SandboxError(f"The FHIR server did not empty itself (HTTP {answer.status_code}).")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.base}/Patient?_summary=count", timeout=REQUEST_S, verify=authorities()).is_success
        except httpx.TransportError:
            return False
