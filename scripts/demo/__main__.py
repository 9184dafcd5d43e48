"""The story: import, overlap, refer, a node down and back, broadcast, upload, audit."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from demo import material
from demo.federation import AGENCIES, DemoFailed, Federation

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "demo"
WHY = ("--purpose", "victim-identification", "--case", "DEMO-2026-1")
console = Console(highlight=False, width=110)


class Story:
    """Runs the steps in order and keeps what the summary needs."""

    def __init__(self, federation: Federation) -> None:
        self.f = federation
        self.summary: dict[str, Any] = {}
        self.series: dict[str, str] = {}
        self.began = time.monotonic()

    def tell(self, text: str) -> None:
        """One line of the story, with the seconds since the start."""
        console.print(f"[bold]{time.monotonic() - self.began:6.1f} s[/bold]  {text}")

    def run(self) -> None:
        """Tell it all."""
        files = material.make(BUILD / "material")
        self.tell("founding a trial federation and making five nodes")
        self.f.make()
        self.f.start_all()
        self._nodes()
        self._imports(files)
        self._overlap(files)
        self._referrals()
        self._broadcast()
        self._uploads(files)
        self._audit()
        (BUILD / "summary.json").write_text(json.dumps(self.summary, indent=2) + "\n")

    def _nodes(self) -> None:
        self.summary["nodes"] = [
            {key: status[key] for key in ("agency", "role", "countries")}
            for one in AGENCIES
            if (status := self._status(one.id))
        ]
        self.tell(f"{len(self.summary['nodes'])} nodes answer over mutual TLS 1.3")

    def _status(self, agency: str) -> Any:
        home = str(self.f.home(agency))
        return json.loads(self.f.run("node", "status", home, "--json"))

    def _imports(self, files: material.Material) -> None:
        rows = []
        for agency, paths in files.files.items():
            before = 0
            for path in paths:
                words = ["hashes", "import", str(path), "--case", f"{agency}-1"]
                report = self.f.json(agency, *words)["files"][0]
                items = self.f.json(agency, "hashes", "stats")["items"]
                rows.append({"agency": agency, "format": report["format"], "items": items - before})
                self.tell(
                    f"{agency} imported {path.name} ({report['format']}): {report['items_new']} "
                    f"new items, {report['excluded']} excluded, not stored"
                )
                before = items
        self.summary["imports"] = rows
        for series in self.f.json("europol-ec3", "series", "list")["series"]:
            self.series[series["name"]] = series["id"]

    def _overlap(self, files: material.Material) -> None:
        self.tell("the hub asks every agency that policy lists: which of these do you hold too?")
        answer = self.f.json("europol-ec3", "overlap", str(files.question), "--near", *WHY)
        table = Table("agency", "status", "planted", "found", "near", "more waits")
        found_in_all = 0
        for peer in answer["peers"]:
            overlaps = peer["overlaps"]
            planted = files.planted.get(peer["agency"], set())
            if len(overlaps) != len(planted):
                raise DemoFailed(
                    f"{peer['agency']}: {len(planted)} overlaps were planted, {len(overlaps)} found"
                )
            near = sum(one["match"] == "near" for one in overlaps)
            table.add_row(
                peer["agency"],
                peer["status"],
                str(len(planted)),
                str(len(overlaps)),
                str(near),
                "for a person" if peer["request"] else "",
            )
            found_in_all += len(overlaps)
        console.print(table)
        answered = [peer for peer in answer["peers"] if peer["status"] == "answered"]
        if {peer["agency"] for peer in answered} < set(files.planted):
            raise DemoFailed("not every agency with planted overlaps answered")
        self.summary["overlap"] = {
            "asked": answer["asked"],
            "answered_peers": len(answered),
            "overlaps": found_in_all,
        }

    def _referrals(self) -> None:
        f = self.f
        self.tell("an analyst at the hub places two series; FBI's node is down meanwhile")
        f.stop("us-fbi")
        for name, country, grounds in (
            ("Harbour", "PT", "Ferry livery and a street sign, described in words"),
            ("Attic", "US", "Wall sockets and a cereal brand, described in words"),
        ):
            f.json(
                "europol-ec3", "series", "assess", self.series[name], "--country", country,
                "--confidence", "high", "--grounds", grounds,
            )  # fmt: skip
            f.json("europol-ec3", "series", "refer", self.series[name], "--urgency", "urgent", *WHY)
        self._wait_state("pt-pj", "delivered")
        self._wait_state("us-ice", "delivered")
        waiting = f.json("europol-ec3", "outbox")
        queued = [one for one in waiting["entries"] if one["state"] == "queued"]
        self.tell(f"PT and ICE have theirs; {len(queued)} message waits for FBI")
        if not queued:
            raise DemoFailed("nothing waits for FBI although its node is down")
        f.start("us-fbi")
        self._wait_state("us-fbi", "delivered")
        self.tell("FBI's node is back and has caught up")
        for agency, text in (("pt-pj", "ferry known"), ("us-ice", "ours"), ("us-fbi", "")):
            entry = self._inbox(agency, "referral")
            f.json(agency, "inbox", "ack", entry)
            if agency == "us-fbi":
                f.json(agency, "inbox", "decline", entry, "--reason", "ICE leads this case")
            else:
                f.json(agency, "inbox", "accept", entry)
            if agency == "pt-pj":
                f.json(agency, "inbox", "outcome", entry, "--identified", "1", "--text", text)
        self._wait_state("pt-pj", "outcome")
        self._wait_state("us-ice", "accepted")
        self._wait_state("us-fbi", "declined")
        clock = f.json("europol-ec3", "clock")["referrals"]
        self.summary["referrals"] = [
            {
                "series": one["series"],
                "country": one["country"],
                "agency": one["recipient"],
                "state": one["state"],
            }
            for one in clock
            if one["direction"] == "out"
        ]
        table = Table("series", "country", "agency", "state", "steps")
        for one in clock:
            steps = " -> ".join(step["state"] for step in one["steps"])
            table.add_row(
                one["series"][:20] + "...", one["country"], one["recipient"], one["state"], steps
            )
        console.print(table)

    def _wait_state(self, agency: str, state: str) -> None:
        def reached() -> bool:
            clock = self.f.json("europol-ec3", "clock")["referrals"]
            return any(one["recipient"] == agency and one["state"] == state for one in clock)

        self.f.wait(f"{agency}'s referral to be {state}", reached)

    def _inbox(self, agency: str, kind: str) -> str:
        entries = self.f.json(agency, "inbox")["entries"]
        return str(next(one["id"] for one in entries if one["kind"] == kind))

    def _broadcast(self) -> None:
        f = self.f
        self.tell("nobody can place Garden: the hub asks the taskforce")
        f.json("europol-ec3", "broadcast", self.series["Garden"], "--group", "taskforce", *WHY)
        members = ("pt-pj", "us-ice", "us-fbi")
        for agency in members:
            f.wait(f"{agency} to have the broadcast", partial(self._has_broadcast, agency))
            entry = self._inbox(agency, "broadcast")
            f.json(agency, "inbox", "ack", entry)
            if agency == "pt-pj":
                f.json(agency, "inbox", "answer", entry, "--assess", "BR", "--text", "tiles")
            else:
                f.json(agency, "inbox", "answer", entry, "--eliminate", "US")

        def acknowledged() -> list[str]:
            sent = f.json("europol-ec3", "broadcasts")["broadcasts"][0]["recipients"]
            return [a for a, state in sent.items() if state in ("acknowledged", "answered")]

        f.wait("all answers", lambda: len(acknowledged()) == len(members))
        sent = f.json("europol-ec3", "broadcasts")["broadcasts"][0]
        self.summary["broadcast"] = {
            "recipients": len(sent["recipients"]),
            "acknowledged": len(acknowledged()),
        }
        said = ", ".join(
            f"{one['agency']}: {one['kind']} {one['country']}" for one in sent["answers"]
        )
        self.tell(f"the taskforce answered: {said}")

    def _has_broadcast(self, agency: str) -> bool:
        entries = self.f.json(agency, "inbox")["entries"]
        return any(one["kind"] == "broadcast" for one in entries)

    def _uploads(self, files: material.Material) -> None:
        f = self.f
        self.tell("Harbour and Attic go to INTERPOL's repository")
        for name in ("Harbour", "Attic"):
            f.json("europol-ec3", "upload", self.series[name], "--to", "interpol", *WHY)
        f.wait("both deposits", lambda: len(f.json("interpol", "uploads")["uploads"]) == 2)
        for one in f.json("interpol", "uploads")["uploads"]:
            f.json("interpol", "upload", "step", one["id"], "--state", "media_requested")
            f.json(
                "interpol", "upload", "step", one["id"], "--state", "media_received",
                "--reference", "courier 17 (outside Tieline)",
            )  # fmt: skip
            f.json("interpol", "upload", "step", one["id"], "--state", "numbered")

        def numbered(count: int) -> bool:
            uploads = f.json("europol-ec3", "uploads")["uploads"]
            return bool(sum(one["state"] == "numbered" for one in uploads) == count)

        f.wait("the numbers", lambda: numbered(2))
        f.json("europol-ec3", "hashes", "import", str(files.growth), "--case", "europol-ec3-2")
        again = f.json("europol-ec3", "upload", self.series["Harbour"], "--to", "interpol", *WHY)
        grown = again["uploads"][0]
        f.wait("the addition's number", lambda: numbered(3))
        same = f.json("europol-ec3", "upload", self.series["Harbour"], "--to", "interpol", *WHY)
        if grown["items"] != 50 or not same["uploads"][0]["unchanged"]:
            raise DemoFailed("a grown series must carry only what is new, and the same nothing")
        self.tell("Harbour grew by 50: only those went, numbered at once; the same again: nothing")
        self.summary["uploads"] = [
            {
                "series": one["series"],
                "repository": one["repository"],
                "state": one["state"],
                "reference": one["reference"],
            }
            for one in f.json("europol-ec3", "uploads")["uploads"]
        ]

    def _audit(self) -> None:
        self.summary["audit"] = []
        for one in AGENCIES:
            result = self.f.json(one.id, "audit", "verify")
            self.summary["audit"].append(
                {"agency": one.id, "entries": result["entries"], "verified": result["verified"]}
            )
            if not result["verified"]:
                raise DemoFailed(f"the audit log of {one.id} does not verify")
        trail = self.f.json("pt-pj", "audit", "search")["entries"]
        table = Table(
            "time", "action", "person", "peer", "purpose", "case", title="PT's audit trail"
        )
        for entry in trail[-14:]:
            table.add_row(
                str(entry["at"])[11:19],
                entry["action"],
                entry["person"],
                entry["peer"],
                entry["purpose"],
                entry["case"],
            )
        console.print(table)
        entries = sum(one["entries"] for one in self.summary["audit"])
        self.tell(f"all five audit logs verify: {entries} entries")


def main() -> None:
    """Run the demonstration; KEEP=1 leaves the nodes running."""
    keep = os.environ.get("KEEP", "") not in ("", "0")
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    federation = Federation(BUILD / "nodes")
    story = Story(federation)
    try:
        story.run()
    except (DemoFailed, KeyError, StopIteration) as error:
        federation.stop_all()
        sys.exit(f"the demonstration failed: {error!r}; logs are in {BUILD / 'nodes'}")
    except BaseException:
        federation.stop_all()
        raise
    story.tell(f"summary: {(BUILD / 'summary.json').relative_to(ROOT)}")
    if not keep:
        federation.stop_all()
        return
    console.print("\nThe nodes run on. Talk to one of them, for example:")
    home = federation.home("pt-pj").relative_to(ROOT)
    console.print(f"  .venv/bin/tieline inbox --home {home}")
    console.print(f"  .venv/bin/tieline node status {home}")
    pids = " ".join(str(one.process.pid) for one in AGENCIES if one.process)
    console.print(f"Stop them with: kill {pids}")


if __name__ == "__main__":
    main()
