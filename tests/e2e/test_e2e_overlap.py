"""A question between real nodes equals set intersection, and says no more than policy allows.

One federation serves the whole module: pt-pj asks; es-gc, fr-pn and the hub hold; us-ice is outside
the union, ie-gardai refuses by rules of its own, and se-noa is admitted but never runs.
"""

from __future__ import annotations

import base64
import hashlib
import os
import random
import shutil
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tieline.v1 import envelope_pb2
from tieline_client.asked_file import AskedFile
from tieline_client.asked_list import AskedList
from tieline_client.asking import AskOptions
from tieline_client.digests import JUNK, DigestKind
from tieline_client.formats.block_reading import open_blocks
from tieline_client.overlap_answers import Event, PeerAnswer
from tieline_client.payloads import Audience, open_payload
from tieline_server.policy.loading import default_folder
from tieline_server.trust.directory_store import DirectoryStore

from tests.e2e.federation import (
    PURPOSE,
    WHY,
    Federation,
    Node,
    tieline,
    tieline_process,
)

EXACT = ("md5", "sha1", "sha256")
WIDTHS = {"md5": 16, "sha1": 20, "sha256": 32}
STRONGEST = ("sha256", "sha1", "md5")
JUNK_VALUES = {(kind.label, value) for kind, value in JUNK}
LISTED = ("vics:1", "vics-us:2", "vics-uk:1,vics:0")
EXCLUDED = ("vics:0", "vics:3", "vics-uk:A", "other:1", "")
ASKED = 10_000

Row = dict[str, Any]
"""Digests by kind, and ``category`` (as the file says it; "" is none)."""

_MEMBERS = [
    ("pt-pj", "national", "PT"),
    ("es-gc", "national", "ES"),
    ("fr-pn", "national", "FR"),
    ("europol-ec3", "hub"),
    ("us-ice", "national", "US"),
    ("ie-gardai", "national", "IE"),
    ("se-noa", "national", "SE"),
]
_REFUSES = """
@id("not-pt")
@source("a rule of this agency")
@why("this agency does not answer pt-pj")
forbid (principal, action == Action::"ask", resource)
when { principal.id == "pt-pj" };
"""


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    root = tmp_path_factory.mktemp("overlap")
    made = Federation(root).found()
    for agency, role, *countries in _MEMBERS:
        made.init(agency, role, *countries)
    for node in made:
        made.join(node)
    rules = root / "rules"
    shutil.copytree(default_folder(), rules)
    (rules / "90-own.cedar").write_text(_REFUSES)
    try:
        made["ie-gardai"].launch(TIELINE_NODE_POLICIES=str(rules))
        made.start("pt-pj", "es-gc", "fr-pn", "europol-ec3", "us-ice")
        made["ie-gardai"].wait_ready()
        yield made
    finally:
        made.close()


class World:
    """Items that exist; files are made of them, stating any part of their digests."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.items = [self._item() for _ in range(12_000)]
        for item in self.random.sample(self.items, 600):
            # Another content under the MD5 of this one, and one more under its SHA-1.
            other = self._item()
            shared = self.random.choice(("md5", "md5", "sha1"))
            other[shared] = item[shared]
            self.items.append(other)

    def _item(self) -> Row:
        return {kind: self.random.randbytes(WIDTHS[kind]) for kind in EXACT}

    def rows(self, count: int, pool: list[Row]) -> list[Row]:
        """Return rows for a file: any combination of digests, repeats, junk, all categories."""
        draw = self.random
        made: list[Row] = []
        while len(made) < count:
            if made and draw.random() < 0.03:
                made.append(dict(draw.choice(made)))
                continue
            item = draw.choice(pool)
            kinds = draw.sample(EXACT, draw.choice((1, 1, 2, 2, 3)))
            row: Row = {kind: item[kind] for kind in kinds}
            if draw.random() < 0.02:
                kind, value = draw.choice(sorted(JUNK_VALUES & _exact_junk()))
                row[kind] = value
            row["category"] = draw.choice(LISTED if draw.random() < 0.8 else EXCLUDED)
            made.append(row)
        return made


def _exact_junk() -> set[tuple[str, bytes]]:
    return {(kind, value) for kind, value in JUNK_VALUES if kind in EXACT}


def write_csv(path: Path, rows: list[Row]) -> Path:
    """Write our own CSV."""
    lines = ["md5;sha1;sha256;category"]
    for row in rows:
        cells = [row[kind].hex() if kind in row else "" for kind in EXACT]
        lines.append(";".join([*cells, row["category"]]))
    path.write_text("\n".join(lines) + "\n")
    return path


def counts(row: Row) -> bool:
    """Whether a row is in a listed category and says anything of content."""
    listed = {f"vics{token}:{code}" for token in ("", "-us", "-uk") for code in "12"}
    return bool(set(row["category"].split(",")) & listed) and bool(said(row))


def said(row: Row) -> set[tuple[str, bytes]]:
    """The digests of a row that say something."""
    return {(kind, row[kind]) for kind in EXACT if kind in row} - JUNK_VALUES


def asked_digest(rows: list[Row]) -> str:
    """The digest of the list that may be asked abroad, as the wire defines it."""
    total = hashlib.sha256()
    pairs = set().union(*(said(row) for row in rows if counts(row)))
    for kind in EXACT:
        total.update(b"".join(sorted(value for label, value in pairs if label == kind)))
    return total.hexdigest()


def verified_receipt(asker: Node, number: str, folder: Path) -> Any:
    """What a receipt says, as its file is verified; its asker writes the list's salt beside it."""
    file = folder / f"{number}.json"
    asker.run("audit", "receipt", number, file).ok()
    return asker.run("audit", "verify", file).ok().json


def says_list(detail: Any, digest: str) -> bool:
    """Whether an entry names this list: by its digest, salted."""
    salt = bytes.fromhex(detail["list_salt"])
    made: str = hashlib.sha256(salt + bytes.fromhex(digest)).hexdigest()
    return bool(detail["list_digest"] == made)


def peers_of(document: Any) -> dict[str, Any]:
    """Answers by agency."""
    return {peer["agency"]: peer for peer in document["peers"]}


@pytest.fixture(scope="module")
def exact(trial: Federation, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """10,000 mixed records asked of three nodes: what was held and asked, and the answer."""
    folder, world = tmp_path_factory.mktemp("exact"), World(20260118)
    shuffled = world.random.sample(world.items, len(world.items))
    held: dict[str, list[Row]] = {}
    for index, agency in enumerate(("es-gc", "fr-pn", "europol-ec3")):
        pool = shuffled[index * 3_000 : index * 3_000 + 5_000]
        held[agency] = world.rows(6_000, pool)
        file = write_csv(folder / f"{agency}.csv", held[agency])
        report = trial[agency].import_file(file)
        assert report["records"] == 6_000
        set_aside = [row for row in held[agency] if not said(row)]
        kept = [row for row in held[agency] if counts(row)]
        assert report["excluded"] == 6_000 - len(kept) - len(set_aside)
    asked = world.rows(ASKED, world.items)
    file = write_csv(folder / "asked.csv", asked)
    answer = tieline_process(
        *("overlap", file, *WHY, "--peer", "es-gc", "--peer", "fr-pn", "--peer", "europol-ec3"),
        *("--home", trial["pt-pj"].home, "--json"),
    ).ok()
    return held, asked, answer.json


@pytest.mark.parametrize("agency", ["es-gc", "fr-pn", "europol-ec3"])
def test_an_exact_answer_is_set_intersection_on_any_shared_digest(exact: Any, agency: str) -> None:
    held, asked, document = exact
    digests = set().union(*(said(row) for row in held[agency] if counts(row)))
    expected: dict[int, tuple[str, str]] = {}
    for number, row in enumerate(asked, start=1):
        shared = said(row) & digests if counts(row) else set()
        if shared:
            name = next(kind for kind in STRONGEST if kind in {one for one, _ in said(row)})
            matched = next(kind for kind in STRONGEST if kind in {one for one, _ in shared})
            expected[number] = (f"{name}:{row[name].hex()}", matched)
    assert 1_000 < len(expected) < ASKED / 2
    answer = peers_of(document)[agency]
    assert answer["status"] == "answered"
    found = {one["record"]: (one["asked"], one["matched"]) for one in answer["overlaps"]}
    assert found == expected
    assert len(answer["overlaps"]) == len(expected)
    assert all(one["match"] == "exact" and one["distance"] == 0 for one in answer["overlaps"])


@pytest.mark.parametrize("agency", ["es-gc", "fr-pn", "europol-ec3"])
def test_what_is_excluded_is_neither_stored_nor_asked(
    trial: Federation, exact: Any, agency: str, tmp_path: Path
) -> None:
    held, asked, document = exact
    admitted = [row for row in asked if counts(row)]
    assert document["asked"] == len(admitted)
    assert document["asked"] + document["excluded"] == ASKED
    entry = _answered(trial[agency], peers_of(document)[agency], trial["pt-pj"])
    assert entry["detail"]["records"] == len(admitted)
    receipt = verified_receipt(trial["pt-pj"], peers_of(document)[agency]["receipt"], tmp_path)
    salted = hashlib.sha256(bytes.fromhex(receipt["list_salt"] + asked_digest(asked))).hexdigest()
    assert receipt["list_digest"] == salted
    assert says_list(entry["detail"], salted)
    stored = set().union(*(said(row) for row in held[agency] if counts(row)))
    columns = trial[agency].rows("SELECT md5, sha1, sha256 FROM items")
    fills = trial[agency].rows("SELECT kind, value FROM item_fills WHERE kind <= 3")
    labels = {int(DigestKind[kind.upper()]): kind for kind in EXACT}
    found = {(kind, row[index]) for row in columns for index, kind in enumerate(EXACT)}
    found |= {(labels[kind], value) for kind, value in fills}
    assert {pair for pair in found if pair[1] is not None} == stored


def _receipt(asker: Node, answer: Any) -> tuple[Any, Any]:
    """Return the verified payload of a peer's receipt as the asker keeps it, and its entry."""
    entries = asker.audit("--series", answer["receipt"], "--action", "query.result")
    assert len(entries) == 1
    raw = base64.b64decode(entries[0]["detail"]["receipt"])
    payload = open_payload(
        envelope_pb2.Envelope.FromString(raw),
        directory=DirectoryStore(asker.home).current(),
        issuer=answer["agency"],
        audience=Audience(agency=asker.agency),
        now=datetime.now(UTC),
    )
    return payload, entries[0]


def _answered(peer: Node, answer: Any, asker: Node) -> Any:
    """Return the entry of the peer that belongs to the receipt the asker has."""
    request = _receipt(asker, answer)[0].receipt.request
    entries = peer.audit("--series", request, "--action", "query.answered")
    assert len(entries) == 1
    return entries[0]


@pytest.mark.parametrize("agency", ["es-gc", "fr-pn", "europol-ec3"])
def test_each_receipt_verifies_and_both_logs_say_who_asked_and_why(
    trial: Federation, exact: Any, agency: str
) -> None:
    asker, answer = trial["pt-pj"], peers_of(exact[2])[agency]
    payload, result = _receipt(asker, answer)
    assert payload.id == answer["receipt"]
    assert payload.receipt.disclosure == "hit"
    why = {"person": "admin", "purpose": PURPOSE, "case": "2026-118"}
    asked = [
        entry
        for entry in asker.audit("--action", "query.asked")
        if entry["detail"]["records"] == exact[2]["asked"]
    ]
    assert len(asked) == 1
    assert agency in asked[0]["detail"]["peers"]
    assert says_list(asked[0]["detail"], asked_digest(exact[1]))
    answered = _answered(trial[agency], answer, asker)
    assert payload.receipt.hits == answered["detail"]["hits"] > 0
    assert answered["peer"] == "pt-pj"
    assert result["peer"] == agency
    for entry in (asked[0], result, answered):
        assert {key: entry[key] for key in why} == why
    disclosed = trial[agency].audit("--series", payload.receipt.request, "--action", "query")
    items = {item for entry in disclosed for item in entry["detail"].get("items", ())}
    assert items
    known = {row[0] for row in trial[agency].rows("SELECT id FROM items")}
    assert items <= known


# --- near ---------------------------------------------------------------------------------------


def _near_by(draw: np.random.Generator, digest: bytes, distance: int) -> bytes:
    bits = np.unpackbits(np.frombuffer(digest, dtype=np.uint8))
    bits[draw.choice(256, distance, replace=False)] ^= 1
    return np.packbits(bits).tobytes()


def test_a_near_answer_is_brute_force_at_radius_31(trial: Federation, tmp_path: Path) -> None:
    draw = np.random.default_rng(31)
    asked = [draw.bytes(32) for _ in range(1_000)]
    held = [_near_by(draw, one, index % 41) for index, one in enumerate(asked[:900])]
    held += [_near_by(draw, asked[0], 31), _near_by(draw, asked[0], 32)]
    held += [draw.bytes(32) for _ in range(3_000)]
    exact = hashlib.sha1(b"beside").digest()
    lines = ["pdq;quality;sha1"]
    lines += [
        f"{one.hex()};100;{exact.hex() if index == 5 else ''}" for index, one in enumerate(held)
    ]
    source = tmp_path / "held.csv"
    source.write_text("\n".join(lines) + "\n")
    trial["fr-pn"].import_file(source)
    question = tmp_path / "asked.csv"
    rows = [
        f"{one.hex()};90;{exact.hex() if index == 999 else ''}" for index, one in enumerate(asked)
    ]
    question.write_text("\n".join(["pdq;quality;sha1", *rows]) + "\n")

    answer = trial["pt-pj"].ask(question, "--near", "--peer", "fr-pn").ok().json["peers"][0]

    matrix = np.frombuffer(b"".join(held), dtype=np.uint64).reshape(-1, 4)
    expected = {}
    for number, one in enumerate(asked, start=1):
        far = matrix ^ np.frombuffer(one, dtype=np.uint64)
        least = int(np.unpackbits(far.view(np.uint8), axis=1).sum(axis=1).min())
        if least <= 31:
            expected[number] = ("near", "pdq", least)
    planted = {distance for _, _, distance in expected.values()}
    assert planted == set(range(32))
    expected[1_000] = ("exact", "sha1", 0)
    found = {
        one["record"]: (one["match"], one["matched"], one["distance"]) for one in answer["overlaps"]
    }
    assert found == expected
    assert not answer["truncated"]
    without = trial["pt-pj"].ask(question, "--peer", "fr-pn").ok().json["peers"][0]
    assert [one["record"] for one in without["overlaps"]] == [1_000]


# --- who answers --------------------------------------------------------------------------------


def _list(path: Path, *digests: str) -> Path:
    path.write_text("".join(f"{digest}\n" for digest in digests))
    return path


def _sha1(text: str) -> str:
    return f"sha1:{hashlib.sha1(text.encode()).hexdigest()}"


def _md5(text: str) -> str:
    return f"md5:{hashlib.md5(text.encode()).hexdigest()}"


def test_a_peer_that_is_down_or_hangs_delays_nobody(trial: Federation, tmp_path: Path) -> None:
    held = _list(tmp_path / "held.txt", _sha1("everywhere"))
    for agency in ("es-gc", "fr-pn", "europol-ec3"):
        trial[agency].import_file(held)
    hanging = trial["fr-pn"].process
    assert hanging is not None
    wanted = ("es-gc", "fr-pn", "europol-ec3", "se-noa")
    released = threading.Event()
    ends: list[tuple[str, str, bool]] = []

    def on_event(event: Event) -> None:
        if isinstance(event, PeerAnswer):
            ends.append((event.agency, event.status, released.is_set()))
            if {agency for agency, _, _ in ends} == set(wanted) - {"fr-pn"}:
                released.set()

    os.kill(hanging.pid, signal.SIGSTOP)
    try:
        with trial["pt-pj"].client() as client:
            options = AskOptions(PURPOSE, "C-2", wanted, deadline_seconds=15)
            client.ask_overlap(AskedFile("held.txt", open_blocks(held)), options, on_event)
    finally:
        os.kill(hanging.pid, signal.SIGCONT)
    assert [agency for agency, _, _ in ends][-1] == "fr-pn"
    states = {agency: status for agency, status, _ in ends}
    assert states == {
        "es-gc": "answered",
        "europol-ec3": "answered",
        "se-noa": "unreachable",
        "fr-pn": "unreachable",
    }
    assert [after for agency, _, after in ends if agency != "fr-pn"] == [False, False, False]

    answer = trial["pt-pj"].ask(held, *(word for one in wanted for word in ("--peer", one)))
    assert answer.code == 4
    peers = peers_of(answer.json)
    assert "se-noa" in answer.err
    assert peers["se-noa"]["reason"]
    assert peers["fr-pn"]["status"] == "answered"
    assert len(peers["fr-pn"]["overlaps"]) == 1


def test_a_peer_refuses_by_its_own_rules_and_logs_it(trial: Federation, tmp_path: Path) -> None:
    file = _list(tmp_path / "one.txt", _sha1("one"))
    before = len(trial["ie-gardai"].audit("--action", "refusal"))
    answer = trial["pt-pj"].ask(file, "--peer", "ie-gardai", "--peer", "es-gc").ok()
    peers = peers_of(answer.json)
    assert peers["ie-gardai"]["status"] == "refused"
    assert "does not answer pt-pj" in peers["ie-gardai"]["reason"]
    assert peers["es-gc"]["status"] == "answered"
    assert "ie-gardai" in answer.err
    refusals = trial["ie-gardai"].audit("--action", "refusal")
    assert len(refusals) == before + 1
    assert refusals[-1]["peer"] == "pt-pj"
    assert refusals[-1]["detail"]["reason"] == "POLICY_REFUSED"
    assert trial["pt-pj"].ask(file, "--peer", "ie-gardai").code == 3


def test_outside_the_union_an_agreement_opens_the_door(trial: Federation, tmp_path: Path) -> None:
    file = _list(tmp_path / "us.txt", _sha1("us"))
    trial["us-ice"].import_file(file)
    for asker, peer in (("pt-pj", "us-ice"), ("us-ice", "pt-pj")):
        answer = trial[asker].ask(file, "--peer", peer)
        assert answer.code == 3
        assert answer.json["peers"][0]["status"] == "refused"
        assert "agreement" in answer.json["peers"][0]["reason"]
        logged = trial[asker].audit("--action", "query.asked")[-1]
        assert logged["detail"]["peers"] == []
        assert "agreement" in logged["detail"]["refused"][peer]
    assert "us-ice" not in peers_of(trial["pt-pj"].ask(file).json)
    trial.change("agreement", "us-ice", "--basis", "EU-US MLA 2003")
    trial.wait_directory("pt-pj", "us-ice")
    answer = trial["pt-pj"].ask(file, "--peer", "us-ice").ok()
    assert [one["asked"] for one in answer.json["peers"][0]["overlaps"]] == [_sha1("us")]
    assert trial["us-ice"].ask(file, "--peer", "pt-pj").ok().json["peers"][0]["overlaps"] == []
    assert "us-ice" in peers_of(trial["pt-pj"].ask(file).json)


# --- what is told -------------------------------------------------------------------------------


def test_an_md5_with_two_contents_is_flagged(trial: Federation, tmp_path: Path) -> None:
    md5 = hashlib.md5(b"twice").hexdigest()
    one, other, third = (hashlib.sha1(text).hexdigest() for text in (b"1st", b"2nd", b"3rd"))
    held = tmp_path / "held.csv"
    held.write_text(f"md5;sha1\n{md5};{one}\n{md5};{other}\n")
    report = trial["es-gc"].import_file(held)
    assert report["conflicts"] == 1
    asked = tmp_path / "asked.csv"
    asked.write_text(f"md5;sha1\n{md5};\n{md5};{one}\n{md5};{third}\n;{other}\n")
    answer = trial["pt-pj"].ask(asked, "--peer", "es-gc").ok().json["peers"][0]
    found = {one["record"]: (one["matched"], one["ambiguous"]) for one in answer["overlaps"]}
    assert found == {1: ("md5", True), 2: ("sha1", False), 3: ("md5", True), 4: ("sha1", False)}


def test_a_hit_is_learnt_at_once_and_references_after_a_persons_release(
    trial: Federation, tmp_path: Path
) -> None:
    node = trial["fr-pn"]
    file = _list(tmp_path / "levels.txt", _sha1("levels"), _sha1("more"))
    made = node.run(
        *("series", "create", "Child's name", "--reference", "icse:4711", "--case", "FR-7"),
        *("--contact-name", "Desk 7", "--contact-phone", "+33"),
    ).ok()
    node.import_file(file, "--series", "Child's name")

    for asker in ("pt-pj", "europol-ec3"):
        answer = trial[asker].ask(file, "--peer", "fr-pn").ok().json["peers"][0]
        assert [one["disclosure"] for one in answer["overlaps"]] == ["hit", "hit"]
        assert all(one["series"] == [] for one in answer["overlaps"])
        assert "person" in answer["reason"]

    node.run("requests", "approve", answer["request"]).ok()
    hub = trial["europol-ec3"].ask(file, "--peer", "fr-pn").ok().json["peers"][0]
    assert [one["disclosure"] for one in hub["overlaps"]] == ["reference", "reference"]
    assert hub["count"] == 2
    for one in hub["overlaps"]:
        (handling,) = [series.pop("handling") for series in one["series"]]
        assert handling.pop("retain_until") > "2026"
        assert handling == {
            "code": "H0", "tlp": "TLP:AMBER", "source": "X", "information": 4, "restriction": "",
        }  # fmt: skip
        assert one["series"] == [
            {
                "id": made.json["id"],
                "name": "",
                "status": "new",
                "references": ["icse:4711"],
                "contact": {"name": "Desk 7", "email": "", "phone": "+33"},
            }
        ]


def test_restricted_holdings_are_not_disclosed(trial: Federation, tmp_path: Path) -> None:
    node = trial["es-gc"]
    secret = _list(tmp_path / "h3.txt", _sha1("h3"))
    node.import_file(secret, "--handling", "H3", "--restriction", "ask the judge first")
    red = _list(tmp_path / "red.txt", _sha1("red"))
    node.import_file(red, "--tlp", "red")
    both = _list(tmp_path / "both.txt", _sha1("h3"), _sha1("red"))
    national = trial["pt-pj"].ask(both, "--peer", "es-gc").ok().json["peers"][0]
    assert national["overlaps"] == []
    hub = trial["europol-ec3"].ask(both, "--peer", "es-gc").ok().json["peers"][0]
    assert [(one["asked"], one["disclosure"]) for one in hub["overlaps"]] == [(_sha1("red"), "hit")]
    assert hub["overlaps"][0]["series"] == []
    # The same item held in another case under ordinary handling: that holding may be answered.
    node.import_file(_list(tmp_path / "open.txt", _sha1("h3"), _sha1("open")), "--case", "C-9")
    national = trial["pt-pj"].ask(both, "--peer", "es-gc").ok().json["peers"][0]
    assert [one["asked"] for one in national["overlaps"]] == [_sha1("h3")]


def test_known_good_files_are_not_asked_abroad(trial: Federation, tmp_path: Path) -> None:
    good = _list(tmp_path / "good.txt", _sha1("kernel32"))
    trial["pt-pj"].import_file(good, "--as", "exclusions")
    asked = _list(tmp_path / "asked.txt", _sha1("kernel32"), _sha1("picture"))
    answer = trial["pt-pj"].ask(asked, "--peer", "es-gc").ok().json
    assert (answer["asked"], answer["excluded"]) == (1, 1)


def test_a_known_good_record_is_asked_by_none_of_its_digests(
    trial: Federation, tmp_path: Path
) -> None:
    both = tmp_path / "both.csv"
    lines = [f"{_sha1(name)[5:]};{_md5(name)[4:]};vics-us:1" for name in ("benign", "not benign")]
    both.write_text("\n".join(["sha1;md5;category", *lines]) + "\n")
    trial["fr-pn"].import_file(both)
    good = _list(tmp_path / "good.txt", _sha1("benign"))
    trial["pt-pj"].import_file(good, "--as", "exclusions")
    answer = trial["pt-pj"].ask(both, "--peer", "fr-pn").ok().json
    assert (answer["asked"], answer["excluded"]) == (1, 1)
    assert [one["record"] for one in answer["peers"][0]["overlaps"]] == [2]


def test_a_long_list_is_asked_while_it_comes_in(trial: Federation, tmp_path: Path) -> None:
    draw = np.random.default_rng(60)
    held = draw.integers(0, 256, (300, 20), dtype=np.uint8)
    file = _list(tmp_path / "long.txt", *(f"sha1:{row.tobytes().hex()}" for row in held))
    trial["fr-pn"].import_file(file)
    others = draw.integers(0, 256, (120_000, 20), dtype=np.uint8)
    rows = np.concatenate([others, held])
    for asker in ("pt-pj", "europol-ec3"):  # with exclusion lists, and without
        events: list[Event] = []
        with trial[asker].client() as client:
            asked = AskedList.from_digests(DigestKind.SHA1, rows)
            options = AskOptions(PURPOSE, "C-60", ("fr-pn", "es-gc"))
            client.ask_overlap(asked, options, events.append)
        found = {one.agency: one for one in events if isinstance(one, PeerAnswer)}
        assert {one.status for one in found.values()} == {"answered"}
        records = [one.record for one in found["fr-pn"].overlaps()]
        assert records == list(range(120_001, 120_301))
        assert len(found["es-gc"].matches) == 0


def test_a_collection_is_compared_series_by_series(trial: Federation, tmp_path: Path) -> None:
    hub, holder = trial["europol-ec3"], trial["fr-pn"]
    own = _list(tmp_path / "own.txt", *(_sha1(f"kept {n}") for n in range(50)))
    theirs = _list(tmp_path / "theirs.txt", *(_sha1(f"kept {n}") for n in range(40, 70)))
    (own_id,) = hub.import_file(own, "--series", "Eigene")["series"]
    (their_id,) = holder.import_file(theirs, "--series", "La leur")["series"]
    words = ("overlap", "--collection", "--peer", "fr-pn", *WHY, "--json")
    (peer,) = hub.run(*words).ok().json["peers"]
    assert {one["theirs"] for one in peer["series"]} == {None}
    holder.run("requests", "approve", peer["request"]).ok()
    document = hub.run(*words).ok().json
    (peer,) = document["peers"]
    assert (peer["status"], peer["overlaps"]) == ("answered", [])
    (pair,) = [one for one in peer["series"] if one["own"] == own_id]
    assert (pair["theirs"], pair["shared"]) == (their_id, 10)
    assert (pair["own_total"], pair["their_total"]) == (50, 30)
    assert document["asked"] == hub.stats()["items"] - document["excluded"]
    entries = hub.audit("--series", peer["receipt"], "--action", "query.result")
    assert [entry["peer"] for entry in entries] == ["fr-pn"]


def test_why_is_always_said_and_must_be_listed(trial: Federation, tmp_path: Path) -> None:
    file = _list(tmp_path / "why.txt", _sha1("why"))
    home = trial["pt-pj"].home
    for words in (
        (),
        ("--purpose", PURPOSE),
        ("--case", "C-1"),
        ("--purpose", PURPOSE, "--case", " "),
    ):
        refused = tieline("overlap", file, *words, "--home", home, "--json")
        assert refused.code == 2
        assert refused.out == ""
        assert len(refused.err.strip().splitlines()) == 1
    unknown = trial["pt-pj"].run("overlap", file, "--purpose", "curiosity", "--case", "C-1")
    assert unknown.code != 0
    assert "curiosity" in unknown.err
    # The hub may not ask for prosecution: the directory knows the purpose, policy does not list it.
    hub = trial["europol-ec3"].run(
        "overlap", file, "--purpose", "prosecution", "--case", "C-1", "--peer", "es-gc"
    )
    assert hub.code == 3
    assert hub.json["peers"][0]["status"] == "refused"
    trial.change("purpose", "statistics", "Counting")
    trial.wait_directory("pt-pj", "es-gc")
    fresh = trial["pt-pj"].run("overlap", file, "--purpose", "statistics", "--case", "C-1")
    assert fresh.code == 3
    assert fresh.json["peers"] == []


def test_every_log_verifies(trial: Federation, tmp_path: Path) -> None:
    for node in trial:
        if not node.running:
            continue
        before = node.rows("SELECT count(*) FROM audit_leaves")[0][0]
        said = node.run("audit", "verify").ok().json
        after = node.rows("SELECT count(*) FROM audit_leaves")[0][0]
        assert said["verified"]
        assert before <= said["entries"] <= after
        export = tmp_path / f"{node.agency}.jsonl"
        node.run("audit", "export", export).ok()
        assert tieline("audit", "verify", export, "--json").ok().json["verified"]
