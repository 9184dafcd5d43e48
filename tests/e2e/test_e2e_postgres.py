"""A node whose database is PostgreSQL does the same work with one on SQLite."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.federation import WHY, Federation, wait_for
from tests.postgres import PostgresCluster, postgres_cluster

__all__ = ["postgres_cluster"]

HASHES = [f"{number:040x}" for number in range(1, 301)]


@pytest.mark.postgres
def test_a_node_on_postgresql(tmp_path: Path, postgres_cluster: PostgresCluster) -> None:
    """Import, question, referral with items, steps back, audit, restart."""
    made = Federation(tmp_path).found()
    hub, member = made.init("europol-ec3", "hub"), made.init("pt-pj", "national", "PT")
    url = postgres_cluster.url(postgres_cluster.create(empty=True))
    config = member.home / "config.toml"
    config.write_text(config.read_text().replace('database = ""', f'database = "{url}"'))
    for node in made:
        made.join(node)
    assert not (member.home / "database.sqlite3").exists()
    try:
        made.start()
        mine, theirs = tmp_path / "hub.txt", tmp_path / "member.txt"
        mine.write_text("\n".join(HASHES[:200]))
        theirs.write_text("\n".join(HASHES[150:]))
        assert hub.import_file(mine, "--series", "Harbour")["items_new"] == 200
        assert member.import_file(theirs, "--series", "Cais")["items_new"] == 150
        assert member.import_file(theirs, "--series", "Cais")["items_new"] == 0
        for asker, answerer in ((hub, member), (member, hub)):
            file = mine if asker is hub else theirs
            (peer,) = asker.ask(file, "--peer", answerer.agency).ok().json["peers"]
            found = {one["asked"] for one in peer["overlaps"]}
            assert found == {f"sha1:{text}" for text in HASHES[150:200]}
        hub.run("series", "refer", "Harbour", "--country", "PT", *WHY).ok()
        (entry,) = wait_for("the referral came", member.inbox)
        assert entry["series"]["items"] == 200
        member.run("inbox", "ack", entry["id"]).ok()
        member.run("inbox", "accept", entry["id"]).ok()

        def accepted() -> bool:
            (referral,) = hub.run("clock").ok().json["referrals"]
            return bool(referral["state"] == "accepted")

        wait_for("the hub sees it accepted", accepted)
        stats = member.stats()
        member.kill()
        member.start()
        assert member.stats() == stats
        for node in made:
            assert node.run("audit", "verify").ok().json["verified"]
    finally:
        made.close()
