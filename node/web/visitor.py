"""Who asks, and what that user may see and do."""

from dataclasses import dataclass

from storage.states import UserRole


@dataclass(frozen=True, kw_only=True)
class Visitor:
    """A user at work, by a browser or a program."""

    name: str
    role: UserRole
    address: str
    """Of the machine that asks; behind a proxy, as the proxy says."""
    sees_patients: bool

    @property
    def actor(self) -> str:
        """How histories and the audit trail name the user."""
        return f"user:{self.name}"

    def may(self, role: UserRole) -> bool:
        """Say whether the user may do what this role may."""
        return self.role.covers(role)
