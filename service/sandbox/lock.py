"""Writes `locks/*.lock`: run `python -m service.sandbox.lock` after a change of a version below."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from jgo.parse import Coordinate

from service.sandbox.jars import maven

KAFKA = "4.4.0"
HAPI = "8.8.0"
JETTY = "12.0.25"

COORDINATES: dict[str, tuple[str, ...]] = {
    "compiler": ("org.eclipse.jdt:ecj:3.41.0",),
    "kafka": (
        f"org.apache.kafka:kafka_2.13:{KAFKA}",
        "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5!",  # `!`: it does not choose versions for others
    ),
    "hapi": (
        f"ca.uhn.hapi.fhir:hapi-fhir-jpaserver-base:{HAPI}",
        f"ca.uhn.hapi.fhir:hapi-fhir-jpaserver-subscription:{HAPI}",
        "com.h2database:h2:2.3.232",
        f"org.eclipse.jetty:jetty-server:{JETTY}",
        f"org.eclipse.jetty.ee10:jetty-ee10-servlet:{JETTY}",
        "org.apache.commons:commons-dbcp2:2.11.0",
        "ch.qos.logback:logback-classic:1.5.25",
    ),
    "validator": (
        f"ca.uhn.hapi.fhir:hapi-fhir-validation:{HAPI}",
        f"ca.uhn.hapi.fhir:hapi-fhir-structures-r4:{HAPI}",
        f"ca.uhn.hapi.fhir:hapi-fhir-validation-resources-r4:{HAPI}",
        f"ca.uhn.hapi.fhir:hapi-fhir-caching-caffeine:{HAPI}",
        "org.slf4j:slf4j-nop:2.0.17",
    ),
}

# Dependencies that nothing here ever calls: other databases' drivers, diagrams, test libraries.
NOT_NEEDED = frozenset({"assertj-core", "lombok", "mssql-jdbc", "ojdbc11", "plantuml-mit", "postgresql", "sqlite-jdbc"})


def lock(coordinates: tuple[str, ...], repository: Path) -> list[str]:
    """Lines of a lock file: every archive that the coordinates need, with its hash and size."""
    context = maven(repository)
    wanted = [context.create_dependency(replace(Coordinate.parse(one), scope="compile")) for one in coordinates]
    direct, transitive = context.resolver.resolve(wanted)
    needed = direct + [one for one in transitive if one.scope in {"compile", "runtime"}]
    lines = []
    for artifact in (one.artifact for one in needed):
        if artifact.artifactId in NOT_NEEDED:
            continue
        content = artifact.resolve().read_bytes()
        parts = [artifact.groupId, artifact.artifactId, artifact.version, artifact.classifier]
        name = ":".join(part for part in parts if part)
        lines.append(f"{name} {hashlib.sha256(content).hexdigest()} {len(content)}")
    return sorted(set(lines))


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        for name, coordinates in COORDINATES.items():
            path = Path(__file__).parent / "locks" / f"{name}.lock"
            path.write_text("\n".join(lock(coordinates, Path(folder))) + "\n")
