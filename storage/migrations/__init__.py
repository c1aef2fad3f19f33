"""Migrations of the job database (alembic), run by `storage.database.upgrade_database`."""
