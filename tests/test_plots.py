"""One style: colours that all readers can tell apart, sizes of a paper, the same bytes for the same picture."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from idim import plots

COLOURS = (plots.BLUE, plots.ORANGE, plots.GREEN, plots.RED, plots.GREY)
SEEN = {  # linear RGB of full deficiency, Machado et al. 2009
    "all cones": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = np.array([0.9505, 1.0, 1.089])


def linear(colour: str) -> np.ndarray:
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    xyz = XYZ @ rgb.clip(0, 1) / WHITE
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eyes", SEEN)
def test_any_two_colours_differ_for_every_reader(eyes: str) -> None:
    places = [lab(np.asarray(SEEN[eyes]) @ linear(colour)) for colour in COLOURS]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(places, 2)) >= 18


def test_the_distance_is_that_of_the_standard() -> None:
    assert lab(linear("#ffffff")) == pytest.approx([100, 0, 0], abs=0.05)
    assert lab(linear("#ff0000")) == pytest.approx([53.24, 80.09, 67.20], abs=0.05)


def test_a_figure_for_paper_has_the_width_of_columns(tmp_path: Path) -> None:
    for wide, inches in ((False, 3.3), (True, 6.9)):
        with plots.paper(2.0, wide=wide) as fig:
            fig.subplots().plot([1, 2])
            assert tuple(fig.get_size_inches()) == (inches, 2.0)
            assert fig.axes[0].xaxis.label.get_fontsize() == 8
            plots.save(fig, tmp_path / "one.png")
            plots.save(fig, tmp_path / "two.png")
        assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
