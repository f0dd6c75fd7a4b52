"""MLflow without its noise and its patience, while a call lasts."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5",  # at once: by default a server that is down blocks each call for minutes
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # its errors reach us as exceptions, and are told in a line
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
LOGGERS = ("mlflow", "alembic", "urllib3")


class _Settings:
    """MLflow's environment variables and log levels as they were before the first of the calls that run now."""

    def __init__(self) -> None:
        self.lock, self.calls = threading.Lock(), 0
        self.variables: dict[str, str | None] = {}
        self.levels: dict[str, int] = {}


_settings = _Settings()


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps MLflow quiet and quick to give up while calls run, of which there may be several at a time."""
    with _settings.lock:
        _settings.calls += 1
        if _settings.calls == 1:
            _settings.variables = {name: os.environ.get(name) for name in ENVIRONMENT}
            _settings.levels = {name: logging.getLogger(name).level for name in LOGGERS}
            os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})
            for name in LOGGERS:
                logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        with _settings.lock:
            _settings.calls -= 1
            if _settings.calls == 0:
                for name, level in _settings.levels.items():
                    logging.getLogger(name).setLevel(level)
                for name, value in _settings.variables.items():
                    if value is None:
                        os.environ.pop(name, None)
