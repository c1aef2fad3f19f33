"""Why a request is refused."""


class Refused(Exception):
    """A request that is not served; the message is for the user.

    Parameters
    ----------
    message
        A sentence that says what to do.
    """

    status = 403


class NotLoggedIn(Refused):
    """Nobody is logged in, or no longer."""

    status = 401


class Forbidden(Refused):
    """The user's role does not go so far."""


class WrongForm(Refused):
    """A form did not come from our own page (cross-site request forgery), or is an old one."""


class NotHere(Refused):
    """There is no such thing, or no longer."""

    status = 404


class Unusable(Refused):
    """What was entered cannot be used."""

    status = 422


class Conflict(Refused):
    """It cannot be done as things stand."""

    status = 409


class TooMany(Refused):
    """Too many attempts."""

    status = 429
