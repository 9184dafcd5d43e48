"""A node that only calls out says where it is not attached, and why."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tieline_client import limits
from tieline_client.directory import Role
from tieline_client.errors import UnknownMethod
from tieline_client.peer_client import PeerClient
from tieline_server.relay.attaching import Attaching

from tests.e2e.federation import wait_for

WHY = "the version of europol-ec3 knows no nodes that only call out"


def test_the_reason_stays_while_the_next_try_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ATTACH_SILENCE_SECONDS", 0.0)
    hub = SimpleNamespace(
        agency="europol-ec3", endpoints=("127.0.0.1:1",), outbound_only=False, role=Role.HUB
    )
    directory = SimpleNamespace(active_members=lambda: [hub])

    def fresh(_agency: str) -> PeerClient:
        raise UnknownMethod(WHY)

    attaching = Attaching(
        *("pt-pj", lambda: cast(Any, directory), lambda: datetime.now(UTC), fresh),
        *(lambda _agency: None, tmp_path / "listener.sock"),
        hubs_only=False,
    )
    try:
        attaching._look()
        wait_for("it was tried", lambda: attaching.states()[0].reason == WHY)
        attaching._look()  # as each second from then on
        assert attaching.states()[0].reason == WHY
    finally:
        attaching.stop()
