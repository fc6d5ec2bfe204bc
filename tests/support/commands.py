"""The command line as a user calls it."""

from regraft.cli.app import run as cli

FAST = ["--steps", 4, "--batch", 4, "--evaluate-every", 2]
"""Options of a run that is over at once."""


def call(capsys, *arguments):
    """Run the command line; return its exit code, output and errors."""
    code = cli([str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err
