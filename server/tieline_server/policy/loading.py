"""Read a folder of Cedar rules, or refuse it whole.

The node does not start on rules it cannot fully vouch for. In order:

1. the folder has one schema and 1 to POLICY_FILES rule files, readable, bounded, UTF-8;
2. every file parses by itself, holds at least one rule and no template;
3. every rule has a unique ``@id``, and says ``@why`` and by what ``@source``;
4. the rules together fit the schema (this also refuses empty set literals, which make
   ``containsAll`` true for everybody, and rules that can never apply).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cedarpy
from tieline_client.errors import ConfigurationError
from tieline_client.limits import POLICY_FILE_BYTES, POLICY_FILES

SCHEMA_FILE = "tieline.cedarschema"
_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
_ANNOTATION_CHARS = 400


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as its author describes it. ``effect`` is permit or forbid."""

    id: str
    effect: str
    why: str
    source: str
    file: str


@dataclass(frozen=True)
class RuleBook:
    """Parsed rules. ``by_policy_id`` maps Cedar's positional ids (policy0, ...) to rules."""

    policies: cedarpy.PolicySet
    schema: cedarpy.Schema
    by_policy_id: Mapping[str, Rule]
    version: str


def default_folder() -> Path:
    """Return the rules shipped in the package, or the repository's when run from a clone."""
    package = Path(__file__).resolve().parent.parent
    shipped = package / "_policies"
    return shipped if shipped.is_dir() else package.parent.parent / "policies"


def load_rules(folder: Path) -> RuleBook:
    """Return the checked rules of ``folder``; raise ConfigurationError on the first fault."""
    # 1.
    try:
        files = sorted(folder.glob("*.cedar"))
    except OSError as error:
        raise _refused(folder, error.strerror or "cannot be listed") from error
    if not folder.is_dir():
        raise _refused(folder, "is no folder; name one with --folder or in config.toml")
    if not files:
        raise _refused(folder, "holds no *.cedar file, so nothing would be allowed")
    if len(files) > POLICY_FILES:
        raise _refused(folder, f"holds over {POLICY_FILES} rule files; merge some")
    schema_text = _text(folder / SCHEMA_FILE)
    try:
        schema = cedarpy.Schema.from_str(schema_text)
    except ValueError as error:
        raise _refused(folder / SCHEMA_FILE, _line(error)) from error

    texts, rules = [], list[Rule]()
    for file in files:
        text = _text(file)
        rules += _rules(file, text)  # 2. and the form of 3.
        texts.append(text)
    _check_unique(rules)  # 3.

    # A newline between files, so that no file's last comment swallows another's first rule.
    together = "\n".join(texts)
    policies = cedarpy.PolicySet.from_str(together)
    by_policy_id = {f"policy{position}": rule for position, rule in enumerate(rules)}
    _check_positions(together, by_policy_id)
    # 4.
    for fault in cedarpy.validate_policies(together, schema).errors:
        rule = by_policy_id.get(fault.policy_id)
        where = folder / rule.file if rule else folder
        raise _refused(where, f"rule {rule.id if rule else '?'}: {_line(fault.error)}")
    digest = hashlib.sha256("\0".join([schema_text, *texts]).encode()).hexdigest()
    return RuleBook(policies, schema, by_policy_id, digest)


def _text(file: Path) -> str:
    try:
        with file.open("rb") as source:
            raw = source.read(POLICY_FILE_BYTES + 1)
    except OSError as error:
        raise _refused(file, f"cannot be read: {error.strerror or error}") from error
    if len(raw) > POLICY_FILE_BYTES:
        raise _refused(file, f"is over {POLICY_FILE_BYTES} bytes; split it")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refused(file, "is not UTF-8; save it as UTF-8") from error


def _rules(file: Path, text: str) -> Iterator[Rule]:
    """Yield a file's rules in the order in which Cedar numbers them."""
    try:
        parsed = json.loads(cedarpy.policies_to_json_str(text))
    except ValueError as error:
        raise _refused(file, f"does not parse: {_line(error)}") from error
    if parsed["templates"] or parsed["templateLinks"]:
        raise _refused(file, "holds a template (?principal or ?resource), which never applies")
    statics = parsed["staticPolicies"]
    if not statics:
        raise _refused(file, "holds no rule; remove the file or restore its content")
    for position in range(len(statics)):
        body = statics[f"policy{position}"]
        notes = body.get("annotations", {})
        name = notes.get("id") or ""
        if not _ID.fullmatch(name):
            raise _refused(
                file, f'rule {position + 1} needs @id("...") of 1 to 64 of a-z, 0-9 and "-"'
            )
        for key in ("why", "source"):
            value = notes.get(key) or ""
            if not value.strip() or len(value) > _ANNOTATION_CHARS or not value.isprintable():
                raise _refused(
                    file, f'rule {name} needs @{key}("..."), one line to {_ANNOTATION_CHARS} chars'
                )
        yield Rule(name, body["effect"], notes["why"], notes["source"], file.name)


def _check_unique(rules: list[Rule]) -> None:
    seen: dict[str, Rule] = {}
    for rule in rules:
        if other := seen.get(rule.id):
            raise ConfigurationError(
                f"policy: @id {rule.id!r} stands in {other.file} and in {rule.file}; rename one"
            )
        seen[rule.id] = rule


def _check_positions(together: str, by_policy_id: Mapping[str, Rule]) -> None:
    """Cedar's own numbering of the whole must be the one that decisions are explained with."""
    parsed = json.loads(cedarpy.policies_to_json_str(together))["staticPolicies"]
    if {key: body["annotations"]["id"] for key, body in parsed.items()} != {
        key: rule.id for key, rule in by_policy_id.items()
    }:
        raise ConfigurationError("policy: the rule files parse differently together than apart")


def _line(error: object) -> str:
    return " ".join(str(error).split())[:300]


def _refused(where: Path, why: str) -> ConfigurationError:
    return ConfigurationError(f"policy {where}: {why}")
