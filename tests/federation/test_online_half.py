"""The hub's half: signed anew each day, what the holders signed and what agencies state brought
together, and what is refused."""

from __future__ import annotations

import errno
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tieline_client import keys, limits
from tieline_client.certificates import Kind
from tieline_client.errors import DirectoryError, LimitExceeded, TielineError, WrongState
from tieline_server.trust import bundle, tuf_folder
from tieline_server.trust.directory_store import DirectoryStore
from tieline_server.trust.federation_edits import revoke_agency
from tieline_server.trust.online_half import OnlineHalf
from tieline_server.trust.request import Request

from tests.federation.building import NOW, Agency, trial
from tests.federation.hostile_repository import ICE, PJ, Scene


class Hub:
    """A hub's home beside a scene's authority, and a member that asks it."""

    def __init__(self, root: Path) -> None:
        self.scene = Scene(root)
        self.home = root / "hub"
        self.store = DirectoryStore(self.home)
        self.store.trust(self.scene.federation.folder)
        self.monotonic = 0.0
        self.online = OnlineHalf(self.home, self.store, lambda: self.monotonic)

    def publish(self) -> None:
        self.scene.federation.publish(NOW, self.home)

    def hand_in(self, request: Request) -> int:
        """Hand in as the agency, some time after the last."""
        self.monotonic += 60
        return self.online.accept(request.claims.agency, request.role, request.own, NOW)


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    made = Hub(tmp_path)
    made.publish()
    assert made.online.tend(NOW)
    return made


def _later(seconds: int, agency: Agency = PJ, **changes: object) -> Request:
    return agency.request(NOW + timedelta(seconds=seconds), **changes)


def test_it_is_signed_again_each_day_and_never_expires_while_it_runs(hub: Hub) -> None:
    now, version = NOW, hub.store.current().version
    for day in (1, 2, 16, 17, 40):
        now = NOW + timedelta(days=day, minutes=1)
        assert hub.online.tend(now)
        assert not hub.online.tend(now + timedelta(hours=1))
        hub.store.current().check_fresh(now)
    assert hub.store.current().version == version + 5
    confirmed = hub.store.confirmed
    assert confirmed is not None and confirmed.source == "own keys"


def test_without_the_keys_nothing_is_signed_or_taken(hub: Hub) -> None:
    shutil.rmtree(hub.home / "directory" / "online")
    assert not hub.online.tend(NOW + timedelta(days=3))
    with pytest.raises(WrongState, match="online keys"):
        hub.hand_in(_later(5))


def test_what_an_agency_states_counts_at_once_and_survives_the_next_publication(hub: Hub) -> None:
    made = _later(5, endpoints=("10.1.1.1:7443",), revoked_serials=frozenset({7}))
    version = hub.hand_in(made)
    assert version == hub.store.current().version
    # The holders sign something meanwhile, in a folder that knows nothing of it.
    hub.scene.change("meanwhile")
    hub.publish()
    assert hub.online.tend(NOW)
    directory = hub.store.current()
    assert directory.member("pt-pj").endpoints == ("10.1.1.1:7443",)
    assert directory.is_revoked("pt-pj", 7)
    directory.purpose("meanwhile")
    assert directory.version > version
    # The authority's folder learnt it too.
    assert hub.scene.federation.directory(NOW).member("pt-pj").endpoints == ("10.1.1.1:7443",)
    # The same once more changes nothing.
    assert hub.hand_in(made) == directory.version


def test_a_proposal_made_before_does_not_take_a_statement_back(hub: Hub) -> None:
    federation = hub.scene.federation
    federation.propose(lambda stated: stated, NOW, renew=True)
    made = _later(5, endpoints=("10.1.1.1:7443",))
    federation.accept("pt-pj", made.role, made.own, NOW)
    hub.scene.sign()
    assert federation.directory(NOW).member("pt-pj").endpoints == ("10.1.1.1:7443",)


def test_one_agency_does_not_churn_the_directory(hub: Hub) -> None:
    hub.hand_in(_later(5, endpoints=("10.1.1.1:7443",)))
    request = _later(6, endpoints=("10.1.1.2:7443",))
    with pytest.raises(LimitExceeded, match="come again"):
        hub.online.accept("pt-pj", request.role, request.own, NOW)
    other = _later(6, ICE, endpoints=("10.1.1.3:7443",))
    hub.online.accept("us-ice", other.role, other.own, NOW)


def _stolen(agency: Agency, **changes: object) -> Request:
    """What somebody with another key would state of an agency."""
    return replace(agency, directory_key=keys.generate()).request(
        NOW + timedelta(seconds=9), **changes
    )


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda: _stolen(PJ), "not signed by its directory key"),
        (lambda: _later(-5), "not newer"),
        (lambda: _later(9, node_cas=(ICE.node_ca,)), "subject|key|another"),
        (lambda: _later(9, node_cas=(PJ.operator_ca,), operator_cas=()), "CA|usage|subject|key"),
        (lambda: _later(9, ICE, signing_keys=PJ.own().signing_keys), "key of pt-pj"),
        (lambda: _later(9, endpoints=()), "no endpoint"),
        (lambda: _later(2 * 86_400 + 9), "from the future"),
    ],
)
def test_what_is_refused_changes_nothing(hub: Hub, made: object, why: str) -> None:
    before = hub.store.current()
    try:
        request = made()  # type: ignore[operator]
    except TielineError as error:  # it cannot even be asked for
        assert "endpoint" in why and "endpoint" in error.message
        return
    if why.startswith("CA|"):
        # An operator CA in the place of a node CA is a CA all the same: what counts is whose.
        hub.hand_in(request)
        return
    with pytest.raises(TielineError, match=why):
        hub.hand_in(request)
    assert hub.store.current() == before


def test_another_agency_cannot_speak_for_one(hub: Hub) -> None:
    request = _later(9, endpoints=("10.6.6.6:7443",))
    with pytest.raises(TielineError, match=r"us-ice"):
        hub.online.accept("us-ice", request.role, request.own, NOW)


def test_a_revoked_agency_states_nothing_any_more(hub: Hub) -> None:
    hub.scene.put(lambda stated: revoke_agency(stated, "pt-pj"))
    hub.publish()
    hub.online.tend(NOW)
    with pytest.raises(TielineError, match="revoked"):
        hub.hand_in(_later(9, node_cas=(PJ.new_ca(Kind.NODE),)))


def test_a_stranger_in_the_published_folder_is_refused(hub: Hub, tmp_path: Path) -> None:
    before = hub.store.current()
    published = hub.home / "directory" / "published"
    shutil.rmtree(published)
    shutil.copytree(trial(tmp_path / "stranger", PJ).public, published)
    with pytest.raises(DirectoryError, match="different roots"):
        hub.online.tend(NOW)
    assert hub.store.current() == before
    later = NOW + timedelta(days=20)  # it lies there for weeks
    with pytest.raises(DirectoryError, match="different roots"):
        hub.online.tend(later)
    hub.store.current().check_fresh(later)


def test_what_could_not_be_bound_for_want_of_space_is_taken_in_later(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.scene.change("meanwhile")
    hub.publish()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tuf_folder, "write", full)
        with pytest.raises((OSError, TielineError)):
            hub.online.tend(NOW)
    assert hub.online.tend(NOW + timedelta(hours=1))
    hub.store.current().purpose("meanwhile")
    assert not hub.online.tend(NOW + timedelta(hours=2))


def test_online_keys_that_the_root_no_longer_names(hub: Hub) -> None:
    hub.scene.federation.propose_root(NOW, online=True)
    rotated = hub.scene.sign()
    assert hub.store.current().version
    with pytest.raises(DirectoryError, match="no longer the federation's"):
        hub.online.take(rotated, NOW)
    hub.publish()
    assert hub.online.tend(NOW)
    assert max(hub.store.copy().roots) == 2


def test_a_hub_that_burnt_down(hub: Hub, tmp_path: Path) -> None:
    hub.hand_in(_later(5, endpoints=("10.1.1.1:7443",)))
    hub.online.tend(NOW + timedelta(days=2))
    member = DirectoryStore(tmp_path / "member")
    member.trust(hub.scene.federation.folder)
    member.take(hub.store.copy().files.get, "hub", NOW)
    version = member.current().version
    held = tmp_path / "held.json"
    bundle.write(held, member.copy())
    shutil.rmtree(hub.home)
    federation = hub.scene.federation
    copy = federation.publish(NOW, after=bundle.read(held, federation.published()))
    assert copy.parsed_snapshot.version > version
    directory = member.take(copy.files.get, "import", NOW)
    assert directory.member("pt-pj").endpoints == ("10.1.1.1:7443",)


def test_a_life_of_fourteen_days_is_renewed_with_thirteen_left() -> None:
    assert timedelta(days=1) == limits.DIRECTORY_RENEW_AFTER
    assert limits.DIRECTORY_RENEW_AFTER < limits.DIRECTORY_ONLINE_LIFE


def test_two_hubs_that_hold_the_keys_come_to_rest(hub: Hub, tmp_path: Path) -> None:
    """Each version of the one made the other sign a higher one, without end."""
    home, now = tmp_path / "second", NOW
    store = DirectoryStore(home)
    store.trust(hub.scene.federation.folder)
    hub.scene.federation.publish(NOW, home)
    second = OnlineHalf(home, store)

    def meet() -> int:
        """They ask one another, as in each round; return what both have."""
        for _ in range(2):
            hub.online.take(store.copy(), now)
            second.take(hub.store.copy(), now)
        assert store.current().version == hub.store.current().version
        return store.current().version

    hub.online.tend(now)
    second.tend(now)
    assert meet() == meet()
    made = _later(6, ICE, endpoints=("10.1.1.3:7443",))
    hub.hand_in(_later(5, endpoints=("10.1.1.1:7443",)))
    second.accept("us-ice", made.role, made.own, now)
    assert meet() == meet()
    for directory in (hub.store.current(), store.current()):
        assert directory.member("pt-pj").endpoints == ("10.1.1.1:7443",)
        assert directory.member("us-ice").endpoints == ("10.1.1.3:7443",)
    now = NOW + timedelta(days=1, minutes=1)
    version = meet()
    assert hub.online.tend(now)
    assert meet() == version + 1
    assert not second.tend(now)
