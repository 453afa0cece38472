"""Draw figures into ``paper_figs/drawn``: ``python -m paper_figs [NAME …]``; ``idim figures`` draws them elsewhere."""

from __future__ import annotations

import sys

from idim import cli
from paper_figs.common import COMMITTED

if __name__ == "__main__":
    cli.main(["figures", *sys.argv[1:], "--out", str(COMMITTED.out)])
