"""Keep how many instances a sender lists, what a series waits for, and what a job went without."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; no sender has been asked, and nothing is known to be missing."""
    op.add_column("series", sa.Column("counted_instances", sa.Integer()))
    op.add_column("series", sa.Column("counted_at", sa.DateTime(timezone=True)))
    op.add_column("series", _sentence("waits_for"))
    op.add_column("job", _sentence("remark"))


def _sentence(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), server_default="", nullable=False)
