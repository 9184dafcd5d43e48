"""A node as the unit of docs/operations.md starts it: its secret is a credential of systemd's, and
all but its home and a /tmp of its own is read-only.

There is no systemd here. What it makes of the unit is made by hand, in a mount namespace: the
folder of credentials (systemd.exec(5): a file system of memory, the unit's alone, read-only), the
modes it leaves, the environment it gives.
"""

from __future__ import annotations

import configparser
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tieline_client import keys
from tieline_server import at_rest
from tieline_server.config import Home

from tests.e2e.federation import STOP_SECONDS, Federation, Node, tieline

SECRET = "the-words-of-the-unit"
FOLDER = "/run/credentials/tieline.service"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
_COMMAND = Path(sys.executable).with_name("tieline")
_SANDBOX = """
set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=0755 tieline-test /run
mkdir -p {folder}
printf '%s\\n' "$SECRET_FOR_CREDENTIAL" >{folder}/{name}
unset SECRET_FOR_CREDENTIAL
chmod {file_mode} {folder}/{name}
chmod {folder_mode} {folder}
mount --bind {home} {place}
mkdir /run/checkout
mount --bind {checkout} /run/checkout
mount -t tmpfs -o mode=1777 tieline-test /tmp
[ -d {checkout} ] || {{ mkdir -p {checkout}; mount --bind /run/checkout {checkout}; }}
umount /run/checkout
mount -o remount,ro /run
mount -o remount,bind,ro /
! touch {outside} 2>/dev/null
exec {start}
"""


@pytest.fixture(scope="module")
def unit() -> configparser.ConfigParser:
    """The unit as the page has it."""
    found = [
        one for one in re.findall(r"```ini\n(.*?)```", PAGE.read_text(), re.S) if "[Unit]" in one
    ]
    parser = configparser.ConfigParser(strict=True, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(found[0])
    return parser


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A home whose keys are encrypted, and that was never served."""
    folder = tmp_path_factory.mktemp("unit")
    secret = folder / "secret"
    secret.touch(0o600)
    secret.write_text(f"{SECRET}\n")
    made = Federation(folder / "trial")
    made.root.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(keys.PASSPHRASE_VARIABLE, str(secret))
        node = made.found().add("pt-pj", "national", "PT")
    assert at_rest.plain_keys(Home(node.home)) == []
    try:
        yield node
    finally:
        made.close()


def _launch(
    node: Node, unit: configparser.ConfigParser, *, file_mode: str, folder_mode: str, secret: str
) -> None:
    """Start the node's process as systemd would; skip where no file system may be mounted."""
    service = unit["Service"]
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespace may be made here")
    start, place = service["ExecStart"].split(), service["ReadWritePaths"]
    assert start == ["/opt/tieline/.venv/bin/tieline", "node", "serve", "/srv/tieline"]
    assert place == start[-1]
    script = _SANDBOX.format(
        folder=FOLDER,
        name=service["LoadCredential"].partition(":")[0],
        file_mode=file_mode,
        folder_mode=folder_mode,
        home=node.home,
        place="/srv",  # exists everywhere; /srv/tieline does not
        checkout=PAGE.parents[1],  # which may be in /tmp
        outside=Path(__file__).with_name("written"),
        start=f"{_COMMAND} node serve /srv",
    )
    environment = {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "USER": service["User"],
        "INVOCATION_ID": "0" * 32,
        "CREDENTIALS_DIRECTORY": FOLDER,
        "SECRET_FOR_CREDENTIAL": secret,
    }
    with node.log.open("wb") as log:
        node.process = subprocess.Popen(
            ["unshare", "-rm", "sh", "-c", script],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
            env=environment, umask=int(service["UMask"], 8),
        )  # fmt: skip


def test_the_unit_is_what_the_node_needs(unit: configparser.ConfigParser) -> None:
    service = unit["Service"]
    assert service["LoadCredential"].startswith(f"{keys.PASSPHRASE_CREDENTIAL}:/")
    assert (service["ProtectSystem"], service["PrivateTmp"]) == ("strict", "yes")
    assert (service["UMask"], service["LimitCORE"]) == ("0077", "0")
    assert service["NoNewPrivileges"] == "yes"
    assert (
        "tieline_passphrase" not in PAGE.read_text().lower().split("```ini", 1)[1].split("```")[0]
    )


@pytest.mark.parametrize(
    ("file_mode", "folder_mode"),
    # Owned by the unit's user; and of root with an access list, whose mask shows as the group's.
    [("0400", "0500"), ("0440", "0550")],
)
def test_it_serves_with_the_credential_alone(
    node: Node, unit: configparser.ConfigParser, file_mode: str, folder_mode: str
) -> None:
    _launch(node, unit, file_mode=file_mode, folder_mode=folder_mode, secret=SECRET)
    node.wait_ready()
    assert node.process is not None
    process = Path("/proc") / str(node.process.pid)
    seen = process / "root" / FOLDER.lstrip("/") / keys.PASSPHRASE_CREDENTIAL
    assert oct(stat.S_IMODE(seen.stat().st_mode)) == oct(int(file_mode, 8))
    for name in ("cmdline", "environ"):
        assert SECRET.encode() not in (process / name).read_bytes()
    assert SECRET not in node.log.read_text("utf-8", "replace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CREDENTIALS_DIRECTORY", str(seen.parent))
        assert node.stats()["items"] == 0

    assert tieline("hashes", "stats", "--home", node.home).code == 1  # the profile is encrypted
    assert node.stop() == 0
    assert at_rest.loose(Home(node.home)) == []


def test_without_it_or_with_another_it_says_so_and_ends(
    node: Node, unit: configparser.ConfigParser
) -> None:
    for secret, words in (("other-words-than-those", "passphrase"), ("", "is empty")):
        _launch(node, unit, file_mode="0400", folder_mode="0500", secret=secret)
        assert node.process is not None
        assert node.process.wait(STOP_SECONDS) == 1
        said = node.log.read_text().splitlines()
        errors = [one for one in said if one.startswith("error: ")]
        assert len(errors) == 1, said
        assert words in errors[0]
        assert not secret or secret not in "\n".join(said)
