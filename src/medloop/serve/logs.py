"""Logs as one JSON object a line, with trace ids and without words of requests."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

# What every record has; whatever else it carries was given by the caller.
_OWN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonLines(logging.Formatter):
    """One line an event."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON; of an exception only its kind, since its words may hold a patient's data."""
        facts = {name: value for name, value in vars(record).items() if name not in _OWN}
        if record.exc_info and record.exc_info[0]:
            facts["kind"] = record.exc_info[0].__name__
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"at": at, "level": record.levelname, "event": record.getMessage(), **facts}
        return json.dumps(line, default=str)


def log_to_stderr() -> None:
    """Sends what the service and uvicorn say to the standard error."""
    # Who runs a line is asked for each of them, and told in none.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    for name, level in (("medloop", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
