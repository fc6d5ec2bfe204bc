"""The errors that regraft raises on purpose; each message names what is wrong and what to do."""

LONGEST = 2400
"""Characters of the longest message; a longer one is cut in the middle."""


class RegraftError(Exception):
    """Base of all errors that a user can cause or mend; the command line prints them without a traceback.

    Attributes:
        exit_code: of the command line: 2 if what the user gave is wrong (settings, files, images), 1 if the work on it failed,
            130 if it was interrupted and its state saved.
    """

    exit_code: int = 1


class ConfigError(RegraftError, ValueError):
    """A setting is unknown, has a wrong value, or contradicts another one."""

    exit_code = 2


class SourceError(RegraftError, ValueError):
    """A file or folder cannot be read as a pretrained GAN.

    Names in files may be of any length, so messages that quote them are cut in the middle.
    """

    exit_code = 2

    def __init__(self, message: str) -> None:
        if len(message) > LONGEST:
            message = f"{message[: LONGEST - 400]} [...] {message[-300:]}"
        super().__init__(message)


class DownloadError(SourceError):
    """A file cannot be downloaded: no network, a fault of the server, or downloads are forbidden."""

    exit_code = 1


class DataError(RegraftError, ValueError):
    """Target images are missing, unreadable, or too few."""

    exit_code = 2


class MissingCapability(RegraftError):
    """A source lacks something that the chosen method needs."""

    exit_code = 2


class AdapterError(RegraftError, ValueError):
    """An adapter folder is incomplete or does not fit its source."""

    exit_code = 2


class TrainingError(RegraftError):
    """Training cannot go on: the loss is not finite, or the saved state is damaged."""


class OutOfMemory(RegraftError):
    """The device has too little memory for this batch and image size."""


class Interrupted(RegraftError):
    """A signal stopped the run; its state has been saved."""

    exit_code = 130
