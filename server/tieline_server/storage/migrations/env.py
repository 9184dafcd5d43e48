"""Alembic's entry: always over the connection that `migrate` passes in, in its transaction."""

from alembic import context
from tieline_server.storage.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
