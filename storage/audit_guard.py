"""What makes the audit trail append-only in PostgreSQL; a dump of tables does not hold it."""

FUNCTION = (
    "CREATE OR REPLACE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'the audit trail is append-only'; END $$"
)
"""Called by a trigger of the table."""
