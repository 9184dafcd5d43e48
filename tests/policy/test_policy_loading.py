"""Rules that cannot be vouched for keep the node from starting."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tieline_client.errors import ConfigurationError
from tieline_client.limits import POLICY_FILE_BYTES, POLICY_FILES
from tieline_server.policy.engine import PolicyEngine
from tieline_server.policy.loading import SCHEMA_FILE, default_folder, load_rules

REPOSITORY = Path(__file__).resolve().parents[2]
NOTES = '@why("a test") @source("none")'
RULE = f'@id("some-rule") {NOTES} permit (principal, action == Action::"ask", resource);\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The default schema, and no rule."""
    shutil.copy(default_folder() / SCHEMA_FILE, tmp_path)
    return tmp_path


def refused(folder: Path) -> str:
    """The one line with which the folder is refused, by loader and engine alike."""
    with pytest.raises(ConfigurationError) as first:
        load_rules(folder)
    with pytest.raises(ConfigurationError):
        PolicyEngine(folder)
    assert "\n" not in first.value.message
    return first.value.message


def test_the_default_rules_load() -> None:
    assert default_folder() == REPOSITORY / "policies"
    book = load_rules(default_folder())
    rules = list(book.by_policy_id.values())
    assert len({rule.id for rule in rules}) == len(rules) > 20
    assert {rule.effect for rule in rules} == {"permit", "forbid"}
    assert all(rule.why and rule.source for rule in rules)


def test_every_default_rule_is_commented_and_opens_or_closes_named_actions() -> None:
    for file in default_folder().glob("*.cedar"):
        blocks = file.read_text(encoding="utf-8").split("@id(")
        for before in blocks[:-1]:
            last = [text for text in before.splitlines() if text.strip()][-1]
            assert last.startswith("//") or "unless" in before, f"{file.name}: {last}"
        for block in blocks[1:]:
            if "permit (" in block:
                assert "action ==" in block or "action in [" in block


def test_the_version_follows_content(folder: Path) -> None:
    (folder / "a.cedar").write_text(RULE)
    first = load_rules(folder).version
    assert load_rules(folder).version == first
    (folder / "a.cedar").write_text(RULE + "// a comment\n")
    assert load_rules(folder).version != first


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    assert "is no folder" in refused(tmp_path / "absent")
    file = tmp_path / "file"
    file.write_text("")
    assert "is no folder" in refused(file)
    assert "no *.cedar" in refused(tmp_path)


def test_missing_schema(tmp_path: Path) -> None:
    (tmp_path / "a.cedar").write_text(RULE)
    assert SCHEMA_FILE in refused(tmp_path)


@pytest.mark.parametrize("text", ["", "   \n", "// only words\n"])
def test_a_file_without_a_rule(folder: Path, text: str) -> None:
    (folder / "a.cedar").write_text(RULE)
    (folder / "b.cedar").write_text(text)
    message = refused(folder)
    assert "b.cedar" in message
    assert "no rule" in message


@pytest.mark.parametrize(
    "text",
    [
        RULE[:-10],
        "permit",
        RULE.replace("permit", "allow"),
        RULE.replace('@id("some-rule")', '@id("some-rule") @id("again")'),
        "\x00" + RULE,
    ],
)
def test_a_file_that_does_not_parse(folder: Path, text: str) -> None:
    (folder / "a.cedar").write_text(text)
    assert "a.cedar: does not parse" in refused(folder)


def test_a_broken_file_is_not_mended_by_its_neighbour(folder: Path) -> None:
    (folder / "a.cedar").write_text(RULE.replace(";", " when {"))
    (folder / "b.cedar").write_text("true };\n" + RULE.replace("some-rule", "other"))
    assert "a.cedar: does not parse" in refused(folder)


@pytest.mark.parametrize(
    "name", ["", "Upper", "white space", "-edge", "edge-", "a" * 65, "b\\u{7}ell", "x_y"]
)
def test_an_unfit_id(folder: Path, name: str) -> None:
    (folder / "a.cedar").write_text(RULE.replace("some-rule", name))
    assert "needs @id" in refused(folder)


def test_a_missing_id(folder: Path) -> None:
    (folder / "a.cedar").write_text(RULE + RULE.replace('@id("some-rule")', ""))
    assert "rule 2 needs @id" in refused(folder)


@pytest.mark.parametrize("note", ['@why("a test")', '@source("none")'])
@pytest.mark.parametrize("instead", ["", "blank", "long"])
def test_a_rule_that_does_not_account_for_itself(folder: Path, note: str, instead: str) -> None:
    key = note.partition("(")[0]
    unfit = {"": "", "blank": f'{key}(" ")', "long": f'{key}("{"x" * 401}")'}[instead]
    (folder / "a.cedar").write_text(RULE.replace(note, unfit))
    assert f"needs {key}" in refused(folder)


def test_duplicate_ids_in_one_file_and_across_files(folder: Path) -> None:
    (folder / "a.cedar").write_text(RULE + RULE.replace("permit", "forbid"))
    assert "'some-rule' stands in a.cedar and in a.cedar" in refused(folder)
    (folder / "a.cedar").write_text(RULE)
    (folder / "b.cedar").write_text(RULE.replace("permit", "forbid"))
    assert "'some-rule' stands in a.cedar and in b.cedar" in refused(folder)


def test_a_template(folder: Path) -> None:
    (folder / "a.cedar").write_text(RULE.replace("(principal,", "(principal == ?principal,"))
    assert "template" in refused(folder)


@pytest.mark.parametrize(
    "condition",
    [
        "principal.countries.containsAll([])",
        "[].contains(principal.role)",
        "context.no_such_thing",
        "principal.shoe_size > 3",
        'context.handling == "H2"',
        "resource.union && context.urgency == 1",  # urgency may be absent
        "context.confirmd",
    ],
)
def test_a_rule_that_does_not_fit_the_schema(folder: Path, condition: str) -> None:
    (folder / "a.cedar").write_text(RULE.replace(";", f" when {{ {condition} }};"))
    assert "rule some-rule" in refused(folder)


@pytest.mark.parametrize(
    "scope", ["action in []", 'action == Action::"aks"', 'action in [Action::"ask", Action::"x"]']
)
def test_a_rule_that_could_never_apply(folder: Path, scope: str) -> None:
    (folder / "a.cedar").write_text(RULE.replace('action == Action::"ask"', scope))
    assert "rule some-rule" in refused(folder)


def test_a_schema_that_does_not_parse(folder: Path) -> None:
    (folder / "a.cedar").write_text(RULE)
    (folder / SCHEMA_FILE).write_text("entity Agency {")
    assert SCHEMA_FILE in refused(folder)


def test_a_schema_of_another_version(folder: Path) -> None:
    """The rules fit it, but this version's questions do not: everything would be denied."""
    (folder / "a.cedar").write_text(RULE)
    schema = (folder / SCHEMA_FILE).read_text()
    (folder / SCHEMA_FILE).write_text(schema.replace('"broadcast", ', ""))
    load_rules(folder)
    with pytest.raises(ConfigurationError, match="does not fit action broadcast"):
        PolicyEngine(folder)
    (folder / SCHEMA_FILE).write_text(schema.replace("  urgency?: Long, ", ""))
    with pytest.raises(ConfigurationError, match="does not fit action"):
        PolicyEngine(folder)


def test_bounds_on_files(folder: Path) -> None:
    (folder / "a.cedar").write_text(RULE + "//" + "x" * POLICY_FILE_BYTES)
    assert "is over" in refused(folder)
    (folder / "a.cedar").write_bytes(RULE.encode("utf-16"))
    assert "UTF-8" in refused(folder)
    for position in range(POLICY_FILES + 1):
        (folder / f"{position}.cedar").write_text(RULE)
    assert f"over {POLICY_FILES}" in refused(folder)


def test_unreadable_entries(folder: Path) -> None:
    (folder / "a.cedar").write_text(RULE)
    (folder / "b.cedar").mkdir()
    assert "b.cedar: cannot be read" in refused(folder)
    (folder / "b.cedar").rmdir()
    (folder / "b.cedar").symlink_to(folder / "gone")
    assert "b.cedar: cannot be read" in refused(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_permission(folder: Path) -> None:
    (folder / "a.cedar").write_text(RULE)
    (folder / "a.cedar").chmod(0)
    assert "cannot be read" in refused(folder)
