"""HOME/config.toml as it is first written: what is set, and what may be, as comments."""

from __future__ import annotations

import json

from tieline_client.directory import Role

from tieline_server.config import NodeConfig
from tieline_server.config_clock import clock_lines
from tieline_server.config_same_as import same_as_lines


def to_toml(config: NodeConfig) -> str:
    """Return the file's text, with what may be changed and the defaults as comments."""
    contact = config.contact
    lines = [
        "# One node of a Tieline federation. `tieline node serve` checks this file at start.",
        f"agency = {_text(config.agency)}",
        f"name = {_text(config.name)}",
        f"role = {_text(str(config.role))}",
        f"countries = {json.dumps(list(config.countries))}",
        f"listen = {_text(config.listen)}" if config.listen else "# listen: it only calls out",
        f"operator_listen = {_text(config.operator_listen)}",
        "# Where peers reach this node, if not at `listen`:",
        f"endpoint = {_text(config.endpoint)}" if config.endpoint else '# endpoint = "HOST:PORT"',
        f"outbound_only = {str(config.outbound_only).lower()}",
        "# If it only calls out: attached to `all` members that can be called, or a `hub` alone.",
        f"attach = {_text(config.attach)}",
        "# An HTTP proxy for all calls to other nodes, and a file with USER:PASSWORD for it:",
        f"proxy = {_text(config.proxy)}" if config.proxy else '# proxy = "http://HOST:PORT"',
        f"proxy_credentials = {_text(config.proxy_credentials)}"
        if config.proxy_credentials
        else '# proxy_credentials = "/path"',
        f"database = {_text(config.database)}  # empty: SQLite in this home",
        "# A file of mode 0600 with its password, if not systemd's tieline-database-password:",
        f"database_password_file = {_text(config.database_password_file)}"
        if config.database_password_file
        else '# database_password_file = "/path"',
        f"first_operator = {_text(config.first_operator)}",
        "# PKCS#11 URIs of CA keys that a token holds; without one, keys/*-ca.key, or offline:",
        f"node_ca_key = {_text(config.node_ca_key)}",
        f"operator_ca_key = {_text(config.operator_ca_key)}",
        "# Metrics by HTTP, on this machine only:",
        f"metrics_listen = {_text(config.metrics_listen)}"
        if config.metrics_listen
        else '# metrics_listen = "127.0.0.1:9464"',
        "# Records in these categories become holdings; all else is counted and not stored.",
        f"categories = {json.dumps([list(pair) for pair in config.categories])}",
        f"handling = {_text(config.handling)}",
        f"tlp = {_text(config.tlp)}",
        f"source = {_text(config.source)}",
        f"information = {config.information}",
        "# The audit log's entries are erased after so many days (see the agency's law):",
        f"audit_keep_days = {config.audit_keep_days}",
        "# Standing queries are asked anew each night from this hour on, UTC:",
        f"watch_hour = {config.watch_hour}",
        f"count_least = {config.count_least}",
        "",
        "[budgets]  # what a peer may ask in a day; `tieline budget` shows and changes it",
        f"default = {config.budgets.default}",
        '# peers = { "es-pn" = 1_000_000 }',
        '# purposes = { "data-quality" = 100_000 }',
        *_numbering_lines(config),
        "",
        *clock_lines(config.clock),
        "",
        *same_as_lines(config.same_as),
        "",
        "[contact]  # the duty contact, told with every series",
        f"name = {_text(contact.name)}",
        f"email = {_text(contact.email)}",
        f"phone = {_text(contact.phone)}",
    ]
    return "\n".join(lines) + "\n"


def _numbering_lines(config: NodeConfig) -> list[str]:
    if config.role is not Role.REPOSITORY:
        return []
    numbering = config.numbering
    return [
        "",
        "[numbering]  # the repository's own series numbers: PREFIX-YEAR-NUMBER",
        f"prefix = {_text(numbering.prefix)}  # empty: the agency's id in capitals",
        f"yearly = {str(numbering.yearly).lower()}",
        f"digits = {numbering.digits}",
        f"first = {numbering.first}",
    ]


def _text(value: str) -> str:
    """A TOML basic string; JSON's escapes are among TOML's."""
    return json.dumps(value, ensure_ascii=False)
