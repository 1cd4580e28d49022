"""The service as a hospital runs it: a configuration file, a database, a consumer group, a process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.commands.operations import migrate
from service.configuration import load_settings
from tests.bench.parts import SOURCE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from service.settings import Settings
    from tests.bench.parts import Parts

DESTINATION = "kafka"


@dataclass(frozen=True, slots=True)
class Installation:
    """One installation; any number of processes may run it."""

    config: Path
    group: str
    plans: str | None
    """Topic that plans are written to; None where only the intake works."""

    @property
    def settings(self) -> Settings:
        """Return its settings."""
        return load_settings(self.config)

    @property
    def url(self) -> str:
        """URL of its database, as SQLAlchemy takes it."""
        return self.settings.store.sqlalchemy_url()

    @property
    def command(self) -> tuple[str, ...]:
        """What runs it, as arguments of Python."""
        return ("-m", "service", "run", "--config", str(self.config))


async def install(parts: Parts, topics: Sequence[str], url: str, *, plans: bool = False) -> Installation:
    """Write the configuration of an installation and bring its database to this release."""
    group = parts.name("group")
    topic = await parts.plan_topic() if plans else None
    config = parts.folder / f"{group}.toml"
    destination = f'{{ kind = "kafka", name = "{DESTINATION}", topic = "{topic}" }}' if plans else ""
    config.write_text(
        f"""
        destinations = [{destination}]
        [kafka]
        bootstrap = "{parts.broker.bootstrap}"
        group_id = "{group}"
        [store]
        url = "{url}"
        [http]
        port = 0
        [log]
        format = "json"
        [[sources]]
        id = "{SOURCE}"
        topics = ["{'", "'.join(topics)}"]
        """
    )
    made = Installation(config, group, topic)
    await migrate(made.settings)
    return made
