"""The clock of alarms: raises what is due, logs it, runs the agency's own command."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence

import structlog
from tieline_client import limits

from tieline_server.domain.alarm import Alarm
from tieline_server.services.alarms import Alarms
from tieline_server.services.context import Node

_log = structlog.get_logger(__name__)

_AGAIN_SECONDS = 1.0
"""Before the next look at what could not be raised, and so is due still."""


class AlarmClock:
    """One thread. ``command`` is run for each alarm with its kind and its referral's id behind it;
    it never sees personal text. ``wake`` may be called from any thread."""

    def __init__(self, node: Node, command: Sequence[str] = ()) -> None:
        self._node, self._alarms, self._command = node, Alarms(node), tuple(command)
        self._signal = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="alarms", daemon=True)

    def start(self) -> None:
        """Begin, with what became due while the node was not running."""
        self._thread.start()

    def wake(self) -> None:
        """An alarm was set."""
        self._signal.set()

    def stop(self) -> None:
        """End after the alarm that is being raised."""
        self._stopping = True
        self._signal.set()
        if self._thread.is_alive():
            self._thread.join(limits.STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopping:
            self._signal.clear()
            seconds = limits.ALARM_LOOK_SECONDS
            try:
                for alarm in self._alarms.raise_due():
                    self._tell(alarm)
                due = self._alarms.next_due()
                if due is not None:
                    left = (due - self._node.clock()).total_seconds()
                    seconds = min(max(left, _AGAIN_SECONDS), seconds)
            except Exception as error:  # noqa: BLE001 - storage may be away; alarms must go on
                _log.error("alarm.waits", error=type(error).__name__, text=str(error))
                seconds = _AGAIN_SECONDS
            if not self._stopping:
                self._signal.wait(seconds)

    def _tell(self, alarm: Alarm) -> None:
        _log.error(
            f"alarm.{alarm.kind.value}",
            referral=alarm.referral,
            series=alarm.series,
            sender=alarm.sender,
            recipient=alarm.recipient,
        )
        if not self._command:
            return
        words = [*self._command, alarm.kind.value, alarm.referral]
        threading.Thread(target=_run_command, args=(words,), name="alarm", daemon=True).start()


def _run_command(words: Sequence[str]) -> None:
    """Run the agency's command, no longer than limits.ALARM_COMMAND_SECONDS."""
    try:
        done = subprocess.run(  # noqa: S603 - the agency's own setting, without a shell
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=limits.ALARM_COMMAND_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        _log.error("alarm.command_failed", error=type(error).__name__)
    else:
        if done.returncode:
            _log.error("alarm.command_failed", exit_code=done.returncode)
