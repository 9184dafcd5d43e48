"""`tieline watch`: what goes out, what is shown of what comes back, and VICS alerts both ways."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from grpc import ServicerContext, StatusCode
from tieline.v1 import operator_watches_pb2 as pb
from tieline_client.formats.vics_alerts import AlertHit, AlertHitNotification, read_alerts
from tieline_client.identifiers import new_id
from tieline_client.payloads import moment

from tests.cli.node_double import Refusal, Run, Served
from tests.cli.test_cli_work import NOON, WHY, stamp

ID, NOTICE, ALERT = new_id(), new_id(), str(uuid.uuid4())
FUTURE = datetime.now(UTC) + timedelta(days=30)


def _view(**values: object) -> pb.WatchView:
    header = pb.WatchHeader(
        name="Azul",
        records=4,
        priority=5,
        reference="A-1",
        alert=ALERT,
        until_time=stamp(NOON),
        contact=pb.WatchContact(name="Ana", email="ana@x.example"),
    )
    stated: dict[str, object] = {"id": ID, "header": header, "state": "active", "person": "ana"}
    return pb.WatchView(**stated | values)  # type: ignore[arg-type]


def _notice() -> pb.WatchNoticeView:
    series = pb.WatchSeries(id="es-gc/x", references=["icse:7"], contact_phone="+34")
    return pb.WatchNoticeView(
        id=NOTICE, agency="es-gc", time=stamp(NOON), fresh=1, matched=3, percent=75, series=[series]
    )


def test_a_file_is_watched(served: Served, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text("sha1:" + "ab" * 20 + "\nsha1:" + "cd" * 20 + "\nsha1:" + "ab" * 20 + "\n")
    words = ("--until", "2099-01-31", "--priority", "5", "--peer", "es-gc", "--name", "Azul")
    made = run("watch", "add", str(file), *words, *WHY, "--json")
    sent = served.node.only("AddWatch")
    assert (sent.records, sent.priority, list(sent.peers), sent.name) == (2, 5, ["es-gc"], "Azul")
    assert moment(sent.until_time) == datetime(2099, 2, 1, tzinfo=UTC), "its last day, whole"
    assert served.node.digests == ["sha1:" + "ab" * 20, "sha1:" + "cd" * 20]
    assert made.code == 0 and made.document["watches"][0]["items"] == 2
    for wrong in (("--until", "soon"), (), ("--until", "2099-01-01", "--priority", "256")):
        assert run("watch", "add", str(file), *wrong, *WHY).code == 2
    assert run("watch", "add", str(file), "--until", "2099-01-01").code == 2, "no purpose"
    assert run("watch", "add", str(tmp_path / "no"), "--until", "2099-01-01", *WHY).code == 2


def test_what_is_known_good_is_left_out_and_sent_again(
    served: Served, run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "list.txt"
    file.write_text("sha1:" + "ab" * 20 + "\n")
    good = pb.WatchKnownGood(kind=2, positions=[0])  # type: ignore[arg-type]
    served.node.answers["AddWatch"] = [pb.AddWatchResponse(known_good=good)]
    made = run("watch", "add", str(file), "--until", "2099-01-31", *WHY)
    assert made.code == 1 and "known good" in made.err


def test_perceptual_hashes_are_watched_with_near_and_told_of_without(
    served: Served, run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "list.txt"
    file.write_text("pdq:" + "f0" * 32 + "\n")
    words = ("watch", "add", str(file), "--until", "2099-01-31", *WHY)
    made = run(*words)
    assert made.code == 1
    assert "1 records hold a perceptual hash only and were not watched" in made.err
    assert "watched: 1 records hold a perceptual hash only, so add --near" in made.err
    assert "known good" not in made.err
    assert "AddWatch" not in served.node.requests
    made = run(*words, "--near")
    assert made.code == 0
    assert "perceptual" not in made.err


def test_why_nothing_is_left_to_be_watched_is_said(
    served: Served, run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "own.csv"
    rows = ["d41d8cd98f00b204e9800998ecf8427e;vics-us:1", f"{'ab' * 16};vics-us:5"]
    file.write_text("\n".join(["md5;category", *rows]))
    made = run("watch", "add", str(file), "--until", "2099-01-31", *WHY)
    assert made.code == 1
    assert "1 cannot be used; record 1: it has no digest that can be matched" in made.err
    assert "1 are in no category that the agency lists" in made.err


def test_the_day_that_was_asked_for_is_shown(served: Served, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text("ab" * 20 + "\n")
    made = run("watch", "add", str(file), "--until", "2099-06-30", *WHY)
    assert "watches 1 items until 2099-06-30; 0 left out" in made.out
    view = _view()
    served.node.answers["ListWatches"] = pb.ListWatchesResponse(watches=[view])
    assert f"{NOON:%Y-%m-%d}T12" in run("watch").out, "an alert may end within a day"
    view.header.until_time.CopyFrom(stamp(datetime(2099, 7, 1, tzinfo=UTC)))
    served.node.answers["ListWatches"] = pb.ListWatchesResponse(watches=[view])
    shown = run("watch").out
    assert "2099-06-30" in shown and "2099-07-01" not in shown


def _alerts(tmp_path: Path, **changes: object) -> Path:
    triggers = [
        {"TriggerID": str(uuid.uuid4()), "TriggerType": "MD5", "TriggerValue": "AB" * 16},
        {"TriggerID": str(uuid.uuid4()), "TriggerType": "SHA1", "TriggerValue": "cd" * 20},
        {"TriggerID": str(uuid.uuid4()), "TriggerType": "Face", "TriggerValue": "no digest"},
    ]
    alert = {
        "AlertID": ALERT,
        "Priority": 9,
        "Active": True,
        "ExpiryDate": FUTURE.isoformat(),
        "ReferenceNumber": "R-9",
        "ContactName": "Ana",
        "Name": "Who is this",
        "AlertTriggers": triggers,
    } | changes
    context = "http://github.com/VICSDATAMODEL/ProjectVic/DataModels/2.0.xml/US/$metadata#Alerts"
    path = tmp_path / "alert.json"
    path.write_text(json.dumps({"@odata.context": context, "value": [alert]}))
    return path


def test_an_alert_is_watched_until_its_own_day(served: Served, run: Run, tmp_path: Path) -> None:
    made = run("watch", "add", str(_alerts(tmp_path)), *WHY, "--json")
    sent = served.node.only("AddWatch")
    assert made.code == 0 and moment(sent.until_time) == FUTURE
    assert (sent.alert, sent.priority, sent.reference) == (ALERT, 9, "R-9")
    assert (sent.name, sent.contact.name, sent.records) == ("Who is this", "Ana", 2)
    assert served.node.digests == ["md5:" + "ab" * 16, "sha1:" + "cd" * 20]
    assert [one["record"] for one in made.document["rejected"]] == [3]


def test_an_alert_that_is_over_is_refused(served: Served, run: Run, tmp_path: Path) -> None:
    for changes in ({"Active": False}, {"ExpiryDate": "2020-01-01T00:00:00Z"}):
        made = run("watch", "add", str(_alerts(tmp_path, **changes)), *WHY)
        assert made.code == 1 and "not active" in made.err
    broken = tmp_path / "alert.json"
    broken.write_bytes(_alerts(tmp_path).read_bytes()[:-40])
    assert run("watch", "add", str(broken), *WHY).code == 1
    assert "AddWatch" not in served.node.requests


def _several(tmp_path: Path, *changes: dict[str, object]) -> str:
    """Write a file of alerts, each one with changes."""
    made = [json.loads(_alerts(tmp_path, **each).read_text()) for each in changes]
    value = [each["value"][0] for each in made]
    path = tmp_path / "several.json"
    path.write_text(json.dumps(made[0] | {"value": value}))
    return str(path)


def test_an_alert_that_cannot_be_watched_costs_itself(
    served: Served, run: Run, tmp_path: Path
) -> None:
    words: dict[str, object] = {"Name": None, "Description": "A boy,\r\nin a\tkitchen \x1b[2J"}
    file = _several(tmp_path, words, {"ReferenceNumber": "9" * 300}, {"Active": False}, {})
    result = run("watch", "add", file, *WHY, "--json")
    assert result.code == 0, result.err
    sent = [one.name for one in served.node.requests["AddWatch"]]
    assert sent == ["A boy, in a kitchen \\x1b[2J", "Who is this"]
    assert len(result.document["watches"]) == 2
    told = [(one["record"], one["reason"]) for one in result.document["rejected"]]
    assert [record for record, _ in told] == [3, 2, 3, 3]
    assert told[0][1] == "a trigger of alert 1: its type is no digest that is matched"
    assert "reference" in told[1][1] and "not active" in told[2][1] and "alert 4" in told[3][1]


class _Later(Refusal):
    """Refuses all but the first."""

    calls = 0

    def abort(self, context: ServicerContext) -> None:
        self.calls += 1
        if self.calls > 1:
            super().abort(context)

    def __iter__(self) -> Iterator[pb.AddWatchResponse]:
        yield pb.AddWatchResponse(watch=_view())


def test_what_was_made_of_a_file_that_the_node_refuses_is_told(
    served: Served, run: Run, tmp_path: Path
) -> None:
    refusal = _Later(StatusCode.PERMISSION_DENIED, "POLICY_REFUSED", "not now")
    served.node.answers["AddWatch"] = refusal
    result = run("watch", "add", _several(tmp_path, {}, {}, {}), *WHY, "--json")
    assert (result.code, refusal.calls) == (3, 2)
    assert [one["id"] for one in result.document["watches"]] == [ID]
    assert "not now" in result.err
    assert result.document["rejected"][-1] == {"record": 2, "reason": "not now"}


def test_lists_and_removals(served: Served, run: Run) -> None:
    peer = pb.WatchPeer(agency="es-gc", status="answered", matched=3, percent=75)
    served.node.answers["ListWatches"] = pb.ListWatchesResponse(watches=[_view(peers=[peer])])
    shown = run("watch")
    assert "es-gc 75 %" in shown.out and "Azul" in shown.out
    document = run("watch", "list", "--ended", "--json").document
    assert document["watches"][0]["peers"][0]["percent"] == 75
    assert served.node.requests["ListWatches"][-1].ended is True
    served.node.answers["RemoveWatch"] = pb.RemoveWatchResponse(watch=_view(state="removed"))
    assert run("watch", "remove", ID, "--json").document["state"] == "removed"
    assert served.node.only("RemoveWatch").watch == ID


def test_a_run_says_who_could_not_be_reached(served: Served, run: Run) -> None:
    for statuses, code in (
        (("answered", "unchanged"), 0),
        (("answered", "unreachable"), 4),
        (("refused",), 3),
        ((), 0),
    ):
        runs = [pb.WatchRun(watch=ID, agency="es-gc", status=one) for one in statuses]
        served.node.answers["RunWatches"] = pb.RunWatchesResponse(runs=runs)
        assert run("watch", "run", ID).code == code
    assert list(served.node.requests["RunWatches"][0].watches) == [ID]


def test_notices_go_out_as_vics_hits_that_read_back(
    served: Served, run: Run, tmp_path: Path
) -> None:
    answer = pb.GetWatchResponse(watch=_view(), notices=[_notice()])
    served.node.answers["GetWatch"] = answer
    file = tmp_path / "hits.json"
    assert run("watch", "export", ID, str(file), "--json").document["entries"] == 1
    (hit,) = read_alerts([file.read_bytes()], file.name)
    assert isinstance(hit, AlertHit)
    assert (str(hit.id), hit.date, hit.reference) == (NOTICE, NOON, "icse:7")
    assert (hit.contact.organization, hit.contact.phone) == ("es-gc", "+34")
    (told,) = hit.notifications
    assert (str(told.alert), told.percentage, told.reference) == (ALERT, 75, "A-1")
    assert told.contact.email == "ana@x.example" and told.hit == hit.id
    alone = tmp_path / "told.json"
    assert run("watch", "export", ID, str(alone), "--as", "notifications").code == 0
    assert list(read_alerts([alone.read_bytes()], alone.name)) == [told]
    assert isinstance(told, AlertHitNotification)
    assert run("watch", "export", ID, str(file)).code == 2, "it is there already"


def test_without_a_match_no_file_is_written(served: Served, run: Run, tmp_path: Path) -> None:
    served.node.answers["GetWatch"] = pb.GetWatchResponse(watch=_view())
    assert run("watch", "export", ID, str(tmp_path / "x.json")).code == 1
    assert not [one for one in tmp_path.iterdir() if "x.json" in one.name]


def test_what_matched_is_shown(served: Served, run: Run) -> None:
    lists = [{"kind": 2, "digests": bytes.fromhex("ab" * 20)}]
    matches = pb.WatchMatches(agency="es-gc", lists=lists)  # type: ignore[arg-type]
    served.node.answers["GetWatch"] = pb.GetWatchResponse(
        watch=_view(), notices=[_notice()], matches=[matches]
    )
    assert "es-gc sha1:" + "ab" * 20 in run("watch", "show", ID, "--matches").out
    document = run("watch", "show", ID, "--matches", "--json").document
    assert document["matches"] == {"es-gc": ["sha1:" + "ab" * 20]}
    assert document["notices"][0]["percent"] == 75
