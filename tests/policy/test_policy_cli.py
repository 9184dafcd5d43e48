"""`tieline policy check`, as a person and as a program see it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tieline_server.policy.cases import CASES_FILE
from tieline_server.policy.cli import policy_app
from tieline_server.policy.loading import default_folder
from typer.testing import CliRunner, Result


def check(*options: str) -> Result:
    return CliRunner().invoke(policy_app, ["check", *options], env={"COLUMNS": "200"})


def test_the_default_rules_pass() -> None:
    result = check()
    assert result.exit_code == 0
    written = sum(one.read_text().count("@id(") for one in default_folder().glob("*.cedar"))
    assert f"{written} rules" in result.stdout
    assert "0 decided otherwise" in result.stdout
    assert result.stderr == ""


def test_json_is_one_document() -> None:
    result = check("--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["cases"]["failed"] == []
    assert document["cases"]["run"] >= 60
    assert document["decision"] is None
    assert {rule["effect"] for rule in document["rules"]} == {"permit", "forbid"}
    assert all(rule["source"] and rule["file"] for rule in document["rules"])


def test_one_decision_is_shown_with_its_rules() -> None:
    options = ["--action", "learn-reference", "--asker", "us-ice", "--holder", "pt-pj"]
    result = check(*options)
    assert result.exit_code == 0
    assert "us-ice learn-reference pt-pj (victim-identification): denied" in result.stdout
    assert "unlisted is denied" in result.stdout
    result = check(*options, "--state", "confirmed", "--json")
    decision = json.loads(result.stdout)["decision"]
    assert decision["allowed"] is True
    assert decision["rules"] == ["confirmed-release"]


def test_a_forbidding_rule_is_shown_with_its_source() -> None:
    result = check(
        *("--action", "pass-on", "--asker", "pt-pj", "--holder", "gb-xx:national:GB:-"),
        *("--owner", "es-pn", "--handling", "h2", "--tlp", "red"),
    )
    assert result.exit_code == 0
    assert ": denied" in result.stdout
    for text in ("no-spreading-of-h2-h3", "other-side-outside-union", "2016/794 Art. 19(2)"):
        assert text in result.stdout


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--action", "aks", "--asker", "pt-pj", "--holder", "es-pn"], "action 'aks'"),
        (["--action", "ask", "--asker", "pt-pj"], "--holder"),
        (["--asker", "pt-pj"], "--action"),
        (["--action", "ask", "--asker", "xx-yy", "--holder", "es-pn"], "xx-yy"),
        (["--action", "ask", "--asker", "xx:boss:PT:-", "--holder", "es-pn"], "role"),
        (["--action", "ask", "--asker", "pt-pj", "--holder", "es-pn", "--tlp", "x"], "TLP"),
        (["--action", "ask", "--asker", "pt-pj", "--holder", "es-pn", "--state", "x"], "state"),
        (["--action", "ask", "--asker", "pt-pj", "--holder", "es-pn", "--owner", "X"], "agency"),
        (["--handling", "H9", "--action", "ask", "--asker", "pt-pj", "--holder", "es-pn"], "H9"),
    ],
)
def test_wrong_usage(options: list[str], why: str) -> None:
    result = check(*options)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert why in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_unknown_option_is_wrong_usage() -> None:
    assert check("--colour").exit_code == 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(default_folder(), tmp_path / "policies")


def test_a_case_that_comes_out_otherwise_fails_the_check(folder: Path) -> None:
    (folder / "60-outside-the-union.cedar").unlink()
    result = check("--folder", str(folder))
    assert result.exit_code == 1
    assert "error: line " in result.stderr
    assert "expected deny by outside-union-needs-agreement, got allow" in result.stderr
    document = json.loads(check("--folder", str(folder), "--json").stdout)
    assert document["cases"]["failed"][0]["allowed"] is True


def test_unfit_rules_fail_the_check_with_one_line(folder: Path) -> None:
    (folder / "70-mine.cedar").write_text("permit (principal, action, resource);")
    result = check("--folder", str(folder))
    assert result.exit_code == 1
    assert "70-mine.cedar: rule 1 needs @id" in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    result = check("--folder", str(folder / "absent"), "--json")
    assert result.exit_code == 1
    assert "is no folder" in result.stderr


def test_rules_without_cases_fail_the_check(folder: Path) -> None:
    (folder / CASES_FILE).unlink()
    result = check("--folder", str(folder))
    assert result.exit_code == 1
    assert "cases.txt" in result.stderr
    result = check("--folder", str(folder), "--cases", str(default_folder() / CASES_FILE))
    assert result.exit_code == 0
