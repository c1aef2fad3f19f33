"""Make the first tables.

A revision never changes once it is released; so the states stand here as text.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

UID = sa.String(64)
AE_TITLE = sa.String(16)
TIME = sa.DateTime(timezone=True)
JOB_STATES = (
    "QUEUED",
    "RUNNING",
    "PRODUCED",
    "DELIVERING",
    "DELIVERED",
    "CONFIRMED",
    "REJECTED",
    "FAILED",
    "CANCELED",
    "SUPERSEDED",
)
DELIVERY_STATES = ("PENDING", "DELIVERED", "FAILED", "CANCELED")


def _one_of(values: tuple[str, ...], name: str) -> sa.Enum:
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=16)


def upgrade() -> None:
    """Make all tables."""
    _make_series()
    _make_instance()
    _make_job()
    _make_job_event()
    _make_result()
    _make_delivery()
    _make_role_heartbeat()


def _make_series() -> None:
    op.create_table(
        "series",
        sa.Column("series_uid", UID, nullable=False),
        sa.Column("study_uid", UID, nullable=False),
        sa.Column("modality", sa.Text(), nullable=False),
        sa.Column("calling_ae_title", AE_TITLE, nullable=False),
        sa.Column("instance_count", sa.Integer(), nullable=False),
        sa.Column("expected_instances", sa.Integer()),
        sa.Column("has_conflicts", sa.Boolean(), nullable=False),
        sa.Column("first_received_at", TIME, nullable=False),
        sa.Column("last_received_at", TIME, nullable=False),
        sa.Column("settled", sa.Boolean(), nullable=False),
        sa.Column("settled_at", TIME),
        sa.Column("decision", _one_of(("process", "skip"), "decision")),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("content_digest", sa.Text()),
        sa.CheckConstraint("settled = (settled_at IS NOT NULL)", name=op.f("ck_series_settled_at")),
        sa.PrimaryKeyConstraint("series_uid", name=op.f("pk_series")),
    )
    op.create_index("ix_series_first_received_at", "series", ["first_received_at"])
    op.create_index(
        "ix_series_open",
        "series",
        ["last_received_at"],
        sqlite_where=sa.text("settled = 0"),
        postgresql_where=sa.text("NOT settled"),
    )


def _make_instance() -> None:
    op.create_table(
        "instance",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sop_instance_uid", UID, nullable=False),
        sa.Column("sop_class_uid", UID, nullable=False),
        sa.Column("study_uid", UID, nullable=False),
        sa.Column("series_uid", UID, nullable=False),
        sa.Column("transfer_syntax_uid", UID, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("frame_count", sa.Integer(), nullable=False),
        sa.Column("slice_position_mm", sa.Double()),
        sa.Column("is_conflict", sa.Boolean(), nullable=False),
        sa.Column("calling_ae_title", AE_TITLE, nullable=False),
        sa.Column("received_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["series_uid"], ["series.series_uid"], name=op.f("fk_instance_series_uid")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance")),
        sa.UniqueConstraint(
            "sop_instance_uid", "sha256", name=op.f("uq_instance_sop_instance_uid_sha256")
        ),
    )
    op.create_index("ix_instance_series_uid", "instance", ["series_uid"])
    op.create_index(
        "uq_instance_sop_instance_uid",
        "instance",
        ["sop_instance_uid"],
        unique=True,
        sqlite_where=sa.text("is_conflict = 0"),
        postgresql_where=sa.text("NOT is_conflict"),
    )


def _make_job() -> None:
    op.create_table(
        "job",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("series_uid", UID, nullable=False),
        sa.Column("study_uid", UID, nullable=False),
        sa.Column("content_digest", sa.Text(), nullable=False),
        sa.Column("calling_ae_title", AE_TITLE, nullable=False),
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("model_digest", sa.Text(), nullable=False),
        sa.Column("state", _one_of(JOB_STATES, "job_state"), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("worker", sa.Text()),
        sa.Column("lease_until", TIME),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("started_at", TIME),
        sa.Column("finished_at", TIME),
        sa.Column("reason_code", sa.Text()),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("summary", sa.JSON(), nullable=False),
        sa.CheckConstraint(
            "state <> 'RUNNING' OR lease_until IS NOT NULL", name=op.f("ck_job_running_has_lease")
        ),
        sa.CheckConstraint("attempts >= 0", name=op.f("ck_job_attempts")),
        sa.ForeignKeyConstraint(
            ["series_uid"], ["series.series_uid"], name=op.f("fk_job_series_uid")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
        sa.UniqueConstraint(
            "series_uid",
            "content_digest",
            "model_digest",
            name=op.f("uq_job_series_uid_content_digest_model_digest"),
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_job_state_id", "job", ["state", "id"])


def _make_job_event() -> None:
    op.create_table(
        "job_event",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("from_state", _one_of(JOB_STATES, "from_state")),
        sa.Column("to_state", _one_of(JOB_STATES, "to_state"), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_job_event_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_event")),
    )
    op.create_index("ix_job_event_job_id", "job_event", ["job_id"])


def _make_result() -> None:
    op.create_table(
        "result",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sop_class_uid", UID, nullable=False),
        sa.Column("sop_instance_uid", UID, nullable=False),
        sa.Column("series_instance_uid", UID, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_result_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_result")),
        sa.UniqueConstraint(
            "job_id", "sop_instance_uid", name=op.f("uq_result_job_id_sop_instance_uid")
        ),
    )


def _make_delivery() -> None:
    op.create_table(
        "delivery",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("state", _one_of(DELIVERY_STATES, "delivery_state"), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("first_attempt_at", TIME),
        sa.Column("next_attempt_at", TIME, nullable=False),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text()),
        sa.Column("lease_until", TIME),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.CheckConstraint("attempts >= 0", name=op.f("ck_delivery_attempts")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_delivery_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery")),
        sa.UniqueConstraint("job_id", "destination", name=op.f("uq_delivery_job_id_destination")),
    )
    op.create_index(
        "ix_delivery_due", "delivery", ["destination", "state", "next_attempt_at"]
    )


def _make_role_heartbeat() -> None:
    op.create_table(
        "role_heartbeat",
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("beat_at", TIME, nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("role", "host", "pid", name=op.f("pk_role_heartbeat")),
    )
