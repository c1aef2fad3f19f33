"""Keep what was removed, when, and by which rule."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

UID = sa.String(64)
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the columns and tables of retention; nothing counts as removed."""
    op.add_column(
        "series", sa.Column("size_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )
    op.add_column("series", sa.Column("removed_at", TIME))
    op.add_column(
        "series", sa.Column("missing_files", sa.Integer(), server_default=sa.text("0"), nullable=False)
    )
    op.add_column("instance", sa.Column("removed_at", TIME))
    op.add_column("job", sa.Column("results_removed_at", TIME))
    op.execute(
        "UPDATE series SET size_bytes = (SELECT COALESCE(SUM(instance.size_bytes), 0) FROM instance "
        "WHERE instance.series_uid = series.series_uid)"
    )
    held, leaving = sa.text("size_bytes > 0"), sa.text("removed_at IS NOT NULL AND path <> ''")
    op.create_index(
        "ix_series_held", "series", ["series_uid"], sqlite_where=held, postgresql_where=held
    )
    op.create_index(
        "ix_instance_leaving",
        "instance",
        ["series_uid"],
        sqlite_where=leaving,
        postgresql_where=leaving,
    )
    _make_series_event()
    _make_tick()


def _make_series_event() -> None:
    op.create_table(
        "series_event",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("series_uid", UID, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["series_uid"], ["series.series_uid"], name=op.f("fk_series_event_series_uid")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series_event")),
    )
    op.create_index("ix_series_event_series_uid", "series_event", ["series_uid"])


def _make_tick() -> None:
    op.create_table(
        "tick",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("first_attempt_at", TIME),
        sa.Column("next_attempt_at", TIME, nullable=False),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text()),
        sa.Column("lease_until", TIME),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_tick")),
    )
