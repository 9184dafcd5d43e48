"""Series, inbox, broadcasts, uploads, clock, people: what goes out, the shape of what is shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode
from tieline.v1 import budget_pb2, operator_clock_pb2, payload_pb2, series_pb2
from tieline.v1 import operator_pb2 as pb
from tieline_client import keys
from tieline_client.cli import main
from tieline_client.identifiers import new_id, new_series_id
from tieline_client.operator_client import OperatorClient
from tieline_client.profile import Profile
from tieline_server.trust.authority import issue_operator_leaf

from tests.cli.node_double import Refusal, Run, Served

WHY = ("--purpose", "victim-identification", "--case", "2026-118")
HOSTILE = "\x1b[31m<b>x</b>\r\n[red]\u202e"
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def stamp(moment: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(moment)
    return made


def a_series(**values: Any) -> pb.SeriesView:
    notice = series_pb2.SeriesNotice(
        id=f"pt-pj/{new_id()}",
        name="Case 12",
        status="new",
        handling=series_pb2.Handling(code=2, tlp=4, source="X", information=4),
        references=[series_pb2.ExternalReference(scheme="icse", value="4711")],
        assessments=[
            series_pb2.Assessment(
                agency="pt-pj",
                person="ana.silva",
                country="PT",
                confidence=3,
                grounds=HOSTILE,
                made_time=stamp(NOON),
            )
        ],
        create_time=stamp(NOON),
        items=12,
    )
    stated: dict[str, Any] = {"notice": notice, "origin": "own", "owner": "pt-pj"}
    return pb.SeriesView(**(stated | values))


def a_referral(**values: Any) -> pb.ReferralView:
    stated: dict[str, Any] = {
        "id": new_id(),
        "series": f"pt-pj/{new_id()}",
        "direction": "out",
        "sender": "pt-pj",
        "recipient": "us-ice",
        "country": "US",
        "urgency": 2,
        "state": "delivered",
        "purpose": "victim-identification",
        "case_ref": "2026-118",
        "create_time": stamp(NOON),
        "steps": [
            pb.StepView(state="delivered", agency="us-ice", step_time=stamp(NOON)),
        ],
    }
    return pb.ReferralView(**(stated | values))


def an_entry(**values: Any) -> pb.InboxEntry:
    referral = a_referral(direction="in")
    return pb.InboxEntry(id=referral.id, kind="referral", referral=referral, **values)


def a_broadcast() -> pb.BroadcastView:
    return pb.BroadcastView(
        id=new_id(),
        series=f"pt-pj/{new_id()}",
        sender="europol-ec3",
        group="taskforce",
        question=HOSTILE,
        recipients={"us-ice": "delivered", "us-fbi": "answered"},
        answers=[
            payload_pb2.BroadcastAnswer(kind="assess", country="US", confidence=1, text=HOSTILE)
        ],
        answer_agencies=["us-fbi"],
    )


# --- series -----------------------------------------------------------------------------------


def test_series_list_and_show(run: Run, served: Served) -> None:
    served.node.answers["ListSeries"] = pb.ListSeriesResponse(series=[a_series()])
    served.node.answers["GetSeries"] = pb.GetSeriesResponse(series=a_series())
    (listed,) = run("series", "list", "--json").document["series"]
    shown = run("series", "show", "Case 12", "--json").document
    assert served.node.only("GetSeries").series == "Case 12"
    assert set(listed) == set(shown)
    assert set(shown) >= {"id", "name", "status", "references", "contact", "assessments"}
    assert shown["handling"]["code"] == "H2"
    assert shown["handling"]["tlp"] == "TLP:AMBER+STRICT"
    assert shown["references"] == ["icse:4711"]
    assert shown["created"] == "2026-01-31T12:00:00Z"
    assert (shown["victims"], shown["first_seen"], shown["contact"]) == (None, None, None)
    (judged,) = shown["assessments"]
    assert (judged["confidence"], judged["grounds"]) == ("high", HOSTILE)


def test_series_create(run: Run, served: Served) -> None:
    served.node.answers["CreateSeries"] = pb.CreateSeriesResponse(series=a_series())
    result = run(
        *("series", "create", "Case 12", "--case", "2026-118", "--reference", "icse:4711"),
        *("--reference", "siena:a:b", "--victims", "2", "--clues", "wall sockets"),
        *("--contact-name", "Duty", "--contact-phone", "+351", "--handling", "h1", "--json"),
    )
    assert result.code == 0
    request = served.node.only("CreateSeries")
    assert (request.name, request.case_ref, request.victims) == ("Case 12", "2026-118", 2)
    assert [(each.scheme, each.value) for each in request.references] == [
        ("icse", "4711"),
        ("siena", "a:b"),
    ]
    assert (request.contact.name, request.contact.phone) == ("Duty", "+351")
    assert (request.handling.code, request.clues) == (1, "wall sockets")
    run("series", "create", "Plain")
    assert not served.node.requests["CreateSeries"][1].HasField("contact")
    assert not served.node.requests["CreateSeries"][1].HasField("victims")


def test_series_assess(run: Run, served: Served) -> None:
    served.node.answers["AssessSeries"] = pb.AssessSeriesResponse(series=a_series())
    base = ("series", "assess", "Case 12", "--grounds", "sockets", "--confidence", "medium")
    assert run(*base, "--country", "pt", "--confirmed", "--json").code == 0
    request = served.node.only("AssessSeries")
    assert (request.country, request.confidence, request.confirmed) == ("PT", 2, True)
    assert run(*base, "--country", "Portugal").code == 2
    assert run(*base, "--country", "PT", "--confirmed", "--eliminate").code == 2
    assert run("series", "assess", "Case 12", "--country", "PT").code == 2


def test_series_refer(run: Run, served: Served) -> None:
    served.node.answers["ReferSeries"] = pb.ReferSeriesResponse(
        referrals=[a_referral(state="referred"), a_referral(recipient="us-fbi")]
    )
    base = ("series", "refer", "Case 12")
    result = run(*base, *WHY, "--country", "us", "--urgency", "immediate", "--json")
    assert result.code == 0
    assert [each["recipient"] for each in result.document["referrals"]] == ["us-ice", "us-fbi"]
    first = result.document["referrals"][0]
    assert set(first) >= {"id", "series", "country", "state", "urgency", "steps", "case"}
    assert (first["state"], first["urgency"]) == ("referred", "urgent")
    request = served.node.only("ReferSeries")
    assert (request.country, request.agency, request.urgency) == ("US", "", 1)
    assert (request.purpose, request.case_ref) == ("victim-identification", "2026-118")
    for wrong in (
        (),
        WHY[:2],
        (*WHY, "--country", "US", "--agency", "us-ice"),
        (*WHY, "--urgency", "tomorrow"),
        (*WHY, "--agency", "US ICE"),
    ):
        assert run(*base, *wrong).code == 2
    assert len(served.node.requests["ReferSeries"]) == 1


def test_a_budgets_answer_names_the_caps_that_stand(run: Run, served: Served) -> None:
    view = budget_pb2.BudgetView(agency="es-gc", budget=20, left=20, stated_by="admin")
    view.purposes.add(purpose="victim-identification", budget=10, spent=3)
    view.purposes.add(purpose="deconfliction", spent=1)
    served.node.answers["SetBudget"] = budget_pb2.SetBudgetResponse(budget=view)
    words = ("10", "--purpose", "victim-identification")
    told = run("budget", "set", "es-gc", *words).out.splitlines()
    assert told == [
        "es-gc may ask 20 units a day (admin); 20 left",
        "of these for victim-identification: 10 a day; 3 used today",
    ]


# --- inbox ------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("inbox",), ("inbox", "list")])
def test_the_inbox_lists(run: Run, served: Served, words: tuple[str, ...]) -> None:
    broadcast = pb.InboxEntry(id=new_id(), kind="broadcast", broadcast=a_broadcast())
    broadcast.broadcast.state = "acknowledged"
    served.node.answers["ListInbox"] = pb.ListInboxResponse(
        entries=[an_entry(series=a_series()), broadcast]
    )
    first, second = run(*words, "--json").document["entries"]
    assert (first["kind"], first["state"], first["broadcast"]) == ("referral", "delivered", None)
    assert first["series"]["name"] == "Case 12"
    assert (second["state"], second["referral"], second["series"]) == ("acknowledged", None, None)
    assert "\x1b" not in run(*words).out


@pytest.mark.parametrize(("likely", "expected"), [(("ES", "FR"), "ES FR"), ((), "no country")])
def test_the_inbox_says_which_referrals_were_corrected(
    run: Run, served: Served, likely: tuple[str, ...], expected: str
) -> None:
    entry = an_entry()
    entry.referral.corrected = True
    entry.referral.likely_countries.extend(likely)
    served.node.answers["ListInbox"] = pb.ListInboxResponse(entries=[entry, an_entry()])
    shown = run("inbox").out
    assert shown.count("corrected to") == 1
    assert f"corrected to {expected}" in shown


def _met(reference: str, series: str) -> pb.AlarmView:
    return pb.AlarmView(
        kind="deconfliction", referral=reference, series=series, sender="es-gc", recipient="pt-pj"
    )


def test_one_meeting_is_one_row_and_shown_whole_by_its_reference(run: Run, served: Served) -> None:
    one, other = new_id(), new_id()
    series = [new_series_id("pt-pj") for _ in range(3)]
    alarms = [_met(one, each) for each in series]
    served.node.answers["ListInbox"] = pb.ListInboxResponse(alarms=[*alarms, _met(other, "")])
    shown = run("inbox").out
    assert shown.count(one) == 1 and "3 series" in shown and series[0] not in shown
    assert "not told here" in shown
    assert len(run("inbox", "--json").document["alarms"]) == 4
    notice = pb.InboxEntry(id=one, kind="notice", alarms=alarms)
    served.node.answers["GetInboxEntry"] = pb.GetInboxEntryResponse(entry=notice)
    whole = run("inbox", "show", one)
    assert whole.code == 0 and all(each in whole.out for each in series)
    served.node.answers["StepReferral"] = pb.StepReferralResponse(entry=notice)
    acked = run("inbox", "ack", one, "--json").document
    assert (acked["kind"], acked["referral"], len(acked["alarms"])) == ("notice", None, 3)


@pytest.mark.parametrize(
    ("words", "state", "expected"),
    [
        (("ack", "ID"), "acknowledged", {}),
        (("accept", "ID"), "accepted", {}),
        (("decline", "ID", "--reason", "not ours"), "declined", {"text": "not ours"}),
        (("pass-on", "ID", "--to", "us-fbi"), "passed_on", {"passed_to": "us-fbi"}),
    ],
)
def test_steps_of_a_referral(
    run: Run, served: Served, words: tuple[str, ...], state: str, expected: dict[str, str]
) -> None:
    served.node.answers["StepReferral"] = pb.StepReferralResponse(entry=an_entry())
    entry = new_id()
    texts = [entry if each == "ID" else each for each in words]
    result = run("inbox", *texts, "--json")
    assert result.code == 0
    request = served.node.only("StepReferral")
    assert (request.id, request.state) == (entry, state)
    for field, value in expected.items():
        assert getattr(request, field) == value
    assert result.document["referral"]["steps"][0]["at"] == "2026-01-31T12:00:00Z"


def test_an_outcome_counts_people(run: Run, served: Served) -> None:
    served.node.answers["StepReferral"] = pb.StepReferralResponse(entry=an_entry())
    entry = new_id()
    words = ("inbox", "outcome", entry, "--identified", "2", "--safeguarded", "1", "--text", "ok")
    assert run(*words).code == 0
    request = served.node.only("StepReferral")
    assert (request.state, request.text) == ("outcome", "ok")
    assert (request.outcome.identified, request.outcome.safeguarded) == (2, 1)
    assert run("inbox", "outcome", entry, "--identified", "-1").code == 2
    assert run("inbox", "outcome", entry, "--identified", str(2**40)).code == 2


def test_answers_to_a_broadcast(run: Run, served: Served) -> None:
    entry = new_id()
    base = ("inbox", "answer", entry)
    assert run(*base, "--assess", "PT", "--assess", "es", "--confidence", "high").code == 0
    first, second = served.node.requests["AnswerBroadcast"]
    assert [(each.kind, each.country, each.confidence) for each in (first, second)] == [
        ("assess", "PT", 3),
        ("assess", "ES", 3),
    ]
    assert run(*base, "--eliminate", "PT").code == 0
    assert run(*base, "--ours", "Case 12").code == 0
    assert [each.kind for each in served.node.requests["AnswerBroadcast"][2:]] == [
        "eliminate",
        "ours",
    ]
    assert served.node.requests["AnswerBroadcast"][3].series == "Case 12"
    for wrong in ((), ("--assess", "PT", "--ours", "x"), ("--assess", "P1"), ("--assess", "PRT")):
        assert run(*base, *wrong).code == 2
    assert len(served.node.requests["AnswerBroadcast"]) == 4


@pytest.mark.parametrize(
    "words",
    [
        ("inbox", "ack", "nonsense"),
        ("inbox", "show", "../../etc/passwd"),
        ("inbox", "show"),
        ("inbox", "nonsense"),
        ("inbox", "decline", "0198c3a1-7f00-7abc-8def-0123456789ab"),
        ("inbox", "decline", "0198c3a1-7f00-7abc-8def-0123456789ab", "--reason", " "),
        ("inbox", "pass-on", "0198c3a1-7f00-7abc-8def-0123456789ab", "--to", "A B"),
        ("upload", "step", "0198c3a1-7f00-7abc-8def-0123456789ab", "--state", "lost"),
        ("upload", "step", "nonsense", "--state", "numbered"),
        ("upload", "pt-pj/x", "--to", "interpol"),
        ("upload", "pt-pj/x", *WHY),
        ("upload", "--to", "interpol", *WHY),
        ("broadcast", "pt-pj/x", "--group", "taskforce"),
        ("broadcast", "pt-pj/x", *WHY),
        ("broadcast", "pt-pj/x", "--group", "a b", *WHY),
        ("operator", "add", "ana", "--role", "king", "--out", "x.json"),
        ("operator", "add", "Ana Silva", "--role", "admin", "--out", "x.json"),
        ("operator", "add", "ana", "--out", "x.json"),
        ("operator", "revoke", "A B"),
        ("peers", "--purpose", "two words"),
        ("outbox", "--state", "lost"),
        ("series", "nonsense"),
        ("series", "status", "Case 12", "--to", "closd"),
        ("nonsense",),
        ("watch", "nonsense"),
        ("--nonsense",),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(
    run: Run, served: Served, words: tuple[str, ...]
) -> None:
    result = run(*words)
    assert result.code == 2
    assert len(result.err.strip().splitlines()) == 1
    assert "Value error" not in result.err, "a library's word"
    assert result.out == ""
    assert served.node.requests == {}


def test_a_refusal_by_the_node_is_one_line(run: Run, served: Served) -> None:
    served.node.answers["StepReferral"] = Refusal(
        StatusCode.FAILED_PRECONDITION, "WRONG_STATE", "a referral that is withdrawn \x1b[1m"
    )
    result = run("inbox", "accept", new_id(), "--json")
    assert (result.code, result.out) == (1, "")
    assert "withdrawn" in result.err
    served.node.answers["ListInbox"] = Refusal(
        StatusCode.PERMISSION_DENIED, "ROLE_REFUSED", "an auditor may not"
    )
    assert run("inbox").code == 3


# --- broadcasts, uploads ----------------------------------------------------------------------


def test_broadcasts(run: Run, served: Served) -> None:
    served.node.answers["BroadcastSeries"] = pb.BroadcastSeriesResponse(broadcasts=[a_broadcast()])
    served.node.answers["ListBroadcasts"] = pb.ListBroadcastsResponse(broadcasts=[a_broadcast()])
    made = run("broadcast", "a", "b", "--group", "taskforce", *WHY, "--json").document
    request = served.node.only("BroadcastSeries")
    assert (list(request.series), request.group) == (["a", "b"], "taskforce")
    listed = run("broadcasts", "--json").document
    assert set(made) == set(listed) == {"broadcasts"}
    (one,) = listed["broadcasts"]
    assert one["recipients"] == {"us-fbi": "answered", "us-ice": "delivered"}
    assert one["answers"][0] == {
        "agency": "us-fbi",
        "kind": "assess",
        "country": "US",
        "confidence": "low",
        "series": "",
        "text": HOSTILE,
        "at": None,
    }
    shown = run("broadcasts").out
    assert not set(shown) & {"\x1b", "\r", "\u202e"}


def test_an_upload_and_its_steps(run: Run, served: Served) -> None:
    view = pb.UploadView(
        id=new_id(), series="pt-pj/x", state="announced", repository="interpol", items=5
    )
    served.node.answers["UploadSeries"] = pb.UploadSeriesResponse(uploads=[view])
    served.node.answers["StepUpload"] = pb.StepUploadResponse(upload=view)
    served.node.answers["ListUploads"] = pb.ListUploadsResponse(uploads=[view])
    for words in (
        ("upload", "Case 12", "pt-pj/x", "--to", "interpol"),
        ("upload", "--to", "interpol", "Case 12", "pt-pj/x"),
        ("upload", "deposit", "Case 12", "pt-pj/x", "--to", "interpol"),
    ):
        result = run(*words, *WHY, "--json")
        assert result.code == 0, result.err
        request = served.node.requests["UploadSeries"][-1]
        assert (list(request.series), request.repository) == (["Case 12", "pt-pj/x"], "interpol")
    (made,) = result.document["uploads"]
    assert set(made) >= {"id", "series", "repository", "state", "reference", "items"}
    step = ("upload", "step", view.id, "--state", "numbered", "--reference", "ICSE-7")
    assert run(*step, "--json").document["id"] == view.id
    request = served.node.only("StepUpload")
    assert (request.id, request.state, request.reference) == (view.id, "numbered", "ICSE-7")
    assert run("uploads", "--json").document["uploads"][0]["state"] == "announced"
    assert "announced" in run("uploads").out


# --- clock, outbox, peers ---------------------------------------------------------------------


def test_the_clock_says_what_is_overdue(run: Run, served: Served) -> None:
    late_by = {"next_step": "acknowledged", "since_time": stamp(NOON)}
    soon_by = {"next_step": "delivered", "due_time": stamp(datetime.now(UTC) + timedelta(hours=1))}
    served.node.answers["ListClock"] = pb.ListClockResponse(
        referrals=[
            a_referral(due_time=stamp(NOON + timedelta(days=1)), **late_by),
            a_referral(state="referred", steps=[], **soon_by),
            a_referral(state="outcome"),
        ],
        untold=[
            operator_clock_pb2.UntoldView(
                series=f"pt-pj/{new_id()}", country="FR", due_time=stamp(NOON)
            )
        ],
    )
    late, soon, done = run("clock", "--series", "Case 12", "--json").document["referrals"]
    assert served.node.only("ListClock").series == "Case 12"
    assert (late["overdue"], late["next"]) == (True, "acknowledged")
    assert (late["since"], late["due"]) == ("2026-01-31T12:00:00Z", "2026-02-01T12:00:00Z")
    assert (soon["overdue"], soon["next"]) == (False, "delivered")
    assert (done["overdue"], done["due"]) == (False, None)
    shown = run("clock").out
    assert "OVERDUE: acknowledged" in shown
    assert "OVERDUE: referred" in shown
    (untold,) = run("clock", "--json").document["untold"]
    assert (untold["country"], untold["overdue"]) == ("FR", True)


def test_the_clock_reports_medians_and_what_is_overdue(run: Run, served: Served) -> None:
    medians = [operator_clock_pb2.ClockMedian(step="localised_to_told", milliseconds=5_400_000)]
    counted: dict[str, Any] = {"referrals": 3, "told": 2, "overdue": 1, "medians": medians}
    sent = operator_clock_pb2.ClockPart(
        total=operator_clock_pb2.ClockLine(**counted),
        countries=[operator_clock_pb2.ClockLine(country="FR", **counted)],
        overdue=[late := new_id()],
    )
    made = operator_clock_pb2.ClockReport(sent=sent, report_time=stamp(NOON))
    served.node.answers["GetClockReport"] = operator_clock_pb2.GetClockReportResponse(report=made)
    words = ("clock", "report", "--series", "A", "--series", "B", "--operation", "VIDTF", "--json")
    document = run(*words).document
    request = served.node.only("GetClockReport")
    assert (list(request.series), request.operation) == (["A", "B"], "VIDTF")
    (line,) = document["sent"]["countries"]
    assert (line["country"], line["told"], line["overdue"]) == ("FR", 2, 1)
    assert line["median_seconds"]["localised_to_told"] == 5400.0
    assert line["median_seconds"]["answered_to_outcome"] is None
    assert document["sent"]["overdue"] == [late]
    assert document["received"]["countries"] == []
    shown = run("clock", "report").out
    assert "1.5 h" in shown and late in shown and "nothing received" in shown


def test_a_country_was_told_outside(run: Run, served: Served) -> None:
    step = pb.StepView(state="told_outside", agency="pt-pj", text="I247-88")
    view = a_referral(state="passed_on", direction="outside", recipient="", steps=[step])
    served.node.answers["TellOutside"] = pb.TellOutsideResponse(referral=view)
    served.node.answers["ListClock"] = pb.ListClockResponse(referrals=[view])
    words = ("clock", "told-outside", "Case 12", "--reference", "I247-88", "--country", "BR")
    result = run(*words, *WHY, "--json")
    assert (result.code, result.document["direction"]) == (0, "outside"), result.err
    request = served.node.only("TellOutside")
    assert (request.id, request.reference, request.country) == ("Case 12", "I247-88", "BR")
    assert (request.purpose, request.case_ref) == (WHY[1], WHY[3])
    assert "was told outside Tieline, reference I247-88" in run(*words).out
    shown = run("clock", "--series", "told-outside").out
    assert "outside" in shown and "I247-88" in shown
    assert served.node.only("ListClock").series == "told-outside"
    assert run("clock", "told-outside", view.id, "--reference", " ").code == 2
    assert run("clock", "told-outside", view.id, "--reference", "r", "--country", "x").code == 2
    assert run("clock", "told-outside", view.id).code == 2


def test_the_outbox(run: Run, served: Served) -> None:
    served.node.answers["ListOutbox"] = pb.ListOutboxResponse(
        entries=[pb.OutboxEntry(id=new_id(), recipient="us-ice", kind="referral", lane=1)],
        destinations=[pb.DestinationView(agency="us-ice", queued=1, last_error=HOSTILE)],
    )
    document = run("outbox", "--state", "queued", "--json").document
    assert served.node.only("ListOutbox").state == "queued"
    assert set(document) == {"entries", "destinations", "next_page"}
    assert document["entries"][0]["urgency"] == "immediate"
    assert document["destinations"][0]["last_error"] == HOSTILE
    assert "\x1b" not in run("outbox").out


def test_peers_say_whom_policy_lists(run: Run, served: Served) -> None:
    served.node.answers["ListPeers"] = pb.ListPeersResponse(
        peers=[pb.Peer(agency="us-ice", name="ICE", role="national", countries=["US"], listed=True)]
    )
    document = run("peers", "--purpose", "deconfliction", "--json").document
    assert served.node.only("ListPeers").purpose == "deconfliction"
    assert document["peers"] == [
        {
            "agency": "us-ice",
            "name": "ICE",
            "role": "national",
            "countries": ["US"],
            "listed": True,
            "reason": "",
        }
    ]
    assert "us-ice" in run("peers").out


# --- people -----------------------------------------------------------------------------------


def test_operator_add_keeps_the_key_here(run: Run, served: Served, tmp_path: Path) -> None:
    node = served.node
    sent: list[pb.AddOperatorRequest] = []

    def add(request: pb.AddOperatorRequest) -> pb.AddOperatorResponse:
        sent.append(request)
        leaf = issue_operator_leaf(
            served.people.operator_ca,
            request.name,
            keys.load_public(request.public_key),
            now=datetime.now(UTC),
        )
        return pb.AddOperatorResponse(
            certificate=leaf.public_bytes(Encoding.DER),
            node_ca=served.people.node_ca.der,
            address=served.address,
            target_name="pt-pj.test-eu.invalid",
        )

    usual = node.unary
    node.unary = lambda method, request, context: (  # type: ignore[method-assign]
        add(request) if method == "AddOperator" else usual(method, request, context)
    )
    out = tmp_path / "rui.json"
    words = ("operator", "add", "rui", "--role", "analyst", "--role", "officer", "--out", out)
    result = run(*words, "--json")
    assert result.code == 0
    assert result.document == {
        "name": "rui",
        "roles": ["analyst", "officer"],
        "profile": str(out),
    }
    assert out.stat().st_mode & 0o777 == 0o600
    assert "PRIVATE KEY" not in result.out + result.err
    assert b"PRIVATE" not in sent[0].SerializeToString()
    with OperatorClient(Profile.load(out)) as client:
        client.get_stats()

    before = out.read_bytes()
    again = run(*words)
    assert (again.code, len(sent), out.read_bytes()) == (2, 1, before)
    assert run(*words[:-1], tmp_path / "no" / "folder.json").code == 2


def test_operator_list_and_revoke(run: Run, served: Served) -> None:
    served.node.answers["ListOperators"] = pb.ListOperatorsResponse(
        operators=[pb.OperatorView(name="ana.silva", roles=["admin"], create_time=stamp(NOON))]
    )
    (person,) = run("operator", "list", "--json").document["operators"]
    assert person == {
        "name": "ana.silva",
        "roles": ["admin"],
        "created": "2026-01-31T12:00:00Z",
        "revoked": None,
        "expires": None,
    }
    assert run("operator", "revoke", "rui", "--json").document == {"name": "rui", "revoked": True}
    assert served.node.only("RevokeOperator").name == "rui"


# --- words ------------------------------------------------------------------------------------

COMMANDS = [
    *("hashes import", "hashes stats", "overlap", "series list", "series show", "series create"),
    *("series assess", "series refer", "inbox", "inbox show", "inbox ack", "inbox accept"),
    *("inbox decline", "inbox pass-on", "inbox outcome", "inbox answer", "outbox", "clock show"),
    *("clock told-outside", "clock report"),
    *("broadcast", "broadcasts", "upload", "upload step", "uploads", "peers", "operator add"),
    *("operator list", "operator revoke", "audit verify", "audit export", "audit search"),
    *("clue add", "clue publish", "clue export", "clue list", "clue tip", "clue tips"),
    *("clue verify", "clue dismiss", "clue relay"),
    "version",
]


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_has_help_with_an_example(run: Run, words: str) -> None:
    result = run(*words.split(), "--help")
    assert result.code == 0
    assert "Example: tieline" in result.out
    assert "--json" in result.out or words in ("inbox", "upload")


GROUPS = [
    *("", "series", "series same-as", "inbox", "clock", "clue", "operation", "watch", "upload"),
    *("hashes", "requests", "budget", "operator", "audit"),
    *("node", "node directory", "federation", "policy"),
]


@pytest.mark.parametrize("words", GROUPS)
def test_every_group_has_help_with_an_example(run: Run, words: str) -> None:
    result = run(*words.split(), "--help")
    assert result.code == 0
    example = " ".join(result.out.split("Example: tieline", 1)[1].split())
    assert example.startswith(words)
    assert "Commands" in result.out


def test_options_may_stand_before_the_command(run: Run, served: Served) -> None:
    for words in (
        ("--profile", served.profile, "inbox", "--json"),
        ("inbox", "--profile", served.profile, "--json"),
        ("inbox", "--json", "list", "--profile", served.profile),
        ("--json", "--profile", served.profile, "inbox", "list"),
    ):
        result = run(*words)
        assert (result.code, result.document) == (0, {"entries": [], "alarms": [], "news": []})


def test_texts_that_cannot_be_sent_are_told_so(run: Run, served: Served) -> None:
    assert run("series", "create", "bad \udcff name").code == 1
    assert run("series", "create", "x" * 500).code == 1
    assert served.node.requests == {}


def test_version(run: Run) -> None:
    assert run("--version").out.startswith("tieline 0.")
    assert set(run("version", "--json").document) == {"version", "wire"}


def test_commands_of_other_distributions_are_loaded_or_explained(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib.metadata import EntryPoint

    from tieline_client.cli import app

    entry = EntryPoint("node", "no_such_module:app", app.ENTRY_POINTS)
    monkeypatch.setattr(app, "_extra", lambda: {"node": entry})
    app._command.cache_clear()
    result = run("node", "serve", "HOME", "--json")
    assert result.code == 1
    assert "tieline[node]" in result.err
    assert "node" in run("--help").out
    app._command.cache_clear()


def test_the_entry_point_is_main() -> None:
    assert main(["version"]) == 0


@pytest.mark.parametrize("columns", ["240", "80", "20"])
def test_ids_stay_whole_whatever_the_width(
    run: Run, served: Served, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    entry = an_entry()
    served.node.answers["ListInbox"] = pb.ListInboxResponse(entries=[entry])
    piped = run("inbox").out
    monkeypatch.setattr("tieline_client.cli.tables.on_screen", lambda: True)
    for shown in (piped, run("inbox").out):
        assert entry.id in shown
        assert entry.referral.series in shown
