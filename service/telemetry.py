"""Log lines of the service and its libraries, without patient data.

Metrics are in `metrics.py`, probes in `health.py`.
"""

from __future__ import annotations

import logging
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import structlog

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

    from structlog.typing import EventDict, ExcInfo, Processor

    from service.settings import Log

_LIBRARIES = {
    "aiokafka": logging.WARNING,
    "aiosqlite": logging.WARNING,
    "alembic": logging.WARNING,
    "asyncio": logging.WARNING,
    "faststream": logging.WARNING,
    "httpcore": logging.WARNING,
    "httpx": logging.WARNING,  # INFO has addresses with patient ids
    "sqlalchemy": logging.WARNING,  # INFO has statements with their parameters
    "uvicorn": logging.WARNING,
    "uvicorn.access": logging.ERROR,  # a line for each probe
}
_MESSAGES_WITHOUT_DATA = ("aiokafka", "uvicorn")
"""Libraries whose messages speak of brokers, topics and offsets only."""
_PLAIN = (str, int, float, date, Path, type(None))
_DEEPEST_CAUSE = 5


def configure_logging(log: Log, stream: TextIO | None = None) -> None:
    """Send the service's and its libraries' log lines to `stream`, which is standard error without one.

    To be called once, by the process's entry; loggers come from `structlog.get_logger()`.
    """
    stream = stream or sys.stderr
    pretty = log.format == "console" or (log.format == "auto" and stream.isatty())
    level = logging.getLevelNamesMapping()[log.level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        describe_exception,
        only_plain_values,
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty())
        if pretty
        else structlog.processors.JSONRenderer(serializer=_json)
    )
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[library_message, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name, lowest in _LIBRARIES.items():
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(max(level, lowest))


def library_message(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Return a library's log event with no more of its message than is known to hold no data.

    Beside an exception that is nothing, from trusted libraries the first line, else the first line of the
    template without its arguments.
    """
    record: logging.LogRecord = event["_record"]
    if event.get("exc_info"):
        event["event"] = "a library reports an exception"
    else:
        trusted = record.name.partition(".")[0] in _MESSAGES_WITHOUT_DATA
        event["event"] = str(event["event"] if trusted else record.msg).partition("\n")[0]
    return event


def describe_exception(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Return the event with its exception as type, code, place and, for errors of this service, text.

    Messages of other errors may quote what they failed on (a row, a JSON text), so they are left out.
    """
    given: ExcInfo | BaseException | bool | None = event.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else given[1] if isinstance(given, tuple) else sys.exc_info()[1]
    if given and error is not None:
        event["error"] = describe(error)
    return event


def describe(error: BaseException, depth: int = 0) -> dict[str, Any]:
    """Return what may be written of an error: type, code, places, our own text; and the same of its causes."""
    kind = type(error)
    ours = kind.__module__.partition(".")[0] == "service"
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    inner = [*(error.exceptions if isinstance(error, BaseExceptionGroup) else ()), *((cause,) if cause else ())]
    described = {
        "type": f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."),
        "code": _code(error),
        "text": str(error) if ours else None,
        "at": _places(error),
        "from": [describe(one, depth + 1) for one in inner] if depth < _DEEPEST_CAUSE else [],
    }
    return {key: value for key, value in described.items() if value not in (None, [])}


def only_plain_values(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Return the event with every value that is no number, text or time replaced by its type's name.

    So a record, a fact or a resource that slips into a log call leaves no data there.
    """
    return {key: value if key in {"error", "_record"} else _plain(value) for key, value in event.items()}


def _plain(value: object) -> object:
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    return f"<{type(value).__name__}>"


def _code(error: BaseException) -> str | int | None:
    """Return the code that a database, a system call, a FHIR server or this service gave the error."""
    for name in ("sqlstate", "sqlite_errorname", "errno", "status_code", "code"):
        for holder in (error, getattr(error, "orig", None), getattr(error, "response", None)):
            code = getattr(holder, name, None)
            if isinstance(code, str | int):
                return code
    return None


def _places(error: BaseException) -> list[str]:
    places: list[str] = []
    here = error.__traceback__
    while here is not None:
        places.append(f"{Path(here.tb_frame.f_code.co_filename).name}:{here.tb_lineno}")
        here = here.tb_next
    return places[-8:]


def _json(event: Mapping[str, Any], **_: object) -> str:
    return orjson.dumps(event, default=str).decode()
