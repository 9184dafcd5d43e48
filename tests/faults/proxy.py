"""A TCP proxy in front of a node that delays, cuts, resets, swallows or refuses what comes.

It runs one asyncio loop in a thread of its own. Modes change while connections are open and hold
for those, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import struct
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

_CHUNK = 16 * 1024
_LINGER_ZERO = struct.pack("ii", 1, 0)


class Mode(enum.Enum):
    """What the proxy does with bytes."""

    PASS = "pass"
    DELAY = "delay"
    """Every chunk waits ``seconds``."""
    CUT = "cut"
    """A connection ends in order after ``after`` bytes, in the middle of whatever that is."""
    RESET = "reset"
    """As CUT, by RST."""
    SWALLOW = "swallow"
    """Connections stay open and nothing comes through."""
    HOLD = "hold"
    """Once a piece of more than ``after`` bytes was handed on, nothing comes back on its
    connection."""
    REFUSE = "refuse"
    """Open connections are reset, new ones too."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """A mode with its figures."""

    mode: Mode = Mode.PASS
    seconds: float = 0.0
    after: int = 0


class Proxy:
    """Listens on 127.0.0.1:``port`` and hands on to ``target``. Used from any thread."""

    def __init__(self, port: int, target: int) -> None:
        self.port, self._target = port, target
        self._behaviour = Behaviour()
        self._open: set[asyncio.StreamWriter] = set()
        self._changed = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._call(
            asyncio.start_server(self._serve, "127.0.0.1", port, limit=_CHUNK)
        ).result()
        self.connections = 0

    def behave(self, mode: Mode, *, seconds: float = 0.0, after: int = 0) -> None:
        """Change what happens from now on; REFUSE ends what is open."""
        self._call(self._behave(Behaviour(mode, seconds, after))).result()

    def heal(self) -> None:
        """Hand on again. What was swallowed is cut: nobody waits for bytes that never come."""
        swallowed = self._behaviour.mode is Mode.SWALLOW
        self.behave(Mode.PASS)
        if swallowed:
            self._call(self._abort_all()).result()

    def close(self) -> None:
        """End the loop and everything in it."""
        self._loop.call_soon_threadsafe(self._server.close)
        self._call(self._abort_all()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60.0)

    # --- in the loop ---

    def _call(self, what: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(what, self._loop)

    async def _behave(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._changed.set()
        self._changed = asyncio.Event()
        if behaviour.mode is Mode.REFUSE:
            await self._abort_all()

    async def _abort_all(self) -> None:
        for writer in list(self._open):
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._behaviour.mode is Mode.REFUSE:
            _reset(writer)
            return
        self.connections += 1
        self._open.add(writer)
        onward: asyncio.StreamWriter | None = None
        try:
            back, onward = await asyncio.open_connection("127.0.0.1", self._target, limit=_CHUNK)
            self._open.add(onward)
            count, largest = [0], [0]
            await asyncio.gather(
                self._pump(reader, onward, writer, count, largest),
                self._pump(back, writer, onward, count, largest, back=True),
            )
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for one in (writer, onward):
                if one is not None:
                    self._open.discard(one)
                    with contextlib.suppress(Exception):
                        one.close()

    def _swallows(self, largest: int) -> bool:
        """Whether bytes are kept now; ``largest`` is the largest piece that went there before."""
        now = self._behaviour
        return now.mode is Mode.SWALLOW or (now.mode is Mode.HOLD and largest > now.after)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        other: asyncio.StreamWriter,
        count: list[int],
        largest: list[int],
        *,
        back: bool = False,
    ) -> None:
        while data := await reader.read(_CHUNK):
            if not back:
                largest[0] = max(largest[0], len(data))
            while self._swallows(largest[0] if back else 0):
                await self._changed.wait()
            now = self._behaviour
            if now.mode is Mode.DELAY:
                await asyncio.sleep(now.seconds)
            count[0] += len(data)
            if now.mode in (Mode.CUT, Mode.RESET) and count[0] > now.after:
                if now.mode is Mode.RESET:
                    _reset(writer)
                    _reset(other)
                    return
                writer.write(data[: len(data) // 2])
                break
            writer.write(data)
            await writer.drain()
        for one in (writer, other):
            with contextlib.suppress(Exception):
                one.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST."""
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    writer.transport.abort()
