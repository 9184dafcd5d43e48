"""A directory that nobody renewed: people work on, peers wait, and renewal mends everything.

The federation is founded sixteen days ago (libfaketime), so that today its snapshot has expired.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.federation import WHY, Federation, Node, tieline, wait_for

_FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
_ROOT = Path(__file__).parents[2]
_FOUND = """
import sys
from pathlib import Path
from tests.e2e.federation import Federation
made = Federation(Path(sys.argv[1])).found()
for agency, country in (("pt-pj", "PT"), ("es-gc", "ES")):
    made.init(agency, "national", country)
for node in made:
    made.join(node)
    print(node.agency, node.address, node.operator_address)
"""

pytestmark = pytest.mark.skipif(not _FAKETIME.exists(), reason="needs libfaketime")


@pytest.fixture(scope="module")
def expired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    root = tmp_path_factory.mktemp("expired")
    done = subprocess.run(
        [sys.executable, "-c", _FOUND, str(root)],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env=os.environ | {"LD_PRELOAD": str(_FAKETIME), "FAKETIME": "-16d"},
    )
    assert done.returncode == 0, done.stderr
    made = Federation(root)
    for line in done.stdout.splitlines():
        agency, address, operator_address = line.split()
        ports = (int(each.rpartition(":")[2]) for each in (address, operator_address))
        made.nodes[agency] = Node(root / agency, agency, *ports)
    try:
        yield made.start()
    finally:
        made.close()


def test_past_its_expiry_people_work_peers_wait_and_nothing_is_lost(expired: Federation) -> None:
    pt = expired["pt-pj"]
    file = expired.root / "one.txt"
    file.write_text("ab" * 20 + "\n")
    assert pt.import_file(file, "--series", "Azul")["items_new"] == 1
    status = tieline("node", "status", pt.home, "--json").ok().json
    assert any("expired" in line for line in status["warnings"])
    asked = pt.ask(file, "--peer", "es-gc")
    (peer,) = asked.json["peers"]
    assert (asked.code, peer["status"]) == (4, "unreachable")
    assert "expired" in peer["reason"]
    pt.run("series", "refer", "Azul", "--agency", "es-gc", *WHY).ok()
    assert [one["state"] for one in pt.run("outbox").ok().json["entries"]] == ["queued"]
    assert expired["es-gc"].inbox() == []
    # Renewed, everything goes on by itself.
    tieline("federation", "renew", expired.authority).ok()
    expired.wait_directory()
    assert pt.ask(file, "--peer", "es-gc").code == 0


def test_what_waited_arrives(expired: Federation) -> None:
    (entry,) = wait_for("the referral arrives", expired["es-gc"].inbox)
    assert entry["referral"]["sender"] == "pt-pj"
