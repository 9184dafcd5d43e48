"""`tieline node resync` on a home that does not run."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tieline_client.errors import StorageUnavailable
from tieline_server import resync_cli
from tieline_server.config import make_config
from tieline_server.homes import make_home
from tieline_server.node_cli import app
from tieline_server.storage.engine import open_store
from typer.testing import CliRunner

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def _epoch(home: Path) -> str:
    url = f"sqlite:///{home / 'database.sqlite3'}"
    with closing(open_store(url, clock=lambda: NOW)) as store:
        return store.read(lambda tx: tx.standings.epoch())


def test_no_epoch_begins_without_its_line_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = {
        "agency": "pt-pj",
        "name": "Policia Judiciaria",
        "role": "national",
        "countries": ["PT"],
        "listen": "127.0.0.1:7443",
        "operator_listen": "127.0.0.1:7444",
    }
    home = tmp_path / "pt"
    make_home(home, make_config(document, "test"), NOW)
    resync = ["resync", str(home), "--yes"]
    assert CliRunner().invoke(app, resync).exit_code == 0
    before = _epoch(home)
    assert before

    def ended(**_: object) -> None:
        raise StorageUnavailable("the process ends here")

    with monkeypatch.context() as patch:
        patch.setattr(resync_cli, "AuditEntry", ended)
        assert CliRunner().invoke(app, resync).exit_code == 1
    assert _epoch(home) == before
    assert CliRunner().invoke(app, resync).exit_code == 0
    assert _epoch(home) != before
