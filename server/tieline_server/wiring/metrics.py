"""Metrics in the text format of Prometheus (version 0.0.4), on loopback, where asked for.

Off by default; ``metrics_listen`` names the address, which must be of this machine: there is no TLS
and no access control on it, and it tells names of agencies and people's user names, never content.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import structlog
from tieline_client.errors import ConfigurationError, TielineError

from tieline_server.backup import records
from tieline_server.wiring.clock import utc_now
from tieline_server.wiring.endings import endings
from tieline_server.wiring.parts import Parts
from tieline_server.wiring.status import NodeStatus

_log = structlog.get_logger(__name__)

_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = 10.0


def lines(parts: Parts, now: datetime) -> Iterator[str]:
    """Yield the document line by line; every figure is a gauge."""
    ending = list(endings(parts, now))
    yield from _gauge("tieline_up", "1 while the node serves.", [({}, 1)])
    yield from _gauge(
        "tieline_expiry_timestamp_seconds",
        "When it ends by itself, seconds since 1970.",
        [({"what": one.what}, one.ends.timestamp()) for one in ending],
    )
    yield from _gauge(
        "tieline_expiry_announced",
        "1 for what ends before long or has ended.",
        [({"what": one.what}, int(one.due(now))) for one in ending],
    )
    directory = parts.directory.current()
    yield from _gauge(
        "tieline_directory_version", "The directory in force.", [({}, directory.version)]
    )
    yield from _gauge(
        "tieline_outbox_queued",
        "Messages that wait, by recipient.",
        [
            ({"agency": one.agency}, one.queued)
            for one in parts.store.read(lambda tx: list(tx.outbox.destinations()))
        ],
    )
    last = parts.store.read(records.last)
    if last is not None:
        age = (now - last.created).total_seconds()
        yield from _gauge("tieline_backup_age_seconds", "Age of the last backup.", [({}, age)])
    yield from _gauge(
        "tieline_warnings",
        "What `tieline node status` warns of.",
        [({}, len(NodeStatus(parts).at(now).warnings))],
    )


def _gauge(name: str, help_text: str, values: list[tuple[dict[str, str], float]]) -> Iterator[str]:
    yield f"# HELP {name} {help_text}"
    yield f"# TYPE {name} gauge"
    for labels, value in values:
        inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        yield f"{name}{{{inside}}} {value:.15g}" if inside else f"{name} {value:.15g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class MetricsPort:
    """Serves /metrics by HTTP until it is stopped."""

    def __init__(self, parts: Parts) -> None:
        """Bind the port; raise ConfigurationError when it is taken."""
        host, _, port = parts.config.metrics_listen.rpartition(":")

        class Handler(BaseHTTPRequestHandler):
            timeout = _SECONDS

            def do_GET(self) -> None:
                if self.path.partition("?")[0] != "/metrics":
                    self.send_error(404)
                    return
                try:
                    body = "".join(f"{line}\n" for line in lines(parts, utc_now())).encode()
                except TielineError as error:
                    _log.warning("metrics.failed", reason=error.reason)
                    self.send_error(503)
                    return
                self.send_response(200)
                self.send_header("Content-Type", _TYPE)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_words: object) -> None:
                """The log is for events, not for each look."""

        try:
            self._server = ThreadingHTTPServer((host.strip("[]"), int(port)), Handler)
        except OSError as error:
            raise ConfigurationError(
                f"metrics_listen {parts.config.metrics_listen}: {error.strerror}; choose another"
            ) from None
        self._server.daemon_threads = True

    def start(self) -> None:
        """Answer from now on."""
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()
