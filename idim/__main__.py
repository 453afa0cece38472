"""``python -m idim``: the same program as ``idim``."""

from idim.cli import main

if __name__ == "__main__":
    main()
