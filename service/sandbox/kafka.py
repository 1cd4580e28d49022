"""A real Kafka broker: one node in KRaft mode on 127.0.0.1."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from aiokafka.admin import AIOKafkaAdminClient

from service.sandbox.jars import Progress, load, locked, silent
from service.sandbox.java import Program, command
from service.sandbox.process import Child, SandboxError, free_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aiokafka.admin import NewTopic

HEAP = "384m"
READY_S = 90  # 3-9 s on two quiet cores; a cold disk and a busy machine take longer
CLUSTER = "IptBridgeSandboxKafkaA"  # 16 bytes in base64; a random one may begin with a hyphen, as an option does
TOPIC_EXISTS = 36  # Kafka's error code TOPIC_ALREADY_EXISTS


@dataclass(frozen=True, slots=True)
class Doors:
    """Listeners of a broker beside the open one, and who may come in there."""

    listeners: Mapping[str, str]
    """Kafka's security protocol by the listener's name, which is in capitals: `{"SECRET": "SASL_SSL"}`."""
    scram_users: Mapping[str, str] = field(default_factory=dict)
    """Passwords by user, for SCRAM-SHA-256 and SCRAM-SHA-512."""
    java_properties: Mapping[str, str] = field(default_factory=dict)
    """Java's own properties that the broker needs for them."""


class Broker:
    """An Apache Kafka broker while the `with` block lasts, or from `start()` to `stop()`.

    `properties` are added to those of the server; `doors` are listeners beside the open one. Everything is lost at
    the end, unless `folder` names where its data shall stay.
    """

    def __init__(
        self,
        *,
        folder: Path | None = None,
        properties: Mapping[str, str] | None = None,
        doors: Doors | None = None,
        progress: Progress = silent,
    ) -> None:
        self.bootstrap = f"127.0.0.1:{free_port()}"
        self._controller = f"127.0.0.1:{free_port()}"
        self._kept = folder
        self._folder = folder
        self._properties = dict(properties or {})
        self._doors = doors or Doors({})
        self._addresses = {name: f"127.0.0.1:{free_port()}" for name in self._doors.listeners}
        self._progress = progress
        self._child: Child | None = None

    @property
    def version(self) -> str:
        """Kafka's version, as `4.4.0`."""
        return next(
            jar.coordinates.split(":")[2]
            for jar in locked("kafka")
            if jar.coordinates.startswith("org.apache.kafka:kafka_")
        )

    def address(self, listener: str) -> str:
        """Return the address of one of the doors."""
        return self._addresses[listener]

    @property
    def pid(self) -> int:
        """Process id of the running broker."""
        if self._child is None:
            raise SandboxError("The Kafka broker does not run. Start it first.")
        return self._child.pid

    @property
    def folder(self) -> Path:
        """Where the running broker keeps its data and its log."""
        if self._folder is None:
            raise SandboxError("The Kafka broker does not run. Start it first.")
        return self._folder

    def start(self) -> None:
        """Return when the broker serves; on the data of the run before, if there was one."""
        classpath = load(locked("kafka"), f"Apache Kafka {self.version}", self._progress)
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="ipt-bridge-kafka-"))
        self._folder.mkdir(parents=True, exist_ok=True)
        settings = self._folder / "server.properties"
        settings.write_text("".join(f"{key}={value}\n" for key, value in self._settings().items()))
        if not (self._folder / "data" / "meta.properties").exists():
            self._format(classpath, settings)
        # Without a configuration file this is what log4j reads: warnings to standard output.
        java_properties = {"org.apache.logging.log4j.level": "WARN", **self._doors.java_properties}
        program = Program("kafka.Kafka", classpath, HEAP, java_properties)
        self._child = Child(
            "The Kafka broker",
            command(program, str(settings), folder=self._folder),
            log=self._folder / "kafka.log",
            remove=None if self._kept else self._folder,
        )
        self._child.wait_until(lambda: _serves(self.bootstrap), deadline_s=READY_S)

    def stop(self) -> None:
        """End the broker in its own way; its temporary data is deleted."""
        if self._child is not None:
            self._child.stop()
            self._child = None
        if self._kept is None and self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def kill(self) -> None:
        """End the broker as a power cut would; `start()` starts it again on the same data."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    async def create_topics(self, topics: Iterable[NewTopic]) -> None:
        """Make the topics that do not exist yet. Raises SandboxError with Kafka's own message."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            response = await admin.create_topics(list(topics))
        finally:
            await admin.close()
        # The client does not raise: each topic has a name, an error code and a message.
        for name, code, message in response.topic_errors:
            if code not in {0, TOPIC_EXISTS}:
                raise SandboxError(f"Kafka did not make the topic {name}: {message} (code {code}).")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _format(self, classpath: list[Path], settings: Path) -> None:
        # A leading zero byte: an id that begins with "-" would read as an option.
        users = [
            f"{mechanism}=[name={user},password={password}]"
            for user, password in self._doors.scram_users.items()
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
        ]
        arguments = ["format", "--standalone", "-t", CLUSTER, "-c", str(settings)]
        arguments += [argument for user in users for argument in ("--add-scram", user)]
        program = Program("kafka.tools.StorageTool", classpath, heap="128m")
        line = command(program, *arguments, folder=settings.parent)
        log = settings.parent / "format.log"
        with log.open("wb") as output:
            done = subprocess.run(line, stdout=output, stderr=output, check=False)  # noqa: S603 - our own command
        if done.returncode:
            raise SandboxError(f"Kafka could not format its data folder. Read {log}.")

    def _settings(self) -> dict[str, str]:
        addresses = {"PLAINTEXT": self.bootstrap, **self._addresses, "CONTROLLER": self._controller}
        listeners = ",".join(f"{name}://{address}" for name, address in addresses.items())
        protocols = {"PLAINTEXT": "PLAINTEXT", **self._doors.listeners, "CONTROLLER": "PLAINTEXT"}
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.bootstrap.servers": self._controller,
            "listeners": listeners,
            "advertised.listeners": listeners,
            "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.folder / "data"),
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "share.coordinator.state.topic.num.partitions": "1",
            "group.initial.rebalance.delay.ms": "0",
            # A killed broker serves again only when its own old session is over.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "1000",
            "auto.create.topics.enable": "false",
            # Synthetic records carry the times of what they tell, which retention by time would take for old.
            "log.retention.ms": "-1",
            **self._properties,
        }


def _serves(bootstrap: str) -> bool:
    # Open ports say little: a broker answers metadata requests with itself only once it serves.
    host, port = bootstrap.split(":")
    header = struct.pack(">hhih", 3, 4, 1, -1)  # Metadata, version 4, correlation 1, no client id
    body = struct.pack(">ib", 0, 0)  # no topics, create none
    try:
        with socket.create_connection((host, int(port)), timeout=2) as link:
            link.sendall(struct.pack(">i", len(header + body)) + header + body)
            answer = link.recv(4096)
    except OSError:
        return False
    brokers_at = 4 + 4 + 4  # size, correlation, throttle time
    return len(answer) >= brokers_at + 4 and struct.unpack_from(">i", answer, brokers_at)[0] > 0
