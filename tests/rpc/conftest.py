"""One world for a test module: making keys and certificates is the slow part."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tieline_server.rpc.methods import Listener

from tests.rpc.guarded import Listening, World, listening, make_world


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
def federation_port(world: World) -> Iterator[Listening]:
    with listening(world) as port:
        yield port


@pytest.fixture
def operator_port(world: World) -> Iterator[Listening]:
    with listening(world, Listener.OPERATOR) as port:
        yield port
