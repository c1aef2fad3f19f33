"""Who may use the pages and the API, and the ways in that they have."""

from datetime import datetime, timedelta

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.orm import Session

from storage.database import Database
from storage.errors import LastAdministrator, NameTaken, NotFound, UsersExist
from storage.records import AccessRecord, UserRecord
from storage.states import AccessKind, UserRole
from storage.tables import AccessRow, UserRow
from storage.transitions import insert_new, record_of

_USED_STEP = timedelta(minutes=1)


class Users:
    """The users of a node.

    Every method that takes a `name` of a user raises `NotFound` when there is none.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def exist(self) -> bool:
        """Say whether there is any user who is not shut out."""
        with self._database.read() as session:
            return bool(session.scalar(select(exists().where(UserRow.disabled_at.is_(None)))))

    def add(self, name: str, role: UserRole, password_hash: str, now: datetime) -> UserRecord:
        """Add a user.

        Raises
        ------
        NameTaken
        """
        with self._database.write() as session:
            return _add(session, name, role, password_hash, now)

    def add_first(self, name: str, password_hash: str, now: datetime) -> UserRecord:
        """Add the first user, an administrator.

        Raises
        ------
        UsersExist
            There are users already.
        """
        with self._database.write() as session:
            # PostgreSQL: two callers at once would both see an empty table.
            if session.get_bind().dialect.name == "postgresql":
                session.connection().exec_driver_sql("LOCK TABLE web_user IN EXCLUSIVE MODE")
            if session.scalar(select(exists().where(UserRow.id.is_not(None)))):
                raise UsersExist
            return _add(session, name, UserRole.ADMINISTRATOR, password_hash, now)

    def get(self, name: str) -> UserRecord:
        """Get a user."""
        with self._database.read() as session:
            return record_of(UserRecord, _get(session, name))

    def list_users(self) -> list[UserRecord]:
        """List all users by name, those who are shut out too."""
        with self._database.read() as session:
            rows = session.scalars(select(UserRow).order_by(UserRow.name))
            return [record_of(UserRecord, row) for row in rows]

    def set_password(
        self, name: str, password_hash: str, now: datetime, *, keep_sessions: bool = False
    ) -> None:
        """Give a user another password.

        Sessions and tokens end, so that who knew the old one is out; `keep_sessions` is for a
        better hash of the same password.
        """
        with self._database.write() as session:
            user = _get(session, name)
            user.password_hash = password_hash
            if not keep_sessions:
                user.password_changed_at = now
                session.execute(delete(AccessRow).filter_by(user_id=user.id))

    def set_role(self, name: str, role: UserRole) -> None:
        """Give a user another role.

        Raises
        ------
        LastAdministrator
        """
        with self._database.write() as session:
            user = _get(session, name)
            if role is not UserRole.ADMINISTRATOR:
                _check_others(session, user)
            user.role = role

    def disable(self, name: str, now: datetime) -> None:
        """Shut a user out at once; the name stays, because the audit trail knows it.

        Raises
        ------
        LastAdministrator
        """
        with self._database.write() as session:
            user = _get(session, name)
            _check_others(session, user)
            user.disabled_at = now
            session.execute(delete(AccessRow).filter_by(user_id=user.id))

    def enable(self, name: str) -> None:
        """Let a user in again."""
        with self._database.write() as session:
            _get(session, name).disabled_at = None

    def note_login(self, name: str, now: datetime) -> None:
        """Say that a user has logged in."""
        with self._database.write() as session:
            _get(session, name).last_login_at = now

    def grant(
        self,
        name: str,
        kind: AccessKind,
        digest: str,
        *,
        label: str,
        now: datetime,
        expires_at: datetime,
    ) -> None:
        """Give a user a way in: whoever has the secret with this digest is the user."""
        with self._database.write() as session:
            session.execute(delete(AccessRow).where(AccessRow.expires_at < now))
            session.add(
                AccessRow(
                    digest=digest,
                    user_id=_get(session, name).id,
                    kind=kind,
                    label=label,
                    created_at=now,
                    used_at=now,
                    expires_at=expires_at,
                )
            )

    def find(
        self,
        digest: str,
        kind: AccessKind,
        *,
        idle: timedelta | None,
        now: datetime,
        is_use: bool = True,
    ) -> UserRecord | None:
        """Find who has a secret; None when it is unknown, over, or was idle for too long.

        Parameters
        ----------
        digest, kind
            Of the secret, and what it is for.
        idle
            How long it may be left unused; None means until it is over.
        now
            The time of the use.
        is_use
            Whether this keeps it from being idle.
        """
        with self._database.read() as session:
            access = session.get(AccessRow, digest)
            if access is None or access.kind is not kind or access.expires_at <= now:
                return None
            if idle is not None and access.used_at + idle <= now:
                return None
            user = record_of(UserRecord, session.get_one(UserRow, access.user_id))
            is_noted = not is_use or access.used_at + _USED_STEP > now
        if user.disabled_at is not None:
            return None
        if not is_noted:
            with self._database.write() as session:
                session.execute(update(AccessRow).filter_by(digest=digest).values(used_at=now))
        return user

    def revoke(self, digest: str) -> None:
        """Take a way in away; nothing happens if there is none."""
        with self._database.write() as session:
            session.execute(delete(AccessRow).filter_by(digest=digest))

    def list_access(self, name: str, kind: AccessKind) -> list[AccessRecord]:
        """List the ways in of a user, the newest first."""
        with self._database.read() as session:
            statement = (
                select(AccessRow)
                .filter_by(user_id=_get(session, name).id, kind=kind)
                .order_by(AccessRow.created_at.desc())
            )
            return [record_of(AccessRecord, row) for row in session.scalars(statement)]


def _add(
    session: Session, name: str, role: UserRole, password_hash: str, now: datetime
) -> UserRecord:
    values = {
        "name": name,
        "role": role,
        "password_hash": password_hash,
        "created_at": now,
        "password_changed_at": now,
    }
    if not insert_new(session, UserRow, values):
        raise NameTaken(name)
    return record_of(UserRecord, _get(session, name))


def _get(session: Session, name: str) -> UserRow:
    row = session.scalars(select(UserRow).filter_by(name=name)).one_or_none()
    if row is None:
        raise NotFound("user", name)
    return row


def _check_others(session: Session, user: UserRow) -> None:
    """Check that another administrator is left without this user."""
    if user.role is not UserRole.ADMINISTRATOR or user.disabled_at is not None:
        return
    administrators = select(func.count()).where(
        UserRow.role == UserRole.ADMINISTRATOR,
        UserRow.disabled_at.is_(None),
        UserRow.id != user.id,
    )
    if not session.scalar(administrators):
        raise LastAdministrator(user.name)
