"""Keep which results go to a destination: those of its profile."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; until now there was the one profile."""
    default = sa.text("""'["ohif"]'""")
    op.add_column("result", sa.Column("profiles", sa.JSON(), server_default=default, nullable=False))
    op.add_column("delivery", sa.Column("profile", sa.Text(), server_default="ohif", nullable=False))
