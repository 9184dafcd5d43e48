"""The parts, played: each step is what people do with the command line, on real nodes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from tieline_client.profile import utc_now

from taskforce import figures, material
from taskforce.cast import (
    AGENCIES,
    AGREEMENT,
    ELSEWHERE,
    HUB,
    REPOSITORY,
    Agency,
    Size,
    countries,
    experts,
)
from tests.e2e.federation import Federation, Node, wait_for

OPERATION, CASE = "Taskforce", "TASKFORCE-2020-11"
WHY = ("--purpose", "victim-identification", "--case", CASE)
AT_ONCE = 4
"""Nodes that start together."""
SECONDS = 600.0
"""For what a step waits for."""
BATCH = 20
"""Series that one deposit names."""
MEDIAN_MOST = 10.0
"""Seconds from localised to delivered that the issue allows, in the median."""


class ReplayFailed(Exception):
    """What was found is not what was played; the message says what."""


class Replay:
    """The taskforce, step by step."""

    def __init__(self, nodes: Federation, size: Size, folder: Path, console: Console) -> None:
        self.nodes, self.size, self.folder, self.console = nodes, size, folder, console
        self.agencies = AGENCIES[: size.agencies]
        self.countries = countries(self.agencies, size)
        self.took: list[tuple[str, float]] = []
        self.series: list[str] = []

    @property
    def hub(self) -> Node:
        """The hub's node."""
        return self.nodes[HUB]

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Time a step and tell it."""
        began = time.monotonic()
        yield
        took = time.monotonic() - began
        self.took.append((what, took))
        self.console.print(f"[bold]{took:6.1f} s[/bold]  {what}")

    def run(self) -> dict[str, Any]:
        """Play everything; return the figures that were read back."""
        size = self.size
        with self.step(f"{len(self.agencies)} agencies and the hub are founded and started"):
            self.found()
        with self.step(f"the hub imports {size.series} series, agencies their own"):
            self.bring_series()
        with self.step(f"{size.clues} clues are published, {size.tips:,} tips come in by CSV"):
            self.bring_tips()
        with self.step(f"{size.series} series are triaged and given to {size.experts} experts"):
            self.triage()
        with self.step(f"{size.localised} series get a country, and each is told at once"):
            self.evaluate()
        with self.step("every country that has a node has been delivered to"):
            self.wait_quiet()
        with self.step("people acknowledge and accept (scripted)"):
            self.acknowledge()
        with self.step("every series is deposited at INTERPOL, and numbered"):
            self.upload()
        with self.step(f"{size.identified} + {size.tentative} outcomes come back"):
            self.identify()
        with self.step("the figures are read back from the databases"):
            report = figures.report(self.nodes)
            self.compare(report)
        return report

    # --- the federation ---

    def found(self) -> None:
        """Found it, admit everybody, and start the nodes, a few at a time."""
        nodes = self.nodes
        nodes.found()
        nodes.init(HUB, "hub")
        for one in self.agencies:
            nodes.init(one.id, one.role, *([one.country] if one.country else []))
            if one.agreement:
                nodes.change("agreement", one.id, "--basis", AGREEMENT)
        for node in nodes:
            nodes.join(node)
        names = [node.agency for node in nodes]
        for start in range(0, len(names), AT_ONCE):
            nodes.start(*names[start : start + AT_ONCE])

    # --- series ---

    def bring_series(self) -> None:
        """Import the hub's series, and series of agencies that share items with some of them."""
        file = self.folder / "series.csv"
        material.write_series(file, self.size)
        self.series = list(self.hub.import_file(file)["series"])
        for number, one in enumerate(self._national()):
            own = self.folder / f"{one.id}.csv"
            shared = [number, (number * 7 + 3) % self.size.series]
            material.write_shared(own, one.id, shared, self.size)
            self.nodes[one.id].import_file(own)

    def _national(self) -> list[Agency]:
        return [one for one in self.agencies if one.country]

    # --- the public ---

    def bring_tips(self) -> None:
        """Publish clues, bring the public's tips in, and verify some of them."""
        hub, published = self.hub, []
        named = [self.countries[n % len(self.countries)] for n in range(self.size.clues)]
        for number in range(self.size.clues):
            words = ("--text", material.clue_words(number))
            clue = hub.run("clue", "add", self.series[number], *words).ok().json["id"]
            published.append(hub.run("clue", "publish", clue, *WHY).ok().json["public_id"])
        file = self.folder / "tips.csv"
        material.write_tips(file, published, named, self.size.tips)
        brought = hub.run("clue", "tip", "--import", file).ok().json
        assert brought["added"] == self.size.tips, brought
        with hub.client() as client:
            for tip in list(islice(client.list_tips(state="new"), self.size.verified)):
                client.judge_tip(tip.id, "verified", supports=tip.country)

    # --- the experts' work ---

    def triage(self) -> None:
        """Make the operation; hand its series to the experts, in the order of the triage list."""
        hub, today = self.hub, utc_now().date()
        days = ("--from", today, "--to", today + timedelta(days=11))
        who = [word for one in self.agencies for word in ("--participant", one.id)]
        hub.run("operation", "new", OPERATION, *days, *who, "--case", CASE).ok()
        hub.run("operation", "add", OPERATION, *self.series).ok()
        with hub.client() as client:
            for series in self.series:
                client.set_series_status(series, "triaged")
        ranked = [one["series"] for one in self._shown()["triage"]]
        assert sorted(ranked) == sorted(self.series)
        for number, expert in enumerate(experts(self.agencies, self.size)):
            self._assign(expert, ranked[number :: self.size.experts])

    def _shown(self) -> Any:
        return self.hub.run("operation", "show", OPERATION).ok().json

    def _assign(self, expert: tuple[str, str], series: Sequence[str], *words: str) -> None:
        if series:
            agency, person = expert
            who = ("--agency", agency, "--person", person)
            self.hub.run("operation", "assign", OPERATION, *series, *who, *words).ok()

    def evaluate(self) -> None:
        """Each expert judges: a country, which is told at once, or none."""
        likely = dict(zip(self.series, self.countries, strict=False))
        tasks: dict[tuple[str, str], list[str]] = {}
        for one in self._shown()["triage"]:
            (task,) = one["evaluations"]
            tasks.setdefault((task["agency"], task["person"]), []).append(one["series"])
        for expert, series in tasks.items():
            for one in series:
                if one in likely:
                    self._localise(one, likely[one])
            self._assign(expert, series, "--done")

    def _localise(self, series: str, country: str) -> None:
        """Assess; tell the country at once: its agencies, or by other means where it has none."""
        said = ("--country", country, "--confidence", "high", "--confirmed")
        words = ("--grounds", "an object that is sold there alone, described in words")
        self.hub.run("series", "assess", series, *said, *words).ok()
        if country in ELSEWHERE:
            reference = f"I-24/7 to NCB {country}, no. {self.series.index(series) + 1}"
            telling = ("--reference", reference, *WHY)
            self.hub.run("clock", "told-outside", series, *telling).ok()
        else:
            self.hub.run("series", "refer", series, "--urgency", "urgent", *WHY).ok()

    def wait_quiet(self) -> None:
        """Wait until nothing is on its way anywhere."""
        waits = "SELECT 1 FROM outbox WHERE state = 'queued' LIMIT 1"
        wait_for(
            "all messages are delivered",
            lambda: not any(node.rows(waits) for node in self.nodes),
            SECONDS,
        )

    # --- the countries' work ---

    def _received(self, agency: Agency) -> list[Any]:
        entries = self.nodes[agency.id].inbox()
        return [one for one in entries if one["kind"] == "referral"]

    def acknowledge(self) -> None:
        """A person of each agency acknowledges; one of each country accepts, a second declines."""
        taken: set[str] = set()
        for one in self._national():
            node = self.nodes[one.id]
            for entry in self._received(one):
                node.run("inbox", "ack", entry["id"]).ok()
                series = entry["referral"]["series"]
                if series in taken:
                    why = ("--reason", "the other agency of this country leads")
                    node.run("inbox", "decline", entry["id"], *why).ok()
                else:
                    node.run("inbox", "accept", entry["id"]).ok()
                taken.add(series)
        self.wait_quiet()

    def identify(self) -> None:
        """Report what came of it: victims identified, and some tentatively."""
        kinds = ["--identified"] * self.size.identified + ["--tentative"] * self.size.tentative
        accepted = [
            (self.nodes[one.id], entry)
            for one in self._national()
            for entry in self._received(one)
            if entry["state"] == "accepted"
        ]
        for kind, (node, entry) in zip(kinds, accepted, strict=False):
            node.run("inbox", "outcome", entry["id"], kind, 1).ok()
        self.wait_quiet()

    # --- the repository's work ---

    def upload(self) -> None:
        """Deposit every series; the repository moves each on until it has its number."""
        interpol = self.nodes[REPOSITORY]
        for start in range(0, len(self.series), BATCH):
            some = self.series[start : start + BATCH]
            self.hub.run("upload", *some, "--to", REPOSITORY, *WHY).ok()
        self.wait_quiet()
        deposits = interpol.run("uploads").ok().json["uploads"]
        with interpol.client() as client:
            for number, one in enumerate(deposits, 1):
                courier = f"courier {number} (outside Tieline)"
                client.step_upload(one["id"], "media_requested", "")
                client.step_upload(one["id"], "media_received", courier)
                client.step_upload(one["id"], "numbered", "")
        self.wait_quiet()

    # --- the end ---

    def compare(self, report: dict[str, Any]) -> None:
        """Hold the figures against what was played, and against the operation's own report."""
        page = self.folder / "operation.html"
        told = self.hub.run("operation", "report", OPERATION, page).ok().json["figures"]
        size = self.size
        wanted = {
            "agencies": len(self.agencies),
            "series": size.series,
            "localised": size.localised,
            "delivered": size.localised - size.outside,
            "told_outside": size.outside,
            "acknowledged": size.localised - size.outside,
            "uploaded": size.series,
            "identified": size.identified,
            "tentative": size.tentative,
            "tips": size.tips,
        }
        for name, value in wanted.items():
            if report[name] != value:
                raise ReplayFailed(f"{name}: {value} were played, {report[name]} were found")
            if name != "agencies" and told[name] != value:
                raise ReplayFailed(f"{name}: the operation's report says {told[name]}, not {value}")
        if told["evaluated"] != size.series:
            raise ReplayFailed(f"{told['evaluated']} of {size.series} series were evaluated")
        median = report["median_seconds_localised_to_delivered"]
        if median >= MEDIAN_MOST:
            raise ReplayFailed(f"the median from localised to delivered is {median} s")
