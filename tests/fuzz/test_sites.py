"""A function that parses bytes by itself stands in the list of sites, and a decoder reaches it.

Found in the source: calls of the parsers below, by name. What parses by hand and calls none of them
is not found; that much this test cannot do.
"""

from __future__ import annotations

import ast
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from tieline_client.errors import TielineError

from tests.fuzz.decoders import DECODERS, SLOW, seeds_of
from tests.fuzz.sites import OWN, SITES

ROOT = Path(__file__).parents[2]
_METHODS = frozenset(
    {
        *("FromString", "ParseFromString", "MergeFromString", "ParseDict", "model_validate"),
        *("model_validate_json", "b64decode", "fromhex", "unpack_from", "iter_unpack"),
        *("load_der_x509_certificate", "load_pem_x509_certificate", "load_pem_x509_certificates"),
        *("load_der_public_key", "load_pem_public_key", "load_pem_private_key"),
        *("load_der_private_key", "load_der_x509_csr", "load_pem_x509_csr", "basic_parse"),
    }
)
_QUALIFIED = frozenset(
    {
        *("json.loads", "json.load", "tomllib.loads", "tomllib.load", "csv.reader"),
        *("csv.DictReader", "int.from_bytes", "struct.unpack", "pickle.loads", "parser.feed"),
        *("Metadata[Root].from_bytes", "Metadata[Timestamp].from_bytes", "_LENGTH.unpack"),
        *("Metadata[Snapshot].from_bytes", "Metadata[Targets].from_bytes"),
    }
)


def _functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef):
                    yield f"{node.name}.{inner.name}", inner


def _parses(function: ast.FunctionDef) -> bool:
    for call in ast.walk(function):
        if not isinstance(call, ast.Call):
            continue
        name = ast.unparse(call.func)
        last = name.rpartition(".")[2]
        if name in _QUALIFIED or last in _METHODS:
            return True
    return False


def found() -> set[str]:
    """Return the functions of the product that parse bytes by themselves."""
    paths = (
        path
        for folder in ("client/tieline_client", "server/tieline_server")
        for path in (ROOT / folder).rglob("*.py")
    )
    return {
        f"{path.relative_to(ROOT)}:{name}"
        for path in paths
        for name, function in _functions(path)
        if _parses(function)
    }


def test_every_parser_is_listed_and_every_line_is_of_one() -> None:
    sites = found()
    missing = {one for one in sites if one not in SITES}
    assert not missing, f"register in tests/fuzz/sites.py, with a decoder: {sorted(missing)}"
    gone = set(SITES) - sites
    assert not gone, f"no longer there: {sorted(gone)}"


def test_what_is_said_of_a_site_is_a_decoder_or_a_reason() -> None:
    for site, word in SITES.items():
        assert word in DECODERS or word in SLOW or word.startswith(OWN), f"{site}: {word}"
    named = {word for word in SITES.values() if not word.startswith(OWN)}
    assert len(named) > 12


@pytest.mark.parametrize("name", sorted({one for one in SITES.values() if one in DECODERS}))
def test_a_decoder_reaches_the_sites_that_name_it(name: str) -> None:
    """By running its seeds and looking which functions are entered."""
    wanted = {site for site, word in SITES.items() if word == name and site not in _UNDER_DATA}
    entered = _entered(name)
    reached = {one for one in wanted if one in entered}
    assert reached == wanted, f"not reached by {name}: {sorted(wanted - reached)}"


_UNDER_DATA = {
    "client/tieline_client/constraint_plans.py:_der",  # a signature that is DER
    "client/tieline_client/digests.py:parse_hex",  # the command line's own digests
    "client/tieline_client/directory.py:SigningKey.der",  # when a key is used
    "client/tieline_client/formats/nsrl.py:_cells",  # odd rows alone
    "client/tieline_client/formats/photodna.py:parse_photodna",
    "client/tieline_client/formats/tabular.py:Table._parsed",  # cells with line breaks
    "client/tieline_client/cli/doctor.py:_profile",  # of profiles that were read
    "client/tieline_client/cli/operators.py:_given",  # a file of one certificate
    "server/tieline_server/at_rest.py:_profile",  # profiles of the own home
    "server/tieline_server/renewing.py:import_leaf",  # after all checks on the leaf
    "server/tieline_server/trust/leaf_import.py:_check_key",  # one of them
    "server/tieline_server/federation_holders_cli.py:_public",  # a holder's key, as PEM
    "server/tieline_server/trust/directory_store.py:check_not_older",  # of verified copies
    "server/tieline_server/trust/merging.py:_signed",
    "server/tieline_server/trust/merging.py:_version",
    "client/tieline_client/keys.py:load_public",  # remembered
    "client/tieline_client/profile.py:_first_operator",  # the same file as the configuration
    "server/tieline_server/backup/container.py:_derive",  # the slow decoder
    "server/tieline_server/rpc/identity.py:_version_of",  # eight bytes of metadata
    "server/tieline_server/services/applying.py:Applying._renewed",  # of a message that is known
    "server/tieline_server/services/message_series.py:_notice_of",
    "server/tieline_server/services/redoing.py:_broadcast",
    "server/tieline_server/trust/stated.py:_check_own",
    "server/tieline_server/trust/tuf_copy.py:TufCopy.directory",
    "server/tieline_server/trust/tuf_online.py:_described",
}
"""Sites that valid seeds do not enter; the decoder beside them is their nearest door."""


def _entered(name: str) -> set[str]:
    """Return the functions of the product that reading a decoder's seeds enters."""
    codes: set[CodeType] = set()

    def look(frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call":
            codes.add(frame.f_code)

    seeds = seeds_of(name)
    previous = sys.getprofile()
    sys.setprofile(look)
    threading.setprofile(look)
    try:
        for seed in seeds:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    (DECODERS | SLOW)[name].read(seed)
                except TielineError:
                    continue
    finally:
        sys.setprofile(previous)
        threading.setprofile(None)
    root = str(ROOT)
    return {
        f"{code.co_filename.removeprefix(root)[1:]}:{code.co_qualname}"
        for code in codes
        if code.co_filename.startswith(root)
    }
