"""Run the migrations on the connection that `storage.database.upgrade_database` hands in."""

from alembic import context

from storage.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite alters a table by copying it.
    render_as_batch=True,
    # All or nothing, on SQLite too.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
