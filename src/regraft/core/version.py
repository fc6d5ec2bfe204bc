"""The version of regraft, in a file that imports nothing."""

__version__ = "0.1.0"
