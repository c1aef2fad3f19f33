"""Keep what destinations have proven."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
PROOF_STATES = ("WAITING", "PROVEN", "GIVEN_UP")


def upgrade() -> None:
    """Make the table of proofs; nothing is asked of what was delivered before."""
    op.create_table(
        "proof",
        sa.Column("delivery_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                *PROOF_STATES,
                name="proof_state",
                native_enum=False,
                create_constraint=True,
                length=16,
            ),
            nullable=False,
        ),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("first_attempt_at", TIME),
        sa.Column("next_attempt_at", TIME, nullable=False),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text()),
        sa.Column("lease_until", TIME),
        sa.Column("transaction_uid", sa.String(64)),
        sa.Column("asked_at", TIME),
        sa.Column("committed_at", TIME),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.CheckConstraint("attempts >= 0", name=op.f("ck_proof_attempts")),
        sa.ForeignKeyConstraint(
            ["delivery_id"], ["delivery.id"], name=op.f("fk_proof_delivery_id")
        ),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("pk_proof")),
        sa.UniqueConstraint("transaction_uid", name=op.f("uq_proof_transaction_uid")),
    )
    op.create_index("ix_proof_due", "proof", ["state", "next_attempt_at"])
