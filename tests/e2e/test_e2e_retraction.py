"""A withdrawn series leaves every file of everybody who was told; the owner sees who confirmed.

Real nodes. What has to go is first found, byte by byte, in the recipients' files (database, its
log, indexes, logs), as bytes and as hex, and then found in none of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tieline_client.digests import DigestKind
from tieline_server.matching.chunks import permutation
from tieline_server.matching.files import FolderStore
from tieline_server.matching.mixing import mix_keys
from tieline_server.matching.snapshot import Mixer

from tests.e2e.federation import WHY, Federation, Node, federation, wait_for
from tests.searching import found_in

_MEMBERS = [
    ("pt-pj", "national", "PT"),
    ("es-gc", "national", "ES"),
    ("fr-of", "national", "FR"),
    ("de-bka", "national", "DE"),
    ("europol-ec3", "hub"),
    ("interpol", "repository"),
]
_GROUPS = [("desks", "de-bka", "europol-ec3")]
OWNER, HUB, REPOSITORY = "pt-pj", "europol-ec3", "interpol"
CLUE = "a blue curtain with embroidered anchors"
GROUNDS = "the wall sockets are of a kind sold only there"
MAIL = "inspector.almeida@pt-pj.example"
REFERENCE = "77123-Q"
COUNT, HASHED = 400, 20


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with federation(tmp_path_factory.mktemp("retraction"), _MEMBERS, groups=_GROUPS) as made:
        yield made


@pytest.fixture(autouse=True)
def _all_run(trial: Federation) -> None:
    for node in trial:
        if not node.running:
            node.start()


class Story:
    """One series of the owner's, and where it went."""

    def __init__(self, trial: Federation, folder: Path, name: str) -> None:
        self.trial, self.name, self.owner = trial, name, trial[OWNER]
        self.sha1s = [hashlib.sha1(f"{name}/{n}".encode()).digest() for n in range(COUNT)]
        self.pdqs = [hashlib.sha256(f"{name}/{n}".encode()).digest() for n in range(HASHED)]
        created = self.owner.run(
            *("series", "create", name, "--clues", f"{name}: {CLUE}", "--case", "2026-118"),
            *("--contact-name", "Almeida", "--contact-email", f"{name}.{MAIL}"),
            *("--reference", f"icse:{name}-{REFERENCE}"),
        ).ok()
        self.id = str(created.json["id"])
        self.owner.run(
            *("series", "assess", self.id, "--country", "ES", "--confidence", "high"),
            *("--grounds", f"{name}: {GROUNDS}"),
        ).ok()
        lines = [f"sha1:{one.hex()}" for one in self.sha1s]
        lines += [f"pdq:{one.hex()}" for one in self.pdqs]
        path = folder / f"{name}.txt"
        path.write_text("\n".join(lines) + "\n")
        self.owner.import_file(path, "--series", name)

    def refer(self, agency: str) -> None:
        self.owner.run("series", "refer", self.id, "--agency", agency, *WHY).ok()
        self.arrives(agency)

    def entry(self, agency: str) -> Any:
        def look() -> Any:
            for one in self.trial[agency].inbox():
                told = one["referral"] or one["broadcast"]
                if told["series"] == self.id:
                    return one
            return None

        return wait_for(f"{agency} has {self.id}", look)

    def arrives(self, agency: str) -> None:
        self.entry(agency)

    def pass_on(self, agency: str, to: str) -> None:
        entry = self.entry(agency)
        self.trial[agency].run("inbox", "pass-on", entry["id"], "--to", to).ok()
        self.arrives(to)

    def broadcast(self) -> None:
        self.trial[HUB].run("broadcast", self.id, "--group", "desks", *WHY).ok()
        self.arrives("de-bka")

    def upload(self) -> None:
        self.owner.run("upload", self.id, "--to", REPOSITORY, *WHY).ok()

        def look() -> bool:
            shown = self.trial[REPOSITORY].run("uploads").ok().json["uploads"]
            return any(one["series"] == self.id for one in shown)

        wait_for("the deposit is there", look)

    # --- what the owner sees ---

    def shown(self) -> Any:
        return self.owner.run("series", "show", self.id).ok().json

    def states(self) -> dict[str, str]:
        return {one["agency"]: one["state"] for one in self.shown()["retraction"]["recipients"]}

    def become(self, **states: str) -> None:
        wanted = {agency.replace("_", "-"): state for agency, state in states.items()}
        wait_for(f"the owner sees {wanted}", lambda: self.states() == wanted)

    # --- what the files hold ---

    def needles(self) -> dict[str, bytes]:
        """What a search looks for, by name."""
        texts = {
            "clue": f"{self.name}: {CLUE}",
            "grounds": f"{self.name}: {GROUNDS}",
            "contact": f"{self.name}.{MAIL}",
            "reference": f"{self.name}-{REFERENCE}",
        }
        return {name: text.encode() for name, text in texts.items()}

    def in_files(self, node: Node) -> dict[str, int]:
        """How often what has to go is in the files of a node's home and its log; raw and hex."""
        data = b"\0".join(path.read_bytes() for path in files_of(node))
        found = {name: data.count(needle) for name, needle in self.needles().items()}
        for kind, digests in (("sha1", self.sha1s), ("pdq", self.pdqs)):
            found[kind] = len(found_in(data, digests))
            lower = [one.hex().encode() for one in digests]
            written = found_in(data, [*lower, *(one.upper() for one in lower)])
            found[f"{kind} hex"] = len({one.lower() for one in written})
        return found | self.in_index(node)

    def in_index(self, node: Node) -> dict[str, int]:
        """The same for what stands in the index's files: digests under the index's own key."""
        folder = node.home / "indexes"
        manifest = FolderStore(folder).manifest()
        if manifest is None:
            return {"sha1 indexed": 0, "pdq indexed": 0}
        secret = bytes.fromhex(manifest["secret"])
        mixer = Mixer(mix_keys(secret), permutation(secret))
        data = b"\0".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
        found = {}
        for kind, digests in ((DigestKind.SHA1, self.sha1s), (DigestKind.PDQ, self.pdqs)):
            rows = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, kind.width)
            mixed = mixer.rows(kind, rows.copy())
            found[f"{kind.label} indexed"] = len(found_in(data, (row.tobytes() for row in mixed)))
        return found


def files_of(node: Node) -> list[Path]:
    return [path for path in [*node.home.rglob("*"), node.log] if path.is_file()]


def restarted(node: Node) -> None:
    """Stop and start it: an index that was in memory is in files from here on."""
    node.stop()
    node.start()


EVERYTHING = {
    **{"sha1": COUNT, "pdq": HASHED, "sha1 indexed": COUNT, "pdq indexed": HASHED},
    **dict.fromkeys(("sha1 hex", "pdq hex"), 0),
}
NOTHING = dict.fromkeys((*EVERYTHING, "clue", "grounds", "contact", "reference"), 0)


def held(found: dict[str, int]) -> bool:
    """Whether a search found all that was told: every digest, and each text at least once."""
    texts = ("clue", "grounds", "contact", "reference")
    digests = {name: count for name, count in found.items() if name not in texts}
    return digests == EVERYTHING and all(found[name] for name in texts)


def test_a_withdrawn_series_is_in_no_file_of_anybody_who_was_told(
    trial: Federation, tmp_path: Path
) -> None:
    story = Story(trial, tmp_path, "Azul")
    other = Story(trial, tmp_path, "Verde")  # stays, so that pages hold both
    for one in (story, other):
        one.refer("es-gc")
        one.refer(HUB)
        one.upload()
        one.pass_on("es-gc", "fr-of")
        one.broadcast()
    recipients = ("es-gc", "fr-of", "de-bka", HUB, REPOSITORY)
    for agency in recipients:
        restarted(trial[agency])
        assert held(story.in_files(trial[agency])), (agency, story.in_files(trial[agency]))
    before = {agency: trial[agency].stats()["items"] for agency in recipients}
    trial["fr-of"].stop()
    asked = tmp_path / "asked.txt"
    asked.write_text(f"sha1:{story.sha1s[0].hex()}\n")
    answer = trial["es-gc"].ask(asked, "--peer", OWNER).ok().json["peers"][0]
    assert len(answer["overlaps"]) == 1

    story.owner.run("series", "withdraw", story.id, "--reason", "ordered by the court").ok()
    answer = trial["es-gc"].ask(asked, "--peer", OWNER).ok().json["peers"][0]
    assert answer["overlaps"] == []
    story.become(
        es_gc="confirmed", europol_ec3="confirmed", interpol="confirmed",
        de_bka="confirmed", fr_of="queued",
    )  # fmt: skip
    for agency in ("es-gc", "de-bka", HUB, REPOSITORY):
        assert story.in_files(trial[agency]) == NOTHING, agency
        assert trial[agency].stats()["items"] == before[agency] - COUNT - HASHED
        assert held(other.in_files(trial[agency])), agency
    trial["fr-of"].start()
    everybody = ("es_gc", "europol_ec3", "interpol", "de_bka", "fr_of")
    story.become(**dict.fromkeys(everybody, "confirmed"))
    assert story.in_files(trial["fr-of"]) == NOTHING

    shown = story.shown()
    assert (shown["status"], shown["items"]) == ("withdrawn", COUNT + HASHED)
    via = {one["agency"]: one["via"] for one in shown["retraction"]["recipients"]}
    assert via == {
        **dict.fromkeys(("es-gc", HUB, REPOSITORY)),
        "fr-of": "es-gc",
        "de-bka": HUB,
    }
    assert all(one["erased"] for one in shown["retraction"]["recipients"])
    clock = story.owner.run("clock", "--series", story.id).ok().json["referrals"]
    assert {one["state"] for one in clock} == {"withdrawn"}
    uploads = story.owner.run("uploads").ok().json["uploads"]
    assert {one["state"] for one in uploads if one["series"] == story.id} == {"withdrawn"}
    assert story.entry("es-gc")["state"] == "withdrawn"
    for agency in recipients:
        assert trial[agency].audit("--action", "retraction.erased")


def test_a_node_that_is_killed_between_erasing_and_its_receipt_goes_on_where_it_was(
    trial: Federation, tmp_path: Path
) -> None:
    story = Story(trial, tmp_path, "Rubro")
    spain = trial["es-gc"]
    story.refer("es-gc")
    restarted(spain)
    assert held(story.in_files(spain))
    database = spain.home / "database.sqlite3"
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as reader:
        # A reader of what was keeps the log from being emptied, so the receipt has to wait.
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM items").fetchone()
        story.owner.run("series", "withdraw", story.id, "--reason", "consent was withdrawn").ok()

        def state() -> str:
            rows = spain.rows("SELECT state FROM purges WHERE series = ?", story.id)
            return str(rows[0][0]) if rows else ""

        wait_for("it is out of the tables", lambda: state() == "erased")
        wait_for("the owner knows", lambda: story.states() == {"es-gc": "delivered"})
        spain.kill()
        assert story.states() == {"es-gc": "delivered"}
        assert state() == "erased"
    spain.start()
    story.become(es_gc="confirmed")
    assert state() == "done"
    assert story.in_files(spain) == NOTHING
    (retraction,) = spain.rows("SELECT id FROM retractions WHERE series = ?", story.id)
    receipts = spain.rows("SELECT kind FROM outbox WHERE subject = ?", *retraction)
    assert receipts == [("purge_receipt",)]


def test_narrowing_leaves_out_who_is_not_named_and_what_is_queued_never_leaves(
    trial: Federation, tmp_path: Path
) -> None:
    story = Story(trial, tmp_path, "Ambar")
    france, germany = trial["fr-of"], trial["de-bka"]
    story.refer("es-gc")
    story.refer("fr-of")
    germany.stop()
    story.owner.run("series", "refer", story.id, "--agency", "de-bka", *WHY).ok()
    shown = story.owner.run(
        *(
            "series",
            "narrow",
            story.id,
            "--only",
            "es-gc",
            "--handling",
            "H2",
            "--tlp",
            "amber+strict",
        ),
    ).ok()
    assert shown.json["handling"]["code"] == "H2"
    story.become(es_gc="confirmed", fr_of="confirmed", de_bka="queued")
    assert story.in_files(france) == NOTHING
    germany.start()
    story.become(es_gc="confirmed", fr_of="confirmed", de_bka="confirmed")
    assert germany.rows("SELECT count(*) FROM referrals WHERE series = ?", story.id) == [(0,)]
    assert germany.rows("SELECT count(*) FROM inbox WHERE kind = 'referral'") == [(0,)]
    assert story.in_files(germany) == NOTHING
    cancelled = story.owner.run("outbox", "--state", "cancelled").ok().json["entries"]
    assert [one["recipient"] for one in cancelled] == ["de-bka"]
    kept = trial["es-gc"].run("series", "show", story.id).ok().json
    assert (kept["handling"]["code"], kept["handling"]["tlp"]) == ("H2", "TLP:AMBER+STRICT")
    refused = story.owner.run("series", "refer", story.id, "--agency", "fr-of", *WHY)
    assert refused.code == 3
    loosened = story.owner.run("series", "narrow", story.id, "--handling", "H1")
    assert loosened.code == 1
