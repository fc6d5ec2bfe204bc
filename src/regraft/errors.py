"""Every error that regraft raises on purpose; each message names the thing and the way out."""

LONGEST = 2400


class RegraftError(Exception):
    """Base of all errors that a user can cause or mend; the command line prints it without a traceback."""


class ConfigError(RegraftError, ValueError):
    """A setting is unknown, has the wrong type, or contradicts another one."""


class SourceError(RegraftError, ValueError):
    """A file or folder cannot be read as a pretrained GAN.

    Names in files may be of any length; messages that quote them are cut in the middle.
    """

    def __init__(self, message: str) -> None:
        if len(message) > LONGEST:
            message = f"{message[: LONGEST - 400]} [...] {message[-300:]}"
        super().__init__(message)


class DataError(RegraftError, ValueError):
    """Target images are missing, unreadable, or too few."""


class MissingCapability(RegraftError):
    """A source lacks something that the chosen method needs."""


class AdapterError(RegraftError, ValueError):
    """An adapter folder is incomplete or does not fit its source."""


class TrainingError(RegraftError):
    """Training cannot go on: the loss is not finite, or a run folder is in the way."""


class OutOfMemory(RegraftError):
    """The device has too little memory for this batch and size."""


class Interrupted(RegraftError):
    """A signal asked to stop; the state has been saved."""
