"""Errors of the settings.

SettingsError
"""


class SettingsError(Exception):
    """The settings cannot be used; the message names the key, the source and the remedy."""
