"""Permissions for restricted data: asked, answered, proven on every forward, nothing besides."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tieline.v1 import envelope_pb2, operator_pb2, payload_pb2, requests_pb2
from tieline.v1 import operator_requests_pb2 as pb
from tieline_client.errors import InvalidInput, PolicyRefused, WrongState
from tieline_server.services.broadcasting import Broadcasting
from tieline_server.services.deciding import Requests
from tieline_server.services.referring import Referring
from tieline_server.services.uploading import Uploading

from tests.services.bench import (
    ANA,
    CASE,
    ES,
    FBI,
    FR,
    HUB,
    INTERPOL,
    PT,
    PURPOSE,
    Bench,
    Running,
    records,
)
from tests.services.test_release_service import decide, sent, show, waiting, withdraw
from tests.services.test_standing_service import contact

H2: dict[str, Any] = {"handling": {"code": 2, "tlp": 3, "retain_until": "2028-01-01"}}
RED: dict[str, Any] = {"handling": {"code": 0, "tlp": 5, "retain_until": "2028-01-01"}}
H1: dict[str, Any] = {"handling": {"code": 1, "tlp": 3, "retain_until": "2028-01-01"}}


def held_series(node: Running, name: str = "Azul", **handling: Any) -> str:
    terms = handling or H2
    (series,) = node.load(records(range(5)), series=name, **terms).series
    return series


def told(bench: Bench, to: str = ES, **handling: Any) -> tuple[str, str]:
    """PT refers a restricted series to an agency; return the series and the referral."""
    series = held_series(bench[PT], **handling)
    for agency in (to, FR, HUB, INTERPOL):
        assert bench[agency]
    bench[PT].refer(series, agency=to)
    bench.flow()
    (entry,) = bench[to].inbox()
    return series, entry.id


def ask(node: Running, series: str, action: str, *agencies: str, **more: str) -> str:
    fields = {"purpose": PURPOSE, "case_ref": CASE} | more
    wanted = pb.AskPermissionRequest(series=series, action=action, agencies=agencies, **fields)
    return Requests(node.node).ask_permission(ANA, wanted).id


def pass_on(node: Running, referral: str, to: str) -> None:
    step = operator_pb2.StepReferralRequest(id=referral, state="passed_on", passed_to=to)
    Referring(node.node).step(ANA, step)


def test_h2_is_passed_on_once_its_provider_permits_it(bench: Bench) -> None:
    series, referral = told(bench)
    with pytest.raises(PolicyRefused) as refused:
        pass_on(bench[ES], referral, FR)
    assert refused.value.message.endswith(
        f"ask: tieline requests ask {series} --permission pass-on --to {FR}"
        f" --purpose {PURPOSE} --case {CASE}"
    )
    request = ask(bench[ES], series, "pass-on", FR, note="he was seen there")
    bench.flow()
    (here,) = waiting(bench[PT])
    assert (here.id, here.kind, here.action) == (request, "permission", "pass-on")
    assert (here.peer, list(here.agencies), here.text) == (ES, [FR], "he was seen there")
    assert [(one.id, one.name) for one in here.series] == [(series, "")]
    decide(bench[PT], request)
    bench.flow()
    assert show(bench[ES], request).state == "approved"
    pass_on(bench[ES], referral, FR)
    bench.flow()
    (came,) = bench[FR].inbox()
    assert came.referral.sender == ES
    (entry,) = bench[ES].audit("referral.sent")
    assert entry["detail"]["permission"] == request  # type: ignore[index]
    assert bench[PT].audit("permission.approved")[0]["person"] == "rui"


@pytest.mark.parametrize("handling", [H2, RED])
def test_a_permission_opens_nothing_but_what_it_names(bench: Bench, handling: Any) -> None:
    series, referral = told(bench, **handling)
    request = ask(bench[ES], series, "pass-on", FR)
    bench.flow()
    decide(bench[PT], request)
    bench.flow()
    with pytest.raises(PolicyRefused):  # another agency
        pass_on(bench[ES], referral, HUB)
    with pytest.raises(PolicyRefused):  # another use
        upload(bench[ES], series)
    with pytest.raises(PolicyRefused):  # another purpose
        bench[ES].refer(series, agency=FR, purpose="deconfliction")


def upload(node: Running, series: str) -> None:
    wanted = operator_pb2.UploadSeriesRequest(
        series=[series], repository=INTERPOL, purpose=PURPOSE, case_ref=CASE
    )
    Uploading(node.node).upload(ANA, wanted)


def test_a_permission_ends_with_its_date(bench: Bench) -> None:
    series, referral = told(bench)
    request = ask(bench[ES], series, "pass-on", FR)
    bench.flow()
    decide(bench[PT], request, until=f"{bench.now + timedelta(days=1):%Y-%m-%d}")
    bench.flow()
    bench.now += timedelta(days=2)
    assert show(bench[ES], request).state == "expired"
    with pytest.raises(PolicyRefused):
        pass_on(bench[ES], referral, FR)


def test_a_refused_permission_says_why(bench: Bench) -> None:
    series, referral = told(bench)
    request = ask(bench[ES], series, "pass-on", FR)
    bench.flow()
    decide(bench[PT], request, approve=False, reason="a witness is at risk")
    bench.flow()
    got = show(bench[ES], request)
    assert (got.state, got.reason) == ("refused", "a witness is at risk")
    with pytest.raises(PolicyRefused):
        pass_on(bench[ES], referral, FR)


def test_a_withdrawn_series_ends_permissions_given_and_asked(bench: Bench) -> None:
    series, _ = told(bench)
    given, asked = ask(bench[ES], series, "pass-on", FR), ask(bench[ES], series, "upload", INTERPOL)
    bench.flow()
    decide(bench[PT], given)
    bench.flow()
    withdraw(bench[PT], series)
    bench.flow()
    assert show(bench[PT], given).state == show(bench[PT], asked).state == "ended"
    assert show(bench[ES], given).state == "ended"
    for agency in (PT, ES):
        logged = [one["subjects"][0] for one in bench[agency].audit("permission.ended")]  # type: ignore[index]
        assert given in logged, "whose grant it was, and who held it"
    with pytest.raises(WrongState):
        decide(bench[PT], asked)


@pytest.mark.parametrize("approve", [True, False])
@pytest.mark.parametrize("asked_before", [True, False])
def test_a_provider_that_was_restored_has_decided_what_it_decided(
    bench: Bench, asked_before: bool, approve: bool
) -> None:
    series, _ = told(bench)
    backup = bench.image(PT)
    request = ask(bench[ES], series, "pass-on", FR)
    bench.flow()
    backup = bench.image(PT) if asked_before else backup
    decide(bench[PT], request, approve=approve, reason="" if approve else "a witness is at risk")
    bench.flow()
    kept = show(bench[PT], request)
    bench.set_back(PT, backup)
    pt = bench.resync(PT)
    contact(pt, ES)
    contact(bench[ES], PT)
    bench.flow()
    assert waiting(pt) == [], "nobody decides it again"
    again = show(pt, request)
    assert (again.state, again.decided_by, again.reason, again.expire_time) == (
        *(kept.state, kept.decided_by, kept.reason),
        kept.expire_time,
    )


def test_what_no_permission_opens_is_not_even_asked(bench: Bench) -> None:
    series, _ = told(bench)
    with pytest.raises(PolicyRefused, match="even permitted"):
        ask(bench[ES], series, "pass-on", INTERPOL)  # a repository is no addressee
    with pytest.raises(PolicyRefused, match="even permitted"):
        ask(bench[ES], series, "pass-on", FBI)  # outside the union, no agreement
    assert sent(bench[ES]) == []


@pytest.mark.parametrize(
    ("action", "agencies", "message"),
    [
        ("copy", (FR,), "none of pass-on"),
        ("pass-on", (), "for whom"),
        ("use", (FR,), "one's own"),
        ("pass-on", ("no such",), "agency id"),
    ],
)
def test_bad_requests_are_refused(
    bench: Bench, action: str, agencies: tuple[str, ...], message: str
) -> None:
    series, _ = told(bench)
    with pytest.raises(InvalidInput, match=message):
        ask(bench[ES], series, action, *agencies)
    assert sent(bench[ES]) == []


def test_the_own_officer_permits_the_deposit_of_an_own_h2_series(bench: Bench) -> None:
    series = held_series(bench[PT])
    assert bench[INTERPOL]
    with pytest.raises(PolicyRefused, match="--permission upload"):
        upload(bench[PT], series)
    request = ask(bench[PT], series, "upload", INTERPOL)
    assert show(bench[PT], request).direction == "own"
    decide(bench[PT], request)
    upload(bench[PT], series)
    bench.flow()
    (deposit,) = Uploading(bench[INTERPOL].node).find()
    assert deposit.series == series


def test_h2_is_broadcast_with_permission_for_every_recipient(bench: Bench) -> None:
    series, _ = told(bench, HUB)
    assert bench[ES]
    wanted = operator_pb2.BroadcastSeriesRequest(
        series=[series], group="desks", purpose=PURPOSE, case_ref=CASE
    )
    with pytest.raises(PolicyRefused):
        Broadcasting(bench[HUB].node).broadcast(ANA, wanted)
    with pytest.raises(PolicyRefused, match="even permitted"):
        ask(bench[HUB], series, "broadcast", ES, FBI)
    request = ask(bench[HUB], series, "broadcast", ES)
    bench.flow()
    decide(bench[PT], request)
    bench.flow()
    Broadcasting(bench[HUB].node).broadcast(ANA, wanted)
    bench.flow()
    (came,) = bench[ES].inbox()
    assert came.broadcast.originator == PT


def test_h1_is_used_for_prosecution_once_its_provider_permits_it(bench: Bench) -> None:
    series, _ = told(bench, **H1)
    ends, found = bench[ES].ask(records(range(3)), PT, purpose="prosecution")
    assert (ends[PT].status, found) == ("answered", {})
    request = ask(bench[ES], series, "use", purpose="prosecution")
    bench.flow()
    decide(bench[PT], request)
    bench.flow()
    _, found = bench[ES].ask(records(range(3)), PT, purpose="prosecution")
    assert {one.disclosure for one in found[PT]} == {"hit"}
    assert PT not in bench[FR].ask(records(range(3)), PT, purpose="prosecution")[1]


# --- what the recipient checks -------------------------------------------------------------


def forward(bench: Bench) -> tuple[str, str, str]:
    series, referral = told(bench)
    request = ask(bench[ES], series, "pass-on", FR)
    bench.flow()
    decide(bench[PT], request)
    bench.flow()
    pass_on(bench[ES], referral, FR)
    return series, referral, request


def resealed(bench: Bench, **change: object) -> str:
    """Deliver ES's forward with another permission inside; return the reason."""
    forward(bench)
    payload = payload_pb2.Payload.FromString(bench[ES].sent(FR, "referral").payload)
    referral = payload.referral
    if change.pop("missing", False):
        referral.ClearField("permission")
    else:
        said = payload_pb2.Payload.FromString(referral.permission.payload)
        signer = str(change.pop("signer", PT))
        audience = str(change.pop("audience", ES))
        said.purpose = str(change.pop("purpose", said.purpose))
        for name, value in change.items():
            if name == "agencies":
                del said.permission.agencies[:]
                said.permission.agencies.extend(value)  # type: ignore[arg-type]
            elif name == "expire_time":
                said.permission.expire_time.FromDatetime(value)  # type: ignore[arg-type]
            else:
                setattr(said.permission, name, value)
        said.ClearField("id")
        referral.permission.CopyFrom(bench[signer].seal(said, audience))
    payload.ClearField("id")
    referral.id = referral.root  # any id will do: it is refused before it is kept
    referral.ClearField("items")
    envelope = bench[ES].seal(payload, FR)
    assert isinstance(envelope, envelope_pb2.Envelope)
    answer = bench[ES].deliver(envelope, FR)
    # the honest one may come meanwhile
    assert referral.id not in [one.referral.id for one in bench[FR].inbox()]
    return answer.reason


@pytest.mark.parametrize(
    "change",
    [
        {"missing": True},
        {"signer": ES},
        {"audience": HUB},
        {"agencies": [HUB]},
        {"action": "upload"},
        {"state": "refused"},
        {"purpose": "deconfliction"},
        {"series": "pt-pj/0198c3a1-7f00-7abc-8def-0123456789ab"},
    ],
    ids=str,
)
def test_a_forward_without_the_right_permission_is_refused(
    bench: Bench, change: dict[str, object]
) -> None:
    assert resealed(bench, **dict(change)) == "POLICY_REFUSED"


def test_a_permission_past_its_date_is_none(bench: Bench) -> None:
    past = (bench.now - timedelta(days=1)).replace(tzinfo=None)
    assert resealed(bench, expire_time=past) == "POLICY_REFUSED"


def test_a_provider_permits_only_what_was_asked(bench: Bench) -> None:
    series, _ = told(bench)
    request = ask(bench[ES], series, "pass-on", FR)
    bench.flow()
    body = requests_pb2.Permission(
        request=request, series=series, action="pass-on", agencies=[HUB], state="approved"
    )
    body.expire_time.FromDatetime((bench.now + timedelta(days=1)).replace(tzinfo=None))
    sealed = bench[PT].seal(payload_pb2.Payload(permission=body), ES)
    assert bench[PT].deliver(sealed, ES).reason == "SIGNATURE_REFUSED"
    other = bench[FR].seal(payload_pb2.Payload(permission=body), ES)
    assert bench[FR].deliver(other, ES).reason == "SIGNATURE_REFUSED"
    assert show(bench[ES], request).state == "pending"
