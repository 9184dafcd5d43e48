"""A quarantine that the healthy side ends: `tieline node resync HOME --accept AGENCY`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.federation import COMMAND_SECONDS, federation, tieline, wait_for
from tests.e2e.test_e2e_referral import becomes, entry_of
from tests.e2e.test_e2e_set_back import (
    alarms,
    all_alike,
    image,
    stopped,
    tell,
    told,
    twin_of,
    warnings,
)
from tests.faults.world import faked_time

PT, ES = "pt-pj", "es-gc"
_MEMBERS = [(PT, "national", "PT"), (ES, "national", "ES")]


def test_a_peer_that_was_set_aside_is_taken_back_once_its_copy_is_silent(tmp_path: Path) -> None:
    with federation(tmp_path / "trial", _MEMBERS) as made:
        pt, es = made[PT], made[ES]
        told(pt, es, tmp_path, "ES")
        with stopped(pt):
            before = image(pt, tmp_path / "twin")
        told(pt, es, tmp_path, "ES")
        twin = twin_of(pt, before).start()
        try:
            seen = {"alarm.fork", "alarm.set_back"}
            wait_for("es-gc sees two", lambda: alarms(es, PT) & seen)
        finally:
            twin.stop()
        held = tell(pt, tmp_path, "ES")
        tries = "SELECT 1 FROM destinations WHERE attempts > 0"
        wait_for("es-gc has heard both of late", lambda: pt.rows(tries))
        accept = ("node", "resync", es.home, "--accept", PT)
        why = ("--reason", "the copy is off for good")
        assert tieline(*accept, *why).code == 1  # es-gc runs
        with stopped(es):
            assert tieline(*accept).code == 2  # without a reason
            soon = tieline(*accept, *why)
            assert soon.code == 1
            assert "spoke within 65 minutes" in soon.err
            command = Path(sys.executable).with_name("tieline")
            later = subprocess.run(
                [command, *map(str, accept), *why],
                env=os.environ | faked_time("+70m"),
                capture_output=True,
                text=True,
                timeout=COMMAND_SECONDS,
                check=False,
            )
            assert later.returncode == 0, later.stderr
        becomes(pt, held, "delivered")
        assert entry_of(es, held)
        all_alike(pt, es)
        assert "quarantined" not in warnings(es)
        assert [one["peer"] for one in es.audit("--action", "standing.accepted")] == [PT]
