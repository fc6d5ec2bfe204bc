"""Entry point of ``regraft`` and ``python -m regraft``."""

import sys


def main() -> None:
    """Run the command line; mistakes end in one line, ``--debug`` shows where they came from."""
    from regraft.cli.app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
