"""Everything of a node that ends by itself, one by one, a week ahead: status, log, metrics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta

import pytest
import structlog
from tieline_client.profile import utc_now
from tieline_server.backup import records
from tieline_server.config import Home
from tieline_server.domain.expiry import ANNOUNCED_AHEAD, Ending
from tieline_server.main import RunningNode
from tieline_server.trust.own_statement import Edit, OwnStatements
from tieline_server.trust.request import read_role
from tieline_server.trust.statements import OwnStatement
from tieline_server.wiring.endings import Announcer, endings
from tieline_server.wiring.metrics import lines
from tieline_server.wiring.parts import Parts
from tieline_server.wiring.status import NodeStatus

from tests.e2e.federation import Federation, Node, tieline

SECOND = timedelta(seconds=1)
ENDS = {
    "the node's leaf",
    "the node CA",
    "the next node CA",
    "the operator CA",
    "the next operator CA",
    "the signing key",
    "the directory",
    "the directory's root",
    "the directory's targets",
    "this agency's part of the directory",
    "the certificate of admin",
    "the last backup",
}
"""All of it. Snapshot and timestamp end first and together, so they are "the directory"."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """A home of a hub that has published, in which everything that may be replaced is."""
    made = Federation(tmp_path_factory.mktemp("endings")).found()
    node = made.add("europol-ec3", "hub")
    made.change("publish", "--home", node.home)
    for option in ("--ca", "--operator-ca"):
        tieline("node", "rekey", node.home, option).ok()
    return node


@pytest.fixture(scope="module")
def parts(hub: Node) -> Iterator[Parts]:
    """The node as `serve` puts it together; it is not started, so its time is the test's."""
    home = Home(hub.home)
    with ExitStack() as held:
        made = RunningNode(home, home.config(), held).parts
        _state(made, _signing_key_ends(utc_now() + timedelta(days=60)), utc_now())
        backup = records.Record(
            file="backup", created=utc_now(), expires=utc_now() + timedelta(days=90)
        )
        made.store.write(lambda tx: records.remember(tx, backup))
        yield made


def _signing_key_ends(at: datetime) -> Edit:
    def edit(stated: OwnStatement) -> OwnStatement:
        (key,) = stated.signing_keys
        ending = key.model_copy(update={"not_after": at})
        return stated.model_copy(update={"signing_keys": (ending,)})

    return edit


def _state(parts: Parts, edit: Edit, now: datetime) -> None:
    """Have this hub state something of itself."""
    own = OwnStatements(parts.home.path, parts.config.agency, parts.directory)
    signed = own.change(edit, now)
    assert signed is not None
    parts.online.accept(parts.config.agency, signed.metadata, signed.statement, now)


def _named(parts: Parts) -> dict[str, Ending]:
    found = list(endings(parts, utc_now()))
    by_name = {one.what: one for one in found}
    assert len(by_name) == len(found), "two are called the same"
    return by_name


def test_all_that_ends_is_known(parts: Parts) -> None:
    assert set(_named(parts)) == ENDS


@pytest.mark.parametrize("what", sorted(ENDS))
def test_it_is_announced_in_status_log_and_metrics(parts: Parts, what: str) -> None:
    ending = _named(parts)[what]
    # What renews itself at half-life is announced when it did not; all else a week ahead.
    assert ending.ahead == (timedelta(hours=42) if what == "the node's leaf" else ANNOUNCED_AHEAD)
    begins = ending.ends - ending.ahead
    for now, due in ((begins - SECOND, False), (begins, True)):
        warnings = NodeStatus(parts).at(now).warnings
        assert any(one.startswith(f"{what} ends ") for one in warnings) == due, (now, warnings)
        with structlog.testing.capture_logs() as log:
            announcer = Announcer(parts)
            announcer.daily(now)
            announcer.daily(now + timedelta(hours=23))  # once a day
        said = [one for one in log if one["event"] == "expiry.announced" and one["what"] == what]
        assert len(said) == int(due)
        assert all(one["advice"] and not one["over"] for one in said)
        page = list(lines(parts, now))
        assert f'tieline_expiry_announced{{what="{what}"}} {int(due)}' in page
        stamp = f"{ending.ends.timestamp():.15g}"
        assert f'tieline_expiry_timestamp_seconds{{what="{what}"}} {stamp}' in page
    after = NodeStatus(parts).at(ending.ends).warnings
    # A signing key that was replaced has done its work at its end.
    assert any(one.startswith(f"{what} ended ") for one in after) == (what != "the signing key")


def test_the_part_of_the_agency_is_signed_anew_once_its_end_is_announced(parts: Parts) -> None:
    ends = _named(parts)["this agency's part of the directory"].ends
    own = OwnStatements(parts.home.path, parts.config.agency, parts.directory)
    assert own.change(lambda stated: stated, ends - ANNOUNCED_AHEAD - SECOND) is None
    signed = own.change(lambda stated: stated, ends - ANNOUNCED_AHEAD)
    assert signed is not None
    assert read_role(signed.metadata).signed.expires > ends + timedelta(days=3_000)
    # Once is enough: what is signed waits to be handed in.
    assert own.change(lambda stated: stated, ends) == signed
