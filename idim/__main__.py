"""``idim`` and ``python -m idim``: one program."""

import sys


def main() -> None:
    """Run the command line; an interrupt while it is still being imported ends as quietly as a later one."""
    try:
        from idim import cli
    except KeyboardInterrupt:
        sys.exit(130)
    cli.main()


if __name__ == "__main__":
    main()
