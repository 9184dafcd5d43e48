"""What the pages name exists: paths, functions, commands with their options, links, settings."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from tieline_client.cli.app import app
from tieline_client.formats import FileFormat
from tieline_server.config import NodeConfig

from tests.docs.reading import PAGES, README, ROOT, anchors, blocks, links, spans

ARCHITECTURE = ROOT / "docs" / "architecture.md"
_BASES = (
    ROOT,
    ROOT / "server" / "tieline_server",
    ROOT / "client" / "tieline_client",
    ROOT / "docs",
)
_PATH = re.compile(r"[\w./-]*(?:/|\.(?:py|proto|md|toml|txt|cedarschema|cedar))")
_NAMED = re.compile(r"([\w./-]+\.(?:py|proto)):(\w+(?:\.\w+)?)")
_STOP = re.compile(r"[;|<>&]|\$\(")


def _exists(path: str) -> bool:
    return any((base / path).exists() for base in _BASES)


@cache
def _definitions(path: Path) -> frozenset[str]:
    """Return the functions, classes, methods and constants that a module defines."""
    found: set[str] = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        match node:
            case ast.FunctionDef(name=name):
                found.add(name)
            case ast.ClassDef(name=name, body=body):
                found.add(name)
                for inner in body:
                    if isinstance(inner, ast.FunctionDef):
                        found.add(f"{name}.{inner.name}")
            case ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
            case ast.Assign(targets=targets):
                found.update(t.id for t in targets if isinstance(t, ast.Name))
            case _:
                pass
    return frozenset(found)


def test_paths_and_functions_of_the_architecture_exist() -> None:
    looked = 0
    for span in spans(ARCHITECTURE.read_text("utf-8")):
        if named := _NAMED.fullmatch(span):
            files = [base / named[1] for base in _BASES if (base / named[1]).is_file()]
            assert files, f"{span}: there is no such file"
            assert named[2] in _definitions(files[0]), f"{span}: there is no such name"
        elif _PATH.fullmatch(span):
            assert _exists(span), f"{span}: there is no such path"
        else:
            continue
        looked += 1
    assert looked > 60


def test_folders_of_the_architecture_exist() -> None:
    page = ARCHITECTURE.read_text("utf-8")
    (tree,) = (block.text for block in blocks(page) if block.text.startswith("proto/"))
    base = ROOT
    looked = 0
    for line in tree.splitlines():
        if not line.startswith(" "):
            base = ROOT / line.split()[0]
            assert base.is_dir(), line
            continue
        for word in line.split():
            if _PATH.fullmatch(word):
                assert (base / word).exists(), f"{base.name}: {word}"
                looked += 1
    assert looked > 25


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page.read_text("utf-8")):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(target.read_text("utf-8")), f"{page.name}: {link}"


# --- commands ---------------------------------------------------------------------------------


def _command_lines(page: str) -> list[list[str]]:
    """Return the words of every `tieline ...` in code spans and blocks of shell."""
    lines = [span for span in spans(page) if span.startswith("tieline ")]
    for block in blocks(page):
        if block.language in ("bash", "sh"):
            lines += re.findall(r"\btieline \S.*", block.commands)
    return [shlex.split(_STOP.split(line)[0], comments=True) for line in lines]


def _check_command(words: list[str]) -> None:
    """Raise AssertionError for what is no command, or named with options but not all it needs."""
    command: Any = typer.main.get_command(app)
    rest = words[1:]
    while hasattr(command, "get_command"):
        context = typer.Context(command, info_name="tieline")
        found = command.get_command(context, rest[0]) if rest else None
        if found is not None:
            rest = rest[1:]
        elif getattr(command, "default", ""):
            found = command.get_command(context, command.default)
        elif rest and not rest[0].startswith("-"):
            raise AssertionError(f"{shlex.join(words)}: there is no command {rest[0]!r}")
        else:
            return
        command = found
    known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    for word in rest:
        if word.startswith("--"):
            option = word.partition("=")[0]
            assert option in known | {"--help"}, f"{shlex.join(words)}: no option {option}"
    options = [word.startswith("--") for word in rest]
    if "..." in rest or not any(options) or options[0]:
        return  # a mention of the command, or of one option
    for each in command.params:
        needed = each.required or (each.name in ("purpose", "case") and _says_why(command))
        if needed and each.param_type_name == "option":
            assert set(each.opts) & set(rest), f"{shlex.join(words)}: {each.opts[0]} is missing"


def _says_why(command: Any) -> bool:
    """Whether a command refuses to run without --purpose and --case, whatever else it is given."""
    source = inspect.getsource(inspect.unwrap(command.callback))
    return "\n    check_why(" in source


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_options_exist(page: Path) -> None:
    lines = _command_lines(page.read_text("utf-8"))
    for words in lines:
        _check_command(words)
    if page == README:
        assert len(lines) > 50


def test_an_invented_command_or_option_would_be_found() -> None:
    _check_command(["tieline", "upload", "X", "--to", "I", "--purpose", "CODE", "--case", "REF"])
    with pytest.raises(AssertionError):
        _check_command(["tieline", "hashes", "bring"])
    with pytest.raises(AssertionError):
        _check_command(["tieline", "federation", "admit", "DIR", "--fingerprnt", "HEX"])
    for lacking in (["series", "note", "ID", "--text", "T"], ["operator", "add", "X", "--encrypt"]):
        with pytest.raises(AssertionError, match="is missing"):
            _check_command(["tieline", *lacking])


# --- pages that list what the code has ----------------------------------------------------------


def test_every_setting_is_in_the_operations_page() -> None:
    page = set(spans((ROOT / "docs" / "operations.md").read_text("utf-8")))
    for setting in NodeConfig.model_fields:
        assert setting in page or f"[{setting}]" in page, f"{setting} is not explained"


def test_every_format_is_in_the_formats_page() -> None:
    page = set(spans((ROOT / "docs" / "formats.md").read_text("utf-8")))
    assert {str(each) for each in FileFormat} <= page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_claim_no_certification(page: Path) -> None:
    """Project VIC certifies products under an agreement; this is none (formats.md)."""
    text = page.read_text("utf-8").lower()
    for sentence in re.split(r"(?<=[.:;])\s", text):
        if "vics" in sentence and "certif" in sentence:
            assert "not" in sentence or "no " in sentence, sentence


def test_every_event_of_the_log_is_in_the_operations_page() -> None:
    page = set(spans((ROOT / "docs" / "operations.md").read_text("utf-8")))
    events = set()
    for path in (ROOT / "server").rglob("*.py"):
        events |= set(re.findall(r'"((?:[a-z]+\.)[a-z_]+)"(?=[,)\s])', _log_calls(path)))
    assert len(events) > 10
    assert events <= page, f"not explained: {sorted(events - page)}"


def _log_calls(path: Path) -> str:
    """Return the source of the calls of the module's logger."""
    source = path.read_text("utf-8")
    calls = (
        ast.get_source_segment(source, node) or ""
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "_log"
    )
    return "\n".join(calls)
