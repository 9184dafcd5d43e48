"""An operator on the healthy side takes a quarantined peer back, or may not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tieline.v1 import delivery_pb2
from tieline_client.errors import NotFound, WrongState
from tieline_server.domain.standing import Trouble
from tieline_server.services.accepting import QUIET, accept
from tieline_server.services.standing import Standings

from tests.services.bench import ES, PT, Bench, Running, records


@pytest.fixture
def pair(bench: Bench) -> Bench:
    assert bench[PT] and bench[ES]
    return bench


@pytest.fixture
def twin(pair: Bench, tmp_path: Path) -> Iterator[Running]:
    """A copy of PT's home that runs beside it; both have spoken, and ES has PT in quarantine."""
    image = pair.image(PT)
    pair[PT].contacts.contact(ES)
    elsewhere = tmp_path / "twin"
    elsewhere.mkdir()
    copy = Running(replace(pair, folder=elsewhere), PT, image)
    _say_twice(pair, copy)
    _say_twice(pair, pair[PT])
    assert _trouble(pair) is Trouble.FORK
    yield copy
    copy.close()


def _say(pair: Bench, node: Running, answer: str = "") -> delivery_pb2.Standing:
    mine = node.store.read(lambda tx: Standings(node.node).mine(tx, ES, answer=answer)).standing
    return pair[ES].standing.contact(PT, delivery_pb2.ContactRequest(standing=mine)).standing


def _say_twice(pair: Bench, node: Running) -> None:
    again = _say(pair, node).again
    if again:
        _say(pair, node, again)


def _trouble(pair: Bench) -> Trouble:
    return pair[ES].store.read(lambda tx: tx.standings.known(PT)).trouble


def _accept(pair: Bench) -> str:
    return accept(pair[ES].store, ES, PT, "ana", "the copy is off", pair.now)


def test_while_two_speak_neither_is_taken_back(pair: Bench, twin: Running) -> None:
    _say(pair, pair[PT])
    _say(pair, twin)
    with pytest.raises(WrongState, match="2 copies of pt-pj spoke within 65 minutes"):
        _accept(pair)
    assert _trouble(pair) is not Trouble.NONE
    assert not pair[ES].audit("standing.accepted")


def test_once_one_alone_speaks_it_is_taken_back_and_messages_go(pair: Bench, twin: Running) -> None:
    es, pt = pair[ES], pair[PT]
    _say(pair, pt)
    _say(pair, twin)
    pt.refer(pt.series(records([1])), country="ES")
    pair.now += QUIET + timedelta(minutes=1)
    _say(pair, pt)  # the hourly contact of the one that is left
    assert _accept(pair) in ("SET_BACK", "FORK")
    (logged,) = es.audit("standing.accepted")
    assert (logged["person"], logged["peer"]) == ("ana", PT)
    assert logged["detail"]["reason"] == "the copy is off"  # type: ignore[index]
    pt.contacts.contact(ES)
    pt.engine.heard_from(ES)
    pair.flow()
    assert len(es.inbox()) == 1
    assert _trouble(pair) is Trouble.NONE


def test_two_that_speak_again_are_found_again_at_once(pair: Bench, twin: Running) -> None:
    pair.now += QUIET + timedelta(minutes=1)
    _say(pair, pair[PT])
    _accept(pair)
    _say(pair, pair[PT])
    assert _trouble(pair) is Trouble.NONE
    _say_twice(pair, twin)  # by itself it may be a restart
    _say_twice(pair, pair[PT])
    assert _trouble(pair) is Trouble.FORK


def test_one_that_lacks_what_came_is_not_let_in_by_a_mistake(pair: Bench) -> None:
    """Taken back although its home was rolled back: its word shows it, and nothing is reused."""
    es, pt = pair[ES], pair[PT]
    image = pair.image(PT)
    pt.refer(pt.series(records([1])), country="ES")
    pair.flow()
    pt = pair.set_back(PT, image)
    _say_twice(pair, pt)
    assert _trouble(pair) is Trouble.SET_BACK
    pair.now += QUIET + timedelta(minutes=1)
    _accept(pair)
    _say_twice(pair, pt)
    assert _trouble(pair) is Trouble.SET_BACK
    assert len(es.inbox()) == 1


def test_who_is_not_quarantined_is_not_taken_back(pair: Bench) -> None:
    with pytest.raises(NotFound, match="pt-pj is not quarantined"):
        _accept(pair)
