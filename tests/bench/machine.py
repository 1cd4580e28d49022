"""What a run was measured on: enough to compare two tables, and nothing that names a place."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from service.sandbox.kafka import Broker

CPU_INFO = Path("/proc/cpuinfo")
_MODEL = "model name"


def machine(postgresql: str) -> dict[str, str]:
    """Return cores, processor, memory, versions (PostgreSQL's as its server tells it) and date."""
    return {
        "cores": str(os.cpu_count()),
        "processor": _processor(),
        "memory": f"{psutil.virtual_memory().total / 1024**3:.0f} GB",
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        "Kafka": Broker().version,
        "PostgreSQL": postgresql,
        **{name: version(name) for name in ("aiokafka", "sqlalchemy", "asyncpg", "fhir.resources", "pydantic")},
        "date": datetime.now(UTC).date().isoformat(),
    }


def _processor() -> str:
    lines = CPU_INFO.read_text().splitlines() if CPU_INFO.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith(_MODEL)]
    return models[0] if models else platform.processor() or "unknown"
