"""One world for a test module: making keys and certificates is the slow part."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tieline_server.rpc import guarded_call
from tieline_server.rpc.methods import Listener
from tieline_server.rpc.streams import RequestReader

from tests.rpc.guarded import SECONDS, Listening, World, listening, make_world


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
def first_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short bound on silence holds from a stream's second message on: how long the first takes
    to come is a matter of the machine."""

    class Patient(RequestReader):
        begun = False

        def take(self, timeout: float) -> bytes | None:
            bound, self.begun = timeout if self.begun else SECONDS, True
            return super().take(bound)

    monkeypatch.setattr(guarded_call, "RequestReader", Patient)


@pytest.fixture
def federation_port(world: World) -> Iterator[Listening]:
    with listening(world) as port:
        yield port


@pytest.fixture
def operator_port(world: World) -> Iterator[Listening]:
    with listening(world, Listener.OPERATOR) as port:
        yield port
