"""How many messages wait in each lane to each recipient, kept by the database itself.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op
from tieline_server.storage.types import Words

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_OFF = (
    "UPDATE outbox_tallies SET queued = queued - 1,"
    " put_off = put_off - CASE WHEN OLD.held_until IS NULL THEN 0 ELSE 1 END"
    " WHERE recipient = OLD.recipient AND lane = OLD.lane"
)
_ON = (
    "INSERT INTO outbox_tallies (recipient, lane, queued, put_off)"
    " VALUES (NEW.recipient, NEW.lane, 1, CASE WHEN NEW.held_until IS NULL THEN 0 ELSE 1 END)"
    " ON CONFLICT (recipient, lane) DO UPDATE SET queued = outbox_tallies.queued + 1,"
    " put_off = outbox_tallies.put_off + excluded.put_off"
)
_CHANGED = "UPDATE OF recipient, lane, state, held_until"
# A message that is settled, which is what most updates are, costs one small update.
_TRIGGERS = (
    ("outbox_added", "INSERT", "NEW", _ON),
    ("outbox_removed", "DELETE", "OLD", _OFF),
    ("outbox_taken_off", _CHANGED, "OLD", _OFF),
    ("outbox_put_on", _CHANGED, "NEW", _ON),
)


def upgrade() -> None:
    op.create_table(
        "outbox_tallies",
        sa.Column("recipient", Words(), nullable=False),
        sa.Column("lane", sa.SmallInteger(), nullable=False),
        sa.Column("queued", sa.BigInteger(), nullable=False),
        sa.Column("put_off", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("recipient", "lane", name=op.f("pk_outbox_tallies")),
    )
    op.execute(
        "INSERT INTO outbox_tallies (recipient, lane, queued, put_off)"
        " SELECT recipient, lane, count(*), count(held_until) FROM outbox"
        " WHERE state = 'queued' GROUP BY recipient, lane"
    )
    postgres = op.get_bind().dialect.name == "postgresql"
    for name, event, row, statement in _TRIGGERS:
        head = f"CREATE TRIGGER {name} AFTER {event} ON outbox FOR EACH ROW"
        when = f"WHEN ({row}.state = 'queued')"
        if postgres:
            op.execute(
                f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS"
                f" $$ BEGIN {statement}; RETURN NULL; END $$"
            )
            op.execute(f"{head} {when} EXECUTE FUNCTION {name}()")
        else:
            op.execute(f"{head} {when} BEGIN {statement}; END")
