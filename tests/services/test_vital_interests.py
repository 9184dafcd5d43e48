"""A child in danger and no agreement: two officers of one agency, and a trace of who and why."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tieline.v1 import operator_pb2, payload_pb2
from tieline.v1 import operator_requests_pb2 as pb
from tieline_client.errors import InvalidInput, PolicyRefused, RoleRefused, WrongState
from tieline_server.domain.request import Request
from tieline_server.services.context import Person
from tieline_server.services.deciding import Requests
from tieline_server.services.telling import Telling

from tests.services.bench import ANA, CASE, ES, FBI, HUB, PT, PURPOSE, Bench, Running, records
from tests.services.test_release_service import decide, show, waiting

GROUNDS = "abuse is going on, he is there now"


def refer(node: Running, series: str, to: str = FBI, **more: object) -> list[Request]:
    fields: dict[str, object] = {
        "purpose": PURPOSE,
        "case_ref": CASE,
        "urgency": 1,
        "agency": to,
        "vital_interests": GROUNDS,
    } | more
    made = operator_pb2.ReferSeriesRequest(series=series, **fields)  # type: ignore[arg-type]
    stated: list[Request] = []
    Telling(node.node).refer(ANA, made, stated)
    return stated


def test_nothing_goes_before_a_second_officer_confirms_it(bench: Bench) -> None:
    series = bench[PT].series(records(range(5)))
    assert bench[FBI]
    with pytest.raises(PolicyRefused, match="no agreement"):
        bench[PT].refer(series, agency=FBI)
    (request,) = refer(bench[PT], series)
    assert bench[PT].queued(FBI) == []
    with pytest.raises(RoleRefused, match="second officer"):
        Requests(bench[PT].node).decide(ANA, pb.DecideRequestRequest(id=request.id, approve=True))
    assert bench[PT].queued(FBI) == []
    decided = decide(bench[PT], request.id)
    assert (decided.state, decided.person, decided.decided_by) == ("approved", "ana", "rui")
    bench.flow()
    (came,) = bench[FBI].inbox()
    assert (came.referral.sender, came.series.notice.items) == (PT, 5)
    (entry,) = bench[PT].audit("referral.sent")
    basis = f"2016/680 Art. 38(1)(a), vital interests: {GROUNDS}"
    assert entry["detail"]["legal_basis"] == {FBI: basis}  # type: ignore[index]
    assert entry["detail"]["officers"] == ["ana", "rui"]  # type: ignore[index]
    assert [bench[PT].audit(f"vital-interests.{word}") != [] for word in ("stated", "confirmed")]
    with pytest.raises(WrongState, match="approved already"):
        decide(bench[PT], request.id)


def test_it_is_stated_once_and_holds_for_a_day(bench: Bench) -> None:
    series = bench[PT].series(records(range(5)))
    (request,), (again,) = refer(bench[PT], series), refer(bench[PT], series)
    assert request.id == again.id
    bench.now += timedelta(days=1)
    with pytest.raises(WrongState, match="expired"):
        decide(bench[PT], request.id)
    assert bench[PT].queued(FBI) == []


def test_the_second_officer_may_refuse(bench: Bench) -> None:
    series = bench[PT].series(records(range(5)))
    (request,) = refer(bench[PT], series)
    decide(bench[PT], request.id, approve=False, reason="he left the country")
    assert bench[PT].queued(FBI) == []
    assert bench[PT].audit("vital-interests.refused")


def test_for_another_purpose_there_is_no_exception(bench: Bench) -> None:
    series = bench[PT].series(records(range(5)))
    with pytest.raises(PolicyRefused):
        refer(bench[PT], series, purpose="deconfliction")
    assert waiting(bench[PT]) == []


def test_a_restricted_series_of_somebody_else_stays(bench: Bench) -> None:
    """The exception stands in for the agreement, not for the provider."""
    terms = {"handling": {"code": 2, "tlp": 3, "retain_until": "2028-01-01"}}
    (series,) = bench[PT].load(records(range(5)), series="Azul", **terms).series
    assert bench[ES]
    bench[PT].refer(series, agency=ES)
    bench.flow()
    with pytest.raises(PolicyRefused):
        refer(bench[ES], series)


def test_the_provider_is_told_without_delay(bench: Bench) -> None:
    series = bench[PT].series(records(range(5)))
    assert bench[ES] and bench[FBI]
    bench[PT].refer(series, agency=ES)
    bench.flow()
    (request,) = refer(bench[ES], series)
    decide(bench[ES], request.id)
    bench.flow()
    (notice,) = waiting(bench[PT])
    assert (notice.kind, notice.peer, list(notice.agencies)) == ("notice", ES, [FBI])
    assert (notice.text, notice.person, notice.decided_by) == (GROUNDS, "rui", "rui")
    assert [one.id for one in notice.series] == [series]
    assert bench[PT].audit("transfer_notice.received")
    assert len(bench[FBI].inbox()) == 1
    with pytest.raises(WrongState):
        decide(bench[PT], notice.id)


@pytest.mark.parametrize(
    "change",
    [{"second_officer": "ana"}, {"second_officer": ""}, {"grounds": " "}, {"officer": ""}],
    ids=str,
)
def test_the_recipient_wants_two_officers_and_grounds(bench: Bench, change: dict[str, str]) -> None:
    series = bench[PT].series(records(range(5)))
    assert bench[FBI]
    (request,) = refer(bench[PT], series)
    decide(bench[PT], request.id)
    payload = payload_pb2.Payload.FromString(bench[PT].sent(FBI, "referral").payload)
    for name, value in change.items():
        setattr(payload.referral.vital_interests, name, value)
    payload.ClearField("id")
    payload.referral.ClearField("items")
    answer = bench[PT].deliver(bench[PT].seal(payload, FBI), FBI)
    assert answer.reason == "POLICY_REFUSED"
    payload.referral.ClearField("vital_interests")
    payload.ClearField("id")
    assert bench[PT].deliver(bench[PT].seal(payload, FBI), FBI).reason == "POLICY_REFUSED"
    assert bench[FBI].inbox() == []


# --- questions -----------------------------------------------------------------------------


def state(node: Running, agency: str, **more: str) -> pb.RequestView:
    fields = {"purpose": PURPOSE, "case_ref": CASE, "grounds": GROUNDS} | more
    wanted = pb.StateVitalInterestsRequest(agency=agency, **fields)
    return Requests(node.node).state_vital_interests(ANA, wanted)


def test_a_question_goes_once_two_officers_say_so_and_for_that_case_alone(bench: Bench) -> None:
    bench[FBI].series(records(range(5)))
    ends, _ = bench[PT].ask(records(range(3)), FBI)
    assert ends[FBI].status == "refused"
    request = state(bench[PT], FBI).id
    assert bench[PT].ask(records(range(3)), FBI)[0][FBI].status == "refused"
    decide(bench[PT], request)
    ends, found = bench[PT].ask(records(range(3)), FBI)
    assert (ends[FBI].status, found[FBI][0].disclosure) == ("answered", "hit")
    entry = bench[PT].audit("query.asked")[-1]
    assert entry["detail"]["vital_interests"][FBI]["officers"] == ["ana", "rui"]  # type: ignore[index]
    assert bench[PT].ask(records([1]), FBI, case_ref="other")[0][FBI].status == "refused"
    bench.now += timedelta(days=1)
    assert bench[PT].ask(records([1]), FBI)[0][FBI].status == "refused"


def test_an_answer_out_of_the_union_needs_two_officers_there(bench: Bench) -> None:
    bench[PT].series(records(range(5)))
    decide(bench[FBI], state(bench[FBI], PT).id)
    ends, found = bench[FBI].ask(records(range(3)), PT)
    assert (ends[PT].status, found) == ("answered", {})  # asked, and nothing learnt
    decide(bench[PT], state(bench[PT], FBI).id)
    _, found = bench[FBI].ask(records(range(3)), PT)
    assert found[PT][0].disclosure == "hit"
    entry = bench[PT].audit("query.answered")[-1]
    assert entry["detail"]["officers"] == ["ana", "rui"]  # type: ignore[index]


def test_where_none_is_needed_or_none_helps_none_is_stated(bench: Bench) -> None:
    with pytest.raises(InvalidInput, match="just ask"):
        state(bench[PT], ES)
    with pytest.raises(InvalidInput, match="in words"):
        state(bench[PT], FBI, grounds="  ")
    with pytest.raises(PolicyRefused):
        state(bench[PT], FBI, purpose="deconfliction")
    assert waiting(bench[PT]) == []


def test_two_persons_with_one_name_are_one(bench: Bench) -> None:
    request = state(bench[PT], FBI).id
    again = Person("ana", frozenset({"officer", "admin"}))
    with pytest.raises(RoleRefused):
        Requests(bench[PT].node).decide(again, pb.DecideRequestRequest(id=request, approve=True))
    assert show(bench[PT], request).state == "pending"
    assert bench[HUB]
