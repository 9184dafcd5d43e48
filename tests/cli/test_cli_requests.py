"""`tieline requests`: what goes out, and what is shown of what comes back."""

from __future__ import annotations

import pytest
from grpc import StatusCode
from tieline.v1 import exchange_pb2, series_pb2
from tieline.v1 import operator_pb2 as op
from tieline.v1 import operator_requests_pb2 as pb
from tieline_client.identifiers import new_id

from tests.cli.node_double import Refusal, Run, Served
from tests.cli.test_cli_work import HOSTILE, NOON, WHY, stamp

SERIES = "pt-pj/0198c3a1-7f00-7abc-8def-0123456789ab"
FIELDS = {
    *("id", "kind", "direction", "peer", "state", "person", "purpose", "case", "level", "items"),
    *("action", "agencies", "text", "series", "decided_by", "reason"),
    *("created", "decided", "expires"),
}


def a_request(**values: object) -> pb.RequestView:
    stated: dict[str, object] = {
        "id": new_id(),
        "kind": "release",
        "direction": "in",
        "peer": "es-gc",
        "state": "pending",
        "person": HOSTILE,
        "purpose": "victim-identification",
        "case_ref": "2026-118",
        "level": "reference",
        "items": 12,
        "series": [
            pb.RequestedSeries(
                id=SERIES,
                name="Casa",
                items=12,
                state="released",
                entry=exchange_pb2.SeriesEntry(
                    id=SERIES,
                    status="new",
                    handling=series_pb2.Handling(code=2, tlp=4, source="B", information=1),
                ),
            )
        ],
        "create_time": stamp(NOON),
        "expire_time": stamp(NOON),
    }
    return pb.RequestView(**stated | values)  # type: ignore[arg-type]


def test_the_list_is_one_document_and_inert(served: Served, run: Run) -> None:
    served.node.answers["ListRequests"] = pb.ListRequestsResponse(requests=[a_request()])
    result = run("requests", "list", "--sent", "--all", "--json")
    (one,) = result.document["requests"]
    assert set(one) == FIELDS
    assert (one["level"], one["items"], one["decided"]) == ("reference", 12, None)
    (series,) = one["series"]
    assert series["released"]["handling"]["source"] == "B"
    sent = served.node.only("ListRequests")
    assert (sent.sent, sent.all) == (True, True)
    shown = run("requests")
    assert "reference of 12 items" in shown.out
    assert "\x1b" not in shown.out and "\u202e" not in shown.out


def test_what_an_officer_decides_goes_out(served: Served, run: Run) -> None:
    decided = a_request(state="approved")
    served.node.answers["DecideRequest"] = pb.DecideRequestResponse(request=decided)
    series = ("--series", SERIES, "--series", "Casa")
    result = run(
        *("requests", "approve", decided.id, "--level", "count", "--until", "2030-12-31"), *series
    )
    assert (result.code, "H2 TLP:AMBER+STRICT B1" in result.out) == (0, True)
    run("requests", "refuse", decided.id, "--reason", "no", "--json")
    approved, refused = served.node.requests["DecideRequest"]
    assert (approved.approve, approved.level, approved.until) == (True, "count", "2030-12-31")
    assert list(approved.series) == [SERIES, "Casa"]
    assert (refused.approve, refused.reason) == (False, "no")


def test_what_is_asked_goes_out(served: Served, run: Run) -> None:
    served.node.answers["AskPermission"] = pb.AskPermissionResponse(request=a_request())
    run("requests", "ask", SERIES, "--permission", "pass-on", "--to", "fr-of", *WHY)
    asked = served.node.only("AskPermission")
    assert (asked.action, list(asked.agencies), asked.case_ref) == ("pass-on", ["fr-of"], WHY[3])
    served.node.answers["StateVitalInterests"] = pb.StateVitalInterestsResponse(request=a_request())
    run("requests", "vital-interests", "gb-nca", "--grounds", "he is there now", *WHY)
    stated = served.node.only("StateVitalInterests")
    assert (stated.agency, stated.grounds) == ("gb-nca", "he is there now")


def test_a_statement_that_waits_is_said_with_what_to_do(served: Served, run: Run) -> None:
    waiting = a_request(kind="vital-interests", peer="gb-nca")
    served.node.answers["ReferSeries"] = op.ReferSeriesResponse(requests=[waiting])
    words = ("series", "refer", SERIES, "--agency", "gb-nca", "--vital-interests", "danger", *WHY)
    assert f"tieline requests approve {waiting.id}" in run(*words).out
    assert run(*words, "--json").document["requests"] == [waiting.id]


@pytest.mark.parametrize(
    "words",
    [
        ("show", "not-an-id"),
        ("approve", new_id(), "--until", "soon"),
        ("approve", new_id(), "--level", "everything"),
        ("refuse", new_id(), "--reason", "  "),
        ("refuse", new_id()),
        ("ask", SERIES, "--permission", "pass-on", *WHY),
        ("ask", SERIES, "--permission", "use", "--to", "fr-of", *WHY),
        ("ask", SERIES, "--permission", "copy", "--to", "fr-of", *WHY),
        ("ask", SERIES, "--permission", "pass-on", "--to", "fr-of"),
        ("vital-interests", "gb-nca", "--grounds", " ", *WHY),
    ],
)
def test_wrong_usage_reaches_no_node(served: Served, run: Run, words: tuple[str, ...]) -> None:
    result = run("requests", *words)
    assert result.code == 2
    assert not served.node.requests


def test_a_refusal_is_exit_code_3(served: Served, run: Run) -> None:
    served.node.answers["DecideRequest"] = Refusal(
        StatusCode.PERMISSION_DENIED, "POLICY_REFUSED", "not released"
    )
    assert run("requests", "approve", new_id()).code == 3


def test_an_empty_list_says_where_the_other_one_is(served: Served, run: Run) -> None:
    served.node.answers["ListRequests"] = pb.ListRequestsResponse()
    shown = run("requests", "list")
    assert "nothing waits" in shown.out
    assert "requests list --sent" in shown.err
    assert run("requests", "list", "--sent").err == ""
