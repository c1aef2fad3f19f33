"""Keep what people search by, users, the audit trail, alerts, retrievals and suspended work."""

import sqlalchemy as sa
from alembic import op

from storage.audit_guard import FUNCTION

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
SEARCH_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SERIES_KEYS = ("patient_id_key", "patient_name_key", "accession_number_key")
SERIES_TEXTS = (
    "calling_address",
    "patient_id",
    "patient_name",
    "accession_number",
    "study_date",
    "study_description",
    "series_description",
)


def upgrade() -> None:
    """Add columns and tables; of series that are settled already nothing is known."""
    for name in SERIES_TEXTS:
        op.add_column("series", sa.Column(name, sa.Text(), server_default="", nullable=False))
    for name in SERIES_KEYS:
        op.add_column("series", sa.Column(name, SEARCH_TEXT, server_default="", nullable=False))
    op.create_index(
        "ix_series_patient_id_key", "series", ["patient_id_key", "first_received_at"]
    )
    for name in ("patient_name_key", "accession_number_key", "study_uid", "rule"):
        op.create_index(f"ix_series_{name}", "series", [name])
    op.add_column("job", sa.Column("step", sa.Text(), server_default="", nullable=False))
    op.add_column(
        "job", sa.Column("step_share", sa.Double(), server_default=sa.text("0"), nullable=False)
    )
    op.create_index("ix_job_calling_ae_title_id", "job", ["calling_ae_title", "id"])
    op.create_index("ix_job_created_at_id", "job", ["created_at", "id"])
    op.create_index("ix_job_updated_at_id", "job", ["updated_at", "id"])
    pending = sa.text("state = 'PENDING'")
    op.create_index(
        "ix_delivery_pending",
        "delivery",
        ["job_id"],
        sqlite_where=pending,
        postgresql_where=pending,
    )
    _make_pause()
    _make_users()
    _make_audit()
    _make_alert()
    _make_retrieval()


def _closed_set(name: str, *values: str) -> sa.Enum:
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=16)


def _make_pause() -> None:
    op.create_table(
        "pause",
        sa.Column("work", _closed_set("work", "processing", "delivery"), nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("work", name=op.f("pk_pause")),
    )


def _make_users() -> None:
    op.create_table(
        "web_user",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "role", _closed_set("user_role", "viewer", "operator", "administrator"), nullable=False
        ),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("password_changed_at", TIME, nullable=False),
        sa.Column("last_login_at", TIME),
        sa.Column("disabled_at", TIME),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_web_user")),
        sa.UniqueConstraint("name", name=op.f("uq_web_user_name")),
    )
    op.create_table(
        "web_access",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("kind", _closed_set("access_kind", "session", "token"), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("used_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["web_user.id"], name=op.f("fk_web_access_user_id")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_web_access")),
    )
    op.create_index("ix_web_access_user_id", "web_access", ["user_id"])


def _make_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("event", sa.String(32), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("study_uid", sa.String(64), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_at", "audit", ["at"])
    op.create_index("ix_audit_event_at", "audit", ["event", "at"])
    op.create_index("ix_audit_patient_id", "audit", ["patient_id"])
    op.create_table(
        "audit_cursor",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("last_id", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_audit_cursor")),
    )
    _forbid_change()


def _forbid_change() -> None:
    """Make the table of the audit trail append-only."""
    if op.get_bind().dialect.name == "sqlite":
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_no_{change.lower()} BEFORE {change} ON audit "
                "BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END"
            )
        return
    op.execute(FUNCTION)
    op.execute(
        "CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()"
    )


def _make_alert() -> None:
    op.create_table(
        "alert",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("raised_at", TIME, nullable=False),
        sa.Column("seen_at", TIME, nullable=False),
        sa.Column("told_at", TIME),
        sa.Column("cleared_at", TIME),
        sa.PrimaryKeyConstraint("kind", "subject", name=op.f("pk_alert")),
    )


def _make_retrieval() -> None:
    states = ("WAITING", "RUNNING", "DONE", "NOT_FOUND", "FAILED", "CANCELED")
    op.create_table(
        "retrieval",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("batch", sa.Text(), nullable=False),
        sa.Column("peer", sa.Text(), nullable=False),
        sa.Column(
            "key", _closed_set("retrieval_key", "accession", "patient", "study"), nullable=False
        ),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("retrieval", _closed_set("retrieval", "get", "move"), nullable=False),
        sa.Column("at_night", sa.Boolean(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("state", _closed_set("retrieval_state", *states), nullable=False),
        sa.Column("offered", sa.Integer(), nullable=False),
        sa.Column("fetched", sa.Integer(), nullable=False),
        sa.Column("series_uids", sa.JSON(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("first_attempt_at", TIME),
        sa.Column("next_attempt_at", TIME, nullable=False),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text()),
        sa.Column("lease_until", TIME),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.CheckConstraint("attempts >= 0", name=op.f("ck_retrieval_attempts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retrieval")),
    )
    op.create_index("ix_retrieval_due", "retrieval", ["peer", "state", "next_attempt_at"])
    op.create_index("ix_retrieval_batch", "retrieval", ["batch"])
