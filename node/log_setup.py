"""The only place that touches logging handlers.

Lines carry the role and, inside a job, the job id. No patient data: the loggers of this project
never get any, and the loggers of libraries that may print values of data sets are held at ERROR.
"""

import contextlib
import contextvars
import json
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

from config import LogSettings

_job_id: contextvars.ContextVar[int | None] = contextvars.ContextVar("job_id", default=None)
_QUIET_LOGGERS = (
    "alembic",
    "apscheduler",
    "highdicom",
    "httpcore",
    "httpx",
    "py.warnings",
    "pydicom",
    "pynetdicom",
    "uvicorn",
)
_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "role",
    "job",
}


@contextlib.contextmanager
def job_context(job_id: int) -> Iterator[None]:
    """Put the job id on every line that is logged inside."""
    token = _job_id.set(job_id)
    try:
        yield
    finally:
        _job_id.reset(token)


class _Context(logging.Filter):
    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def filter(self, record: logging.LogRecord) -> bool:
        record.role = self._role
        record.job = _job_id.get()
        return True


def _extras(record: logging.LogRecord) -> dict[str, object]:
    return {k: v for k, v in vars(record).items() if k not in _STANDARD_FIELDS}


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "role": vars(record)["role"],
            "logger": record.name,
            "message": record.getMessage(),
        }
        if vars(record)["job"] is not None:
            line["job"] = vars(record)["job"]
        line.update(_extras(record))
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        fields = vars(record)
        job = "" if fields["job"] is None else f" job={fields['job']}"
        extras = "".join(f" {k}={v}" for k, v in _extras(record).items())
        role = fields["role"]
        text = f"{at}Z {record.levelname:<7} {role}{job}: {record.getMessage()}{extras}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


def set_up_logging(settings: LogSettings, *, role: str) -> None:
    """Send all log lines of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_Context(role))
    handler.setFormatter(_JsonFormatter() if settings.format == "json" else _TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level)
    # pydicom's warnings quote values of the data set.
    logging.captureWarnings(capture=True)
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(max(logging.ERROR, root.level))
