"""The hub asks a group who can place a series; a repository takes deposits up to its own number."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tieline.v1 import envelope_pb2
from tieline_client.payloads import Audience, open_payload
from tieline_server.trust.directory_store import DirectoryStore

from tests.e2e.federation import WHY, Federation, Node, federation, tieline, wait_for

_MEMBERS = [
    ("pt-pj", "national", "PT"),
    ("es-gc", "national", "ES"),
    ("us-ice", "national", "US"),
    ("europol-ec3", "hub"),
    ("interpol", "repository"),
]
_GROUPS = [
    ("taskforce", "pt-pj", "es-gc", "us-ice", "europol-ec3"),
    ("everyone", "pt-pj", "es-gc", "us-ice", "europol-ec3", "interpol"),
]
_LARGE = 100_000


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    root = tmp_path_factory.mktemp("hub")
    with federation(root, _MEMBERS, groups=_GROUPS, agreements=("us-ice",)) as made:
        yield made


@pytest.fixture(autouse=True)
def _all_run(trial: Federation) -> None:
    """A test that failed while a node was down is not a reason for the next to fail."""
    for node in trial:
        if not node.running:
            node.start()


def make_series(node: Node, folder: Path, name: str, items: int = 3, *, start: int = 0) -> str:
    """Import a list of SHA-1 (from number ``start``) into a series; return the series' id."""
    path = folder / f"{name}-{start}.txt"
    digests = (
        hashlib.sha1(f"{name}/{n}".encode()).hexdigest() for n in range(start, start + items)
    )
    path.write_text("\n".join(digests) + "\n")
    return str(node.import_file(path, "--series", name)["series"][0])


def broadcast(node: Node, series: str, group: str = "taskforce", *words: object) -> Any:
    (made,) = node.run("broadcast", series, "--group", group, *WHY, *words).ok().json["broadcasts"]
    return made


def broadcasts(node: Node, identifier: str) -> Any:
    shown = node.run("broadcasts").ok().json["broadcasts"]
    return next(one for one in shown if one["id"] == identifier)


def recipients_become(node: Node, identifier: str, states: dict[str, str]) -> Any:
    def look() -> Any:
        one = broadcasts(node, identifier)
        return one if one["recipients"] == states else None

    return wait_for(f"the recipients are {states}", look)


def entry_of(node: Node, identifier: str) -> Any:
    return wait_for(
        f"{node} has {identifier}",
        lambda: next((one for one in node.inbox() if one["id"] == identifier), None),
    )


def payload_of(node: Node, subject: str, audience: Audience) -> Any:
    """The verified payload of the broadcast that a node was sent."""
    rows = node.rows("SELECT envelope FROM inbox WHERE subject = ? AND kind = 'broadcast'", subject)
    assert len(rows) == 1
    return open_payload(
        envelope_pb2.Envelope.FromString(rows[0][0]),
        directory=DirectoryStore(node.home).current(),
        issuer="europol-ec3",
        audience=audience,
        now=datetime.now(UTC),
    )


# --- the hub ------------------------------------------------------------------------------------


def test_the_hubs_own_series_is_asked_acknowledged_and_answered(
    trial: Federation, tmp_path: Path
) -> None:
    hub, pt, es, us = (trial[a] for a in ("europol-ec3", "pt-pj", "es-gc", "us-ice"))
    series = make_series(hub, tmp_path, "Hub's own")
    made = broadcast(hub, series)
    assert made["originator"] == "europol-ec3"
    assert "who can place this" in made["question"].lower()
    asked = dict.fromkeys(("es-gc", "pt-pj", "us-ice"), "delivered")
    recipients_become(hub, made["id"], asked)
    for node in (pt, es, us):
        entry = entry_of(node, made["id"])
        assert (entry["kind"], entry["state"]) == ("broadcast", "delivered")
        assert (entry["series"]["items"], entry["series"]["name"]) == (3, "")
        assert entry["broadcast"]["recipients"] == {}
    pt.run("inbox", "ack", made["id"]).ok()
    recipients_become(hub, made["id"], asked | {"pt-pj": "acknowledged"})
    assert pt.run("inbox", "ack", made["id"]).code == 1
    pt.run(
        *("inbox", "answer", made["id"], "--assess", "PT", "--confidence", "high"),
        *("--text", "azulejos"),
    ).ok()
    es.run("inbox", "answer", made["id"], "--eliminate", "ES", "--text", "not ours").ok()
    own = make_series(us, tmp_path, "Ours")
    us.run("inbox", "answer", made["id"], "--ours", "Ours").ok()
    seen = recipients_become(hub, made["id"], dict.fromkeys(asked, "answered"))
    answers = {one["agency"]: one for one in seen["answers"]}
    assert (answers["pt-pj"]["kind"], answers["pt-pj"]["country"]) == ("assess", "PT")
    assert (answers["pt-pj"]["confidence"], answers["pt-pj"]["text"]) == ("high", "azulejos")
    assert (answers["es-gc"]["kind"], answers["es-gc"]["country"]) == ("eliminate", "ES")
    assert (answers["us-ice"]["kind"], answers["us-ice"]["series"]) == ("ours", own)
    shown = hub.run("series", "show", series).ok().json
    assert shown["likely_countries"] == ["PT"]
    assert {(a["agency"], a["country"], a["eliminated"]) for a in shown["assessments"]} == {
        ("pt-pj", "PT", False),
        ("es-gc", "ES", True),
    }
    # The circle closes: the country is told.
    (told,) = hub.run("series", "refer", series, *WHY).ok().json["referrals"]
    assert (told["recipient"], told["country"]) == ("pt-pj", "PT")
    assert entry_of(pt, told["id"])["series"]["items"] == 3


def test_only_the_hub_broadcasts_and_only_to_a_group_of_the_directory(
    trial: Federation, tmp_path: Path
) -> None:
    pt, hub = trial["pt-pj"], trial["europol-ec3"]
    own = make_series(pt, tmp_path, "Not the hub's")
    assert pt.run("broadcast", own, "--group", "taskforce", *WHY).code == 3
    series = make_series(hub, tmp_path, "To nobody")
    assert hub.run("broadcast", series, "--group", "unheard-of", *WHY).code == 1
    assert hub.run("broadcast", series, "--group", "taskforce").code == 2
    assert hub.run("broadcast", own, "--group", "taskforce", *WHY).code == 1
    deconfliction = ("--purpose", "deconfliction", "--case", "1")
    assert hub.run("broadcast", series, "--group", "taskforce", *deconfliction).code == 3
    assert hub.rows("SELECT count(*) FROM broadcasts WHERE series = ?", series) == [(0,)]


def test_a_relayed_series_keeps_its_authors_envelope_and_restrictions(
    trial: Federation, tmp_path: Path
) -> None:
    pt, hub, es, us = (trial[a] for a in ("pt-pj", "europol-ec3", "es-gc", "us-ice"))
    pt.run(
        *("series", "create", "Unplaced", "--case", "PT-9", "--handling", "H1"),
        *("--tlp", "green", "--source", "A", "--information", 1, "--reference", "icse:12"),
    ).ok()
    series = make_series(pt, tmp_path, "Unplaced", 4)
    (told,) = (
        pt.run("series", "refer", series, "--agency", "europol-ec3", *WHY).ok().json["referrals"]
    )
    entry_of(hub, told["id"])
    made = broadcast(hub, series, "everyone", "--question", "Whose tram is this?")
    assert made["originator"] == "pt-pj"
    # Not to its author; to the repository too.
    recipients_become(hub, made["id"], dict.fromkeys(("es-gc", "interpol", "us-ice"), "delivered"))
    for node in (es, us, trial["interpol"]):
        entry = entry_of(node, made["id"])
        shown = entry["series"]
        assert shown["owner"] == "pt-pj"
        assert (shown["items"], shown["references"]) == (4, ["icse:12"])
        assert (shown["handling"]["code"], shown["handling"]["tlp"]) == ("H1", "TLP:GREEN")
        assert (shown["handling"]["source"], shown["handling"]["information"]) == ("A", 1)
        group = DirectoryStore(node.home).current().group("everyone")
        payload = payload_of(
            node, made["id"], Audience(group="everyone", group_version=group.version)
        )
        assert payload.broadcast.question == "Whose tram is this?"
        inner = open_payload(
            payload.broadcast.original,
            directory=DirectoryStore(node.home).current(),
            issuer="pt-pj",
            audience=Audience(agency="europol-ec3"),
            now=datetime.now(UTC),
        )
        assert inner.referral.id == told["id"]
        assert (inner.person, inner.case_ref) == ("admin", "2026-118")
        kept = hub.rows(
            "SELECT envelope FROM inbox WHERE subject = ? AND kind = 'referral'", told["id"]
        )
        outer = envelope_pb2.Envelope.FromString(kept[0][0])
        assert payload.broadcast.original == outer, "the very bytes that the author signed"
    es.run("inbox", "answer", made["id"], "--assess", "ES").ok()
    wait_for(
        "the hub learns it",
        lambda: hub.run("series", "show", series).ok().json["likely_countries"] == ["ES"],
    )


def test_what_its_author_restricts_is_not_relayed(trial: Federation, tmp_path: Path) -> None:
    pt, hub = trial["pt-pj"], trial["europol-ec3"]
    pt.run("series", "create", "Kept close", "--handling", "H2", "--case", "PT-9").ok()
    series = make_series(pt, tmp_path, "Kept close", 1)
    (told,) = (
        pt.run("series", "refer", series, "--agency", "europol-ec3", *WHY).ok().json["referrals"]
    )
    entry_of(hub, told["id"])
    refused = hub.run("broadcast", series, "--group", "taskforce", *WHY)
    assert refused.code == 3
    assert "provider" in refused.err


def test_who_left_the_group_meanwhile_gets_nothing_and_holds_nothing_up(
    trial: Federation, tmp_path: Path
) -> None:
    hub, es = trial["europol-ec3"], trial["es-gc"]
    trial.change("group", "passing", "pt-pj", "es-gc", "europol-ec3")
    trial.wait_directory("europol-ec3")
    es.stop()
    made = broadcast(hub, make_series(hub, tmp_path, "Late"), "passing")
    trial.change("group", "passing", "pt-pj", "europol-ec3")
    trial.wait_directory("europol-ec3", "pt-pj")
    es.start()
    recipients_become(hub, made["id"], {"es-gc": "refused", "pt-pj": "delivered"})
    assert made["id"] not in {one["id"] for one in es.inbox()}
    refused = next(
        one
        for one in hub.run("outbox").ok().json["entries"]
        if (one["subject"], one["recipient"]) == (made["id"], "es-gc")
    )
    assert refused["state"] == "refused"
    assert refused["reason"]
    later = make_series(hub, tmp_path, "Later")
    (told,) = hub.run("series", "refer", later, "--agency", "es-gc", *WHY).ok().json["referrals"]
    entry_of(es, told["id"])


# --- the repository -----------------------------------------------------------------------------


def upload(node: Node, series: str) -> Any:
    (made,) = node.run("upload", series, "--to", "interpol", *WHY).ok().json["uploads"]
    return made


def uploads(node: Node, series: str) -> list[Any]:
    """Deposits of a series as a node shows them, oldest first."""
    shown = node.run("uploads").ok().json["uploads"]
    return [one for one in reversed(shown) if one["series"] == series]


def becomes(node: Node, series: str, *states: str) -> list[Any]:
    def look() -> Any:
        found = uploads(node, series)
        return found if tuple(one["state"] for one in found) == states else None

    return wait_for(f"deposits at {node} are {states}", look)


def held_at(node: Node, series: str) -> int:
    """Items that count for a series."""
    return int(
        node.rows(
            "SELECT count(DISTINCT h.item) FROM holdings h JOIN series_keys k ON k.no = h.series_no"
            " JOIN imports m ON m.no = h.import_no WHERE k.id = ? AND m.generation IS NOT NULL",
            series,
        )[0][0]
    )


def test_a_deposit_moves_to_its_number_and_grows_under_it(
    trial: Federation, tmp_path: Path
) -> None:
    pt, repository = trial["pt-pj"], trial["interpol"]
    series = make_series(pt, tmp_path, "Deposit", 5)
    made = upload(pt, series)
    assert (made["state"], made["items"], made["unchanged"]) == ("announced", 5, False)
    (came,) = becomes(repository, series, "announced")
    assert came["id"] == made["id"]
    again = upload(pt, series)
    assert (again["id"], again["unchanged"]) == (made["id"], True)

    def step(state: str, *words: object) -> Any:
        return repository.run("upload", "step", made["id"], "--state", state, *words)

    step("media_requested").ok()
    becomes(pt, series, "media_requested")
    step("media_received", "--reference", "courier 17").ok()
    becomes(pt, series, "media_received")
    assert step("media_requested").code == 1
    assert step("announced").code != 0
    assert pt.run("upload", "step", made["id"], "--state", "numbered").code == 3
    numbered = step("numbered", "--reference", "ICSE-2026-77").ok().json
    assert (numbered["state"], numbered["reference"]) == ("numbered", "ICSE-2026-77")
    (seen,) = becomes(pt, series, "numbered")
    assert seen["reference"] == "ICSE-2026-77"
    again = upload(pt, series)
    assert (again["id"], again["unchanged"], again["state"]) == (made["id"], True, "numbered")

    make_series(pt, tmp_path, "Deposit", 8)  # five are known, three are new
    more = upload(pt, series)
    assert (more["items"], more["unchanged"]) == (3, False)
    first, second = becomes(pt, series, "numbered", "numbered")
    assert (first["id"], second["id"]) == (made["id"], more["id"])
    assert second["reference"] == "ICSE-2026-77"
    assert held_at(repository, series) == 8
    assert len(uploads(repository, series)) == 2
    shown = repository.run("series", "show", series).ok().json
    assert (shown["number"], shown["items"]) == ("ICSE-2026-77", 8)
    rows = pt.rows(
        "SELECT count(*) FROM outbox WHERE kind = 'upload' AND subject IN (?, ?)",
        made["id"],
        more["id"],
    )
    assert rows == [(2,)]
    # A repository answers questions from what was deposited in it.
    file = tmp_path / "ask.txt"
    file.write_text(hashlib.sha1(b"Deposit/7").hexdigest() + "\n")
    answer = trial["es-gc"].ask(file, "--peer", "interpol").ok().json["peers"][0]
    assert len(answer["overlaps"]) == 1


def test_a_number_is_made_where_none_is_given_and_each_series_has_its_own(
    trial: Federation, tmp_path: Path
) -> None:
    pt, repository = trial["pt-pj"], trial["interpol"]
    one = make_series(pt, tmp_path, "Number one", 2)
    other_file = tmp_path / "Number one-0.txt"
    other = pt.import_file(other_file, "--series", "Number two")["series"][0]
    made = pt.run("upload", one, other, "--to", "interpol", *WHY).ok().json["uploads"]
    assert [each["items"] for each in made] == [2, 2]
    references = []
    for series, each in zip((one, other), made, strict=True):
        becomes(repository, series, "announced")
        repository.run("upload", "step", each["id"], "--state", "numbered").ok()
        references.append(becomes(pt, series, "numbered")[0]["reference"])
    assert all(reference.startswith("INTERPOL-") for reference in references)
    assert len(set(references)) == 2


def test_uploads_that_cannot_be_are_refused(trial: Federation, tmp_path: Path) -> None:
    pt = trial["pt-pj"]
    series = make_series(pt, tmp_path, "Nowhere", 1)
    assert pt.run("upload", series, "--to", "es-gc", *WHY).code == 1
    assert pt.run("upload", series, "--to", "xx-none", *WHY).code == 1
    assert pt.run("upload", series, "--to", "interpol").code == 2
    pt.run("series", "create", "Empty").ok()
    assert pt.run("upload", "Empty", "--to", "interpol", *WHY).code == 1
    pt.run("series", "create", "Close", "--handling", "H2").ok()
    make_series(pt, tmp_path, "Close", 1)
    assert pt.run("upload", "Close", "--to", "interpol", *WHY).code == 3
    assert uploads(pt, series) == []


def test_a_large_deposit_goes_on_after_both_sides_were_killed(
    trial: Federation, tmp_path: Path
) -> None:
    es, repository = trial["es-gc"], trial["interpol"]
    series = make_series(es, tmp_path, "Large", _LARGE)
    before = repository.stats()["items"]

    def chunks() -> int:
        return int(repository.rows("SELECT count(*) FROM incoming_chunks")[0][0])

    def room_for(count: int) -> None:
        """No more chunks are taken, so that where somebody is killed is no matter of luck."""
        repository.alter("DROP TRIGGER IF EXISTS room")
        if count:
            repository.alter(
                f"CREATE TRIGGER room BEFORE INSERT ON incoming_chunks"
                f" WHEN (SELECT count(*) FROM incoming_chunks) >= {count}"
                f" BEGIN SELECT RAISE(ABORT, 'no room for another'); END"
            )
        repository.start()

    repository.stop()
    room_for(4)
    made = upload(es, series)
    assert made["items"] == _LARGE
    wait_for("4 chunks have come", lambda: chunks() == 4)
    repository.kill()
    room_for(9)
    # Nothing counts yet, and what came is kept.
    assert repository.stats()["items"] == before
    wait_for("9 chunks have come", lambda: chunks() == 9)
    es.kill()
    repository.stop()
    assert chunks() == 9
    room_for(0)
    es.start()
    becomes(repository, series, "announced")
    assert held_at(repository, series) == _LARGE
    assert repository.stats()["items"] == before + _LARGE
    assert chunks() == 0
    assert repository.rows("SELECT count(*) FROM imports WHERE generation IS NULL") == [(0,)]
    wait_for("it is delivered", lambda: uploads(es, series)[0]["delivery"] == "delivered")

    make_series(es, tmp_path, "Large", 10, start=_LARGE)
    more = upload(es, series)
    assert more["items"] == 10
    becomes(repository, series, "announced", "announced")
    repository.run("upload", "step", made["id"], "--state", "numbered").ok()
    becomes(repository, series, "numbered", "announced")
    assert held_at(repository, series) == _LARGE + 10
    repository.run("upload", "step", more["id"], "--state", "numbered").ok()
    first, second = becomes(es, series, "numbered", "numbered")
    assert first["reference"] == second["reference"]


def test_every_log_verifies(trial: Federation) -> None:
    for node in trial:
        assert tieline("audit", "verify", "--home", node.home, "--json").ok().json["verified"]
