"""`tieline doctor`: what it advises can be done as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tieline_client import keys

from tests.cli.node_double import Run, Served


def test_the_command_for_a_plain_key_is_whole(
    run: Run, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run("doctor", "--json").document["findings"]
    (advice,) = [one["advice"] for one in found if one["check"] == "profile-key"]
    command = re.search(r"`tieline (operator add [^`]*)`", advice)
    assert command is not None
    secret = tmp_path / "passphrase"
    secret.write_text("swordfish\n")
    secret.chmod(0o600)
    monkeypatch.setenv(keys.PASSPHRASE_VARIABLE, str(secret))
    filled = {"ROLE": "analyst", "FILE": str(tmp_path / "next.json")}
    words = [filled.get(word, word) for word in command[1].split()]
    assert run(*words).code != 2
    assert served.node.only("AddOperator").roles == ["analyst"]
