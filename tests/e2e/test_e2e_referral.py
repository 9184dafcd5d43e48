"""A series told to the country that can act on it: every step seen, nothing lost, nothing twice.

One federation serves the module: pt-pj and es-gc in the union, us-ice and us-fbi both for the US
under agreements, and the hub. Tests that end a node leave it running again.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tieline.v1 import envelope_pb2
from tieline_client.limits import ITEMS_PER_CHUNK
from tieline_client.payloads import Audience, open_payload
from tieline_server.domain.messages import Reply
from tieline_server.trust.directory_store import DirectoryStore

from tests.e2e.federation import WHY, Federation, Node, federation, tieline, wait_for

_MEMBERS = [
    ("pt-pj", "national", "PT"),
    ("es-gc", "national", "ES"),
    ("us-ice", "national", "US"),
    ("us-fbi", "national", "US"),
    ("europol-ec3", "hub"),
]
APPLIED = int(Reply.APPLIED)
_made = iter(range(1, 1_000_000))


@pytest.fixture(autouse=True)
def _all_run(trial: Federation) -> None:
    """A test that failed while a node was down is not a reason for the next to fail."""
    for node in trial:
        if not node.running:
            node.start()


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    root = tmp_path_factory.mktemp("referral")
    with federation(root, _MEMBERS, agreements=("us-ice", "us-fbi")) as made:
        yield made


def sha1s(name: str, count: int) -> list[str]:
    return [f"sha1:{hashlib.sha1(f'{name}/{n}'.encode()).hexdigest()}" for n in range(count)]


def make_list(folder: Path, name: str, count: int) -> Path:
    path = folder / f"{name}.txt"
    path.write_text("\n".join(sha1s(name, count)) + "\n")
    return path


def make_series(node: Node, folder: Path, *words: object, items: int = 3, name: str = "") -> str:
    """Import a list into a series of its own and return the series' id."""
    name = name or f"Series {next(_made)} of {node.agency}"
    report = node.import_file(make_list(folder, name, items), "--series", name, *words)
    assert len(report["series"]) == 1
    return str(report["series"][0])


def refer(node: Node, series: str, *words: object) -> list[Any]:
    """Refer a series and return the referrals as the sender sees them."""
    made = node.run("series", "refer", series, *WHY, *words).ok().json["referrals"]
    return list(made)


def entry_of(node: Node, referral: str) -> Any:
    """One entry of an inbox, None until it is there."""
    return next((one for one in node.inbox() if one["id"] == referral), None)


def arrived(node: Node, referral: str) -> Any:
    return wait_for(f"{node} has {referral}", lambda: entry_of(node, referral))


def sent(node: Node, referral: str) -> Any:
    """A referral as its sender's clock shows it."""
    shown = node.run("clock").ok().json["referrals"]
    return next(one for one in shown if one["id"] == referral and one["direction"] == "out")


def becomes(node: Node, referral: str, state: str) -> Any:
    """Wait until the sender sees a state; return the referral."""

    def look() -> Any:
        one = sent(node, referral)
        return one if one["state"] == state else None

    return wait_for(f"{node} sees {referral} {state}", look)


def received_payload(node: Node, sender: str, referral: str) -> Any:
    """The payload of a signed referral as it is kept, verified anew."""
    rows = node.rows(
        "SELECT envelope FROM inbox WHERE sender = ? AND subject = ? AND kind = 'referral'",
        sender,
        referral,
    )
    assert len(rows) == 1
    return open_payload(
        envelope_pb2.Envelope.FromString(rows[0][0]),
        directory=DirectoryStore(node.home).current(),
        issuer=sender,
        audience=Audience(agency=node.agency),
        now=datetime.now(UTC),
    )


def settled(sender: Node, receiver: Node) -> None:
    """Wait until nothing is on its way: a sender settles a moment after its recipient applied."""
    queued = "SELECT 1 FROM outbox WHERE recipient = ? AND state = 'queued'"
    wait_for(f"{sender} has settled", lambda: not sender.rows(queued, receiver.agency))


def assert_exactly_once(sender: Node, receiver: Node) -> int:
    """Compare both databases: what was sent is what was applied, each once; return how many."""
    settled(sender, receiver)
    out = sender.rows("SELECT id, state FROM outbox WHERE recipient = ?", receiver.agency)
    came = receiver.rows("SELECT id, reply FROM inbox WHERE sender = ?", sender.agency)
    assert sorted(state for _, state in out) == ["delivered"] * len(out)
    assert sorted(one for one, _ in out) == sorted(one for one, _ in came)
    assert {reply for _, reply in came} <= {APPLIED}
    told = sender.rows(
        "SELECT id FROM referrals WHERE direction = 'out' AND recipient = ?", receiver.agency
    )
    heard = receiver.rows(
        "SELECT id FROM referrals WHERE direction = 'in' AND sender = ?", sender.agency
    )
    assert sorted(told) == sorted(heard)
    return len(out)


# --- assessing ----------------------------------------------------------------------------------


def test_competing_assessments_stand_side_by_side_until_one_is_eliminated(
    trial: Federation, tmp_path: Path
) -> None:
    node = trial["pt-pj"]
    series = make_series(node, tmp_path)
    assert node.run("series", "show", series).ok().json["status"] == "new"

    def assess(country: str, confidence: str, *words: object) -> Any:
        return (
            node.run(
                *("series", "assess", series, "--country", country, "--confidence", confidence),
                *("--grounds", f"sockets of {country}", *words),
            )
            .ok()
            .json
        )

    assert assess("ES", "medium")["likely_countries"] == ["ES"]
    shown = assess("US", "medium")
    assert shown["likely_countries"] == ["ES", "US"]
    assert shown["status"] == "localised"
    assert assess("FR", "high")["likely_countries"] == ["FR"]
    assert assess("FR", "high", "--eliminate")["likely_countries"] == ["ES", "US"]
    assert assess("US", "low", "--confirmed")["likely_countries"] == ["US"]
    made = node.run("series", "show", series).ok().json["assessments"]
    assert [(one["country"], one["confidence"], one["eliminated"]) for one in made] == [
        ("ES", "medium", False),
        ("US", "medium", False),
        ("FR", "high", False),
        ("FR", "high", True),
        ("US", "low", False),
    ]
    # Without a country named, the standing likely one is told: both agencies of it.
    told = refer(node, series)
    assert sorted((one["recipient"], one["country"]) for one in told) == [
        ("us-fbi", "US"),
        ("us-ice", "US"),
    ]
    for one in told:
        entry = arrived(trial[one["recipient"]], one["id"])
        assert len(entry["series"]["assessments"]) == 5
    assert node.run("series", "show", series).ok().json["status"] == "referred"


# --- telling ------------------------------------------------------------------------------------


def test_all_agencies_of_a_country_are_told_once_with_restrictions_inside_the_signature(
    trial: Federation, tmp_path: Path
) -> None:
    node, until = trial["pt-pj"], (datetime.now(UTC) + timedelta(days=400)).date().isoformat()
    name = "Name of a child"
    node.run(
        *("series", "create", name, "--case", "PT-77", "--reference", "icse:4711"),
        *("--reference", "siena:99", "--clues", "a blue tram", "--victims", 2),
        *("--handling", "H1", "--tlp", "green", "--source", "B", "--information", 2),
        *("--retain-until", until, "--contact-name", "Desk 7", "--contact-email", "d7@pt.example"),
    ).ok()
    series = make_series(node, tmp_path, items=5, name=name)
    told = refer(node, series, "--country", "US", "--urgency", "urgent", "--note", "please look")
    assert sorted(one["recipient"] for one in told) == ["us-fbi", "us-ice"]
    assert {one["urgency"] for one in told} == {"urgent"}
    again = refer(node, series, "--country", "US")
    assert sorted(one["id"] for one in again) == sorted(one["id"] for one in told)

    for one in told:
        receiver = trial[one["recipient"]]
        entry = arrived(receiver, one["id"])
        shown = entry["series"]
        handling = {
            "code": "H1",
            "tlp": "TLP:GREEN",
            "source": "B",
            "information": 2,
            "retain_until": until,
            "restriction": "",
        }
        assert shown["handling"] == handling
        assert shown["name"] == ""
        assert shown["owner"] == "pt-pj"
        assert shown["references"] == ["icse:4711", "siena:99"]
        assert shown["contact"]["email"] == "d7@pt.example"
        assert (shown["victims"], shown["clues"], shown["items"]) == (2, "a blue tram", 5)
        assert entry["referral"]["note"] == "please look"

        payload = received_payload(receiver, "pt-pj", one["id"])
        assert (payload.person, payload.case_ref) == ("admin", "2026-118")
        inside = payload.referral.series.handling
        assert (inside.code, inside.tlp, inside.source, inside.information) == (1, 2, "B", 2)
        assert inside.retain_until == until
        assert payload.referral.items.items == 5
        assert name.encode() not in payload.SerializeToString()

        held = receiver.rows(
            "SELECT DISTINCT m.agency, m.case_ref, m.handling, m.tlp, m.source_evaluation,"
            " m.information_evaluation, m.retain_until, m.answerable FROM imports m"
            " JOIN holdings h ON h.import_no = m.no JOIN series_keys k ON k.no = h.series_no"
            " WHERE k.id = ? AND m.generation IS NOT NULL",
            series,
        )
        assert held == [("pt-pj", "2026-118", 1, 2, "B", 2, until, 0)]
        becomes(node, one["id"], "delivered")

    # Matched at the receiver: its own import finds them known, and holds them for its own case.
    file = make_list(tmp_path, name, 5)
    # Not the receiver's to give away: nobody else learns of them there.
    answer = trial["es-gc"].ask(file, "--peer", "us-ice").ok().json["peers"][0]
    assert (answer["status"], answer["overlaps"]) == ("answered", [])
    report = trial["us-ice"].import_file(file, "--case", "US-1")
    assert (report["items_new"], report["items_known"]) == (0, 5)
    answer = trial["es-gc"].ask(file, "--peer", "us-ice").ok().json["peers"][0]
    assert len(answer["overlaps"]) == 5
    assert_exactly_once(node, trial["us-ice"])


def test_a_country_that_no_member_serves_goes_to_the_hub(trial: Federation, tmp_path: Path) -> None:
    node = trial["es-gc"]
    (told,) = refer(node, make_series(node, tmp_path), "--country", "JP", "--note", "see clues")
    assert (told["recipient"], told["country"]) == ("europol-ec3", "JP")
    entry = arrived(trial["europol-ec3"], told["id"])
    assert "No member" in entry["referral"]["note"]
    assert "JP" in entry["referral"]["note"]
    assert "see clues" in entry["referral"]["note"]


def test_only_itself_unknown_and_third_country_addressees_are_refused(
    trial: Federation, tmp_path: Path
) -> None:
    node = trial["es-gc"]
    series = make_series(node, tmp_path, items=1)
    for words, code in (
        (("--agency", "es-gc"), 1),
        (("--country", "ES"), 1),
        (("--agency", "xx-none"), 1),
        (("--country", "USA"), 2),
        ((), 1),
    ):
        result = node.run("series", "refer", series, *WHY, *words)
        assert result.code == code, words
        assert len(result.err.strip().splitlines()) == 1
    for words in ((), ("--purpose", "victim-identification"), ("--case", "1")):
        assert node.run("series", "refer", series, "--country", "PT", *words).code == 2
    refused = node.run(
        *("series", "refer", series, "--country", "PT", "--purpose", "prosecution", "--case", "1")
    )
    assert refused.code == 3
    assert node.rows("SELECT count(*) FROM referrals WHERE series = ?", series) == [(0,)]


# --- the recipient's steps ----------------------------------------------------------------------


def told_pt(trial: Federation, folder: Path, sender: str = "es-gc") -> str:
    """Refer a small series to pt-pj and return the referral that arrived."""
    (one,) = refer(trial[sender], make_series(trial[sender], folder, items=1), "--agency", "pt-pj")
    arrived(trial["pt-pj"], one["id"])
    return str(one["id"])


def step(node: Node, word: str, referral: str, *words: object) -> Any:
    return node.run("inbox", word, referral, *words).ok().json


def test_acknowledge_accept_and_outcome_are_seen_by_the_sender(
    trial: Federation, tmp_path: Path
) -> None:
    node, sender = trial["pt-pj"], trial["es-gc"]
    referral = told_pt(trial, tmp_path)
    assert step(node, "ack", referral)["state"] == "acknowledged"
    becomes(sender, referral, "acknowledged")
    assert step(node, "accept", referral, "--text", "team 4")["state"] == "accepted"
    becomes(sender, referral, "accepted")
    counts = ("--identified", 2, "--tentative", 1, "--safeguarded", 1, "--offenders", 1)
    assert step(node, "outcome", referral, *counts, "--text", "found")["state"] == "outcome"
    seen = becomes(sender, referral, "outcome")
    assert [(one["state"], one["agency"]) for one in seen["steps"]] == [
        ("delivered", "pt-pj"),
        ("acknowledged", "pt-pj"),
        ("accepted", "pt-pj"),
        ("outcome", "pt-pj"),
    ]
    assert all(one["person"] == "admin" for one in seen["steps"][1:])
    assert seen["steps"][2]["text"] == "team 4"
    assert seen["steps"][3]["outcome"] == {
        "identified": 2,
        "tentative": 1,
        "safeguarded": 1,
        "offenders": 1,
    }
    series = sender.run("series", "show", seen["series"]).ok().json
    assert (series["identified"], series["status"]) == (2, "identified")
    more = step(node, "outcome", referral, "--identified", 3)
    assert more["state"] == "outcome"
    wait_for(
        "the later outcome counts",
        lambda: sender.run("series", "show", seen["series"]).ok().json["identified"] == 3,
    )
    actions = [entry["action"] for entry in node.audit("--series", referral)]
    for action in ("referral.received", "referral.acknowledged", "referral.outcome"):
        assert action in actions


def test_a_decline_tells_its_reason_and_steps_out_of_order_are_refused(
    trial: Federation, tmp_path: Path
) -> None:
    node, sender = trial["pt-pj"], trial["es-gc"]
    referral = told_pt(trial, tmp_path)
    assert node.run("inbox", "outcome", referral, "--identified", 1).code == 1
    assert node.run("inbox", "decline", referral).code == 2
    assert node.run("inbox", "decline", referral, "--reason", " ").code == 2
    step(node, "decline", referral, "--reason", "not our region")
    seen = becomes(sender, referral, "declined")
    assert seen["steps"][-1]["text"] == "not our region"
    for words in (("ack", referral), ("outcome", referral, "--identified", 1)):
        wrong = node.run("inbox", *words)
        assert wrong.code == 1
        assert "declined" in wrong.err
        assert "accepted" in wrong.err
    step(node, "accept", referral)
    becomes(sender, referral, "accepted")
    assert node.run("inbox", "ack", referral).code == 1
    assert entry_of(node, referral)["state"] == "accepted"
    unknown = "01990000-0000-7000-8000-000000000000"
    assert node.run("inbox", "ack", unknown).code == 1
    assert sender.run("inbox", "ack", referral).code == 1


def test_passed_on_to_a_named_agency_and_its_outcome_reaches_the_first_sender(
    trial: Federation, tmp_path: Path
) -> None:
    pt, ice, fbi = trial["pt-pj"], trial["us-ice"], trial["us-fbi"]
    series = make_series(pt, tmp_path, items=4)
    (one,) = refer(pt, series, "--agency", "us-ice")
    arrived(ice, one["id"])
    assert ice.run("inbox", "pass-on", one["id"], "--to", "pt-pj").code == 1
    assert ice.run("inbox", "pass-on", one["id"], "--to", "xx-none").code == 1
    step(ice, "pass-on", one["id"], "--to", "us-fbi", "--text", "theirs")
    seen = becomes(pt, one["id"], "passed_on")
    assert seen["steps"][-1]["passed_to"] == "us-fbi"
    passed = wait_for(
        "us-fbi has it",
        lambda: next((e for e in fbi.inbox() if e["referral"]["series"] == series), None),
    )
    assert passed["referral"]["sender"] == "us-ice"
    assert passed["series"]["owner"] == "pt-pj"
    assert passed["series"]["items"] == 4
    payload = received_payload(fbi, "us-ice", passed["id"])
    assert payload.referral.root == one["id"]
    inner = open_payload(
        payload.referral.original,
        directory=DirectoryStore(fbi.home).current(),
        issuer="pt-pj",
        audience=Audience(agency="us-ice"),
        now=datetime.now(UTC),
    )
    assert inner.referral.id == one["id"]
    step(fbi, "accept", passed["id"])
    becomes(ice, passed["id"], "accepted")
    step(fbi, "outcome", passed["id"], "--identified", 1)
    becomes(ice, passed["id"], "outcome")
    seen = becomes(pt, one["id"], "outcome")
    assert seen["steps"][-1]["agency"] == "us-fbi"
    assert pt.run("series", "show", series).ok().json["identified"] == 1


def test_passed_on_twice_it_still_proves_who_wrote_it(trial: Federation, tmp_path: Path) -> None:
    es, hub, ice, fbi = (trial[a] for a in ("es-gc", "europol-ec3", "us-ice", "us-fbi"))
    series = make_series(es, tmp_path, items=2)
    (one,) = refer(es, series, "--agency", "europol-ec3")

    def theirs(node: Node) -> Any:
        return next((e for e in node.inbox() if e["referral"]["series"] == series), None)

    arrived(hub, one["id"])
    step(hub, "pass-on", one["id"], "--to", "us-ice")
    at_ice = wait_for("us-ice has it", lambda: theirs(ice))
    step(ice, "pass-on", at_ice["id"], "--to", "us-fbi")
    at_fbi = wait_for("us-fbi has it", lambda: theirs(fbi))
    assert at_fbi["series"]["owner"] == "es-gc"
    step(fbi, "outcome", at_fbi["id"], "--identified", 1) if at_fbi[
        "state"
    ] == "accepted" else step(fbi, "accept", at_fbi["id"])
    step(fbi, "outcome", at_fbi["id"], "--identified", 1)
    seen = becomes(es, one["id"], "outcome")
    assert {s["agency"] for s in seen["steps"]} == {"europol-ec3", "us-ice", "us-fbi"}


def test_the_hub_tells_countries_of_a_series_that_was_referred_to_it(
    trial: Federation, tmp_path: Path
) -> None:
    es, hub = trial["es-gc"], trial["europol-ec3"]
    series = make_series(es, tmp_path, items=2)
    (one,) = refer(es, series, "--agency", "europol-ec3")
    arrived(hub, one["id"])
    hub.run(
        *("series", "assess", series, "--country", "US", "--confidence", "high"),
        *("--grounds", "plates"),
    ).ok()
    told = refer(hub, series)
    assert sorted(t["recipient"] for t in told) == ["us-fbi", "us-ice"]
    for each in told:
        receiver = trial[each["recipient"]]
        entry = arrived(receiver, each["id"])
        assert entry["series"]["owner"] == "es-gc"
        assert entry["referral"]["sender"] == "europol-ec3"
        assert {a["country"] for a in entry["series"]["assessments"]} == {"US"}
        inner = received_payload(receiver, "europol-ec3", each["id"]).referral
        assert inner.root == one["id"]
        assert inner.HasField("original")
    seen = becomes(es, one["id"], "passed_on")
    assert {s["passed_to"] for s in seen["steps"] if s["state"] == "passed_on"} == {
        "us-fbi",
        "us-ice",
    }
    step(trial["us-ice"], "accept", told_id(told, "us-ice"))
    step(trial["us-ice"], "outcome", told_id(told, "us-ice"), "--identified", 1)
    becomes(es, one["id"], "outcome")


def test_restricted_data_of_another_is_not_told_on(trial: Federation, tmp_path: Path) -> None:
    es, hub = trial["es-gc"], trial["europol-ec3"]
    es.run("series", "create", "Restricted", "--handling", "H2", "--case", "ES-2").ok()
    series = make_series(es, tmp_path, items=1, name="Restricted")
    (one,) = refer(es, series, "--agency", "europol-ec3")
    arrived(hub, one["id"])
    for words in (("--country", "PT"), ("--agency", "us-ice")):
        refused = hub.run("series", "refer", series, *words, *WHY)
        assert refused.code == 3
        assert "provider" in refused.err
    assert hub.run("inbox", "pass-on", one["id"], "--to", "pt-pj").code == 3
    assert hub.run("series", "refer", series, "--agency", "es-gc", *WHY).code == 1
    assert entry_of(hub, one["id"])["state"] == "delivered"


def test_two_series_of_the_same_items_both_arrive(trial: Federation, tmp_path: Path) -> None:
    sender, receiver = trial["pt-pj"], trial["es-gc"]
    file = make_list(tmp_path, "same items", 3)
    told = []
    for name in ("Same one", "Same other"):
        series = sender.import_file(file, "--series", name)["series"][0]
        told += refer(sender, series, "--agency", "es-gc")
    for one in told:
        assert arrived(receiver, one["id"])["series"]["items"] == 3
        becomes(sender, one["id"], "delivered")


def told_id(told: list[Any], agency: str) -> str:
    return str(next(one["id"] for one in told if one["recipient"] == agency))


# --- nothing lost -------------------------------------------------------------------------------


def test_urgent_things_come_first_when_a_peer_is_back(trial: Federation, tmp_path: Path) -> None:
    node, down = trial["pt-pj"], trial["es-gc"]
    down.stop()
    order = ["routine", "urgent", "immediate", "routine", "immediate"]
    queued = []
    for urgency in order:
        series = make_series(node, tmp_path, items=1)
        (one,) = refer(node, series, "--agency", "es-gc", "--urgency", urgency)
        assert one["state"] == "referred"
        queued.append(one["id"])
    waiting = {
        m["subject"] for m in node.run("outbox").ok().json["entries"] if m["state"] == "queued"
    }
    assert set(queued) <= waiting
    down.start()
    for referral in queued:
        arrived(down, referral)
    rows = down.rows("SELECT subject FROM inbox WHERE kind = 'referral' ORDER BY rowid")
    came = [row[0] for row in rows if row[0] in queued]
    assert came == [queued[i] for i in (2, 4, 1, 0, 3)]
    for referral in queued:
        becomes(node, referral, "delivered")


def test_sender_and_receiver_may_be_killed_and_each_message_counts_once(
    trial: Federation, tmp_path: Path
) -> None:
    sender, receiver = trial["es-gc"], trial["us-fbi"]
    receiver.stop()
    series = [make_series(sender, tmp_path, items=2) for _ in range(6)]
    told = [refer(sender, one, "--agency", "us-fbi")[0]["id"] for one in series]
    sender.kill()
    sender.start()
    assert {sent(sender, one)["state"] for one in told} == {"referred"}
    receiver.start()
    for one in told:
        becomes(sender, one, "delivered")
    # Now each dies while steps and referrals cross.
    more = []
    for victim in (receiver, sender):
        for one in told[:3] if victim is receiver else told[3:]:
            step(receiver, "ack", one)
            series_of_many = make_series(sender, tmp_path, items=50)
            more.append(refer(sender, series_of_many, "--agency", "us-fbi")[0]["id"])
        victim.kill()
        victim.start()
    for one in told:
        becomes(sender, one, "acknowledged")
    for one in more:
        becomes(sender, one, "delivered")
    assert assert_exactly_once(sender, receiver) >= 12
    settled(receiver, sender)
    steps = receiver.rows(
        "SELECT id FROM outbox WHERE recipient = 'es-gc' AND state != 'delivered'"
    )
    assert steps == []


def test_what_a_peer_cannot_take_yet_holds_up_nothing_else(
    trial: Federation, tmp_path: Path
) -> None:
    sender, receiver = trial["pt-pj"], trial["es-gc"]
    referral = told_pt(trial, tmp_path)
    receiver.stop()
    # The referral's own sender is put back to a time before it: it knows nothing of the referral.
    with contextlib.closing(sqlite3.connect(receiver.home / "database.sqlite3")) as database:
        database.execute("DELETE FROM referral_steps WHERE referral = ?", (referral,))
        database.execute("DELETE FROM referrals WHERE id = ?", (referral,))
        database.commit()
    receiver.start()
    step(sender, "ack", referral)

    def put_off() -> Any:
        entries = sender.run("outbox", "--state", "queued").ok().json["entries"]
        return [one for one in entries if one["subject"] == referral and one["reason"]]

    tried = "SELECT attempts FROM outbox WHERE subject = ? AND state = 'queued'"
    wait_for("it was tried often", lambda: sender.rows(tried, referral)[0][0] >= 4)
    assert "not known" in put_off()[0]["reason"]
    step(sender, "accept", referral)
    for urgency in ("routine", "immediate"):
        series = make_series(sender, tmp_path, items=1)
        (one,) = refer(sender, series, "--agency", "es-gc", "--urgency", urgency)
        arrived(receiver, one["id"])
        becomes(sender, one["id"], "delivered")
    assert len(sender.rows(tried, referral)) == 2
    assert sender.rows(tried, referral)[1] == (0,), "a step waits behind the one before it"


def test_a_receiver_killed_amid_the_chunks_of_a_series_goes_on_where_it_was(
    trial: Federation, tmp_path: Path
) -> None:
    sender, receiver = trial["pt-pj"], trial["us-ice"]
    items = 4 * ITEMS_PER_CHUNK + 1
    series = make_series(sender, tmp_path, items=items)
    before = receiver.stats()
    receiver.stop()
    (one,) = refer(sender, series, "--agency", "us-ice")
    # Its storage takes two chunks and no third, so that where it is killed is no matter of luck.
    receiver.alter(
        "CREATE TRIGGER two_chunks BEFORE INSERT ON incoming_chunks"
        " WHEN (SELECT count(*) FROM incoming_chunks) >= 2"
        " BEGIN SELECT RAISE(ABORT, 'no room for a third'); END"
    )
    receiver.launch()
    wait_for("two chunks have come", lambda: _chunks(receiver) >= 2)
    receiver.kill()
    assert _chunks(receiver) == 2
    receiver.alter("DROP TRIGGER two_chunks")
    receiver.start()
    assert receiver.stats()["items"] == before["items"]
    entry = arrived(receiver, one["id"])
    assert entry["series"]["items"] == items
    assert receiver.stats()["items"] == before["items"] + items
    assert _chunks(receiver) == 0
    becomes(sender, one["id"], "delivered")
    assert_exactly_once(sender, receiver)


def _chunks(node: Node) -> int:
    """Chunks of attachments under way; 0 before the node has made its tables."""
    return int(node.rows("SELECT count(*) FROM incoming_chunks")[0][0])


def test_every_log_verifies(trial: Federation) -> None:
    for node in trial:
        assert tieline("audit", "verify", "--home", node.home, "--json").ok().json["verified"]
