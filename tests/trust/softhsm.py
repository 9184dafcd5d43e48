"""A token of SoftHSM2 with two P-256 keys, one for the whole run.

The module reads its configuration once a process, so every test that needs a token shares this one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "4711-not-a-real-pin"
_made: list[Token] = []


@dataclass
class Token:
    folder: Path

    @property
    def pin_file(self) -> Path:
        return self.folder / "pin"

    def uri(self, label: str = "node-ca", token: str = "tieline") -> str:
        return (
            f"pkcs11:token={token};object={label}"
            f"?module-path={MODULE}&pin-source=file:{self.pin_file}"
        )


def the_token(factory: pytest.TempPathFactory) -> Token:
    """Return it; skip the test where SoftHSM2 is not installed, and fail in CI."""
    if _made:
        return _made[0]
    if not MODULE.exists() or shutil.which("softhsm2-util") is None:
        if os.environ.get("CI"):
            pytest.fail("SoftHSM2 is not installed: apt-get install softhsm2")
        pytest.skip("SoftHSM2 is not installed")
    pkcs11 = pytest.importorskip("pkcs11")
    folder = factory.mktemp("token")
    (folder / "store").mkdir(mode=0o700)
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder / 'store'}\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(configuration)  # nodes that are started from here need it
    subprocess.run(
        [
            *("softhsm2-util", "--init-token", "--free", "--label", "tieline"),
            *("--pin", PIN, "--so-pin", "so-secret"),
        ],
        check=True,
        capture_output=True,
    )
    made = Token(folder)
    made.pin_file.touch(0o600)
    made.pin_file.write_text(PIN + "\n")
    from pkcs11.util.ec import encode_named_curve_parameters

    with (
        pkcs11.lib(str(MODULE))
        .get_token(token_label="tieline")
        .open(rw=True, user_pin=PIN) as session
    ):
        curve = session.create_domain_parameters(
            pkcs11.KeyType.EC,
            {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")},
            local=True,
        )
        for label in ("node-ca", "operator-ca"):
            curve.generate_keypair(store=True, label=label)
    _made.append(made)
    return made
