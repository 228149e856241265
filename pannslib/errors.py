"""Errors that are written for people.

Every one of them says what was wrong, where (file, clip, key), what is allowed and what to do next. The
command line prints the message alone and exits with 2; in a notebook the message is the last line.
"""


class PannsError(Exception):
    """Base of all errors that the user can mend; anything else that is raised is a fault of ours."""


class AudioError(PannsError):
    """A sound file that cannot be used: unreadable, empty, not finite."""


class DataError(PannsError):
    """A data set that is absent, incomplete or contradicts itself."""


class ProfileError(PannsError):
    """A profile with an unknown key, a wrong type or a value out of range."""


class ModelError(PannsError, ValueError):
    """A model that cannot be built, or an input that a model cannot take."""


class CheckpointError(PannsError):
    """A file of weights that is not what the model needs."""


class ResultError(PannsError):
    """A result that is not there, or belongs to other settings."""
