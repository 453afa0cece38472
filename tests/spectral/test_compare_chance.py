"""The zero line: random subspaces drawn another way, and the closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from idim.errors import RequestError
from idim.spectral.comparison.chance import (
    overlap_variance,
    random_angles,
    random_best_cosine,
    random_cosines,
    random_similarity,
    same_coordinates,
)

DRAWS = 4000
DIMENSIONS = [(4, 1, 2), (5, 2, 3), (6, 3, 4), (9, 8, 8), (16, 4, 8), (24, 8, 8), (24, 20, 10), (30, 1, 8)]


def direct(n: int, i: int, j: int, draws: int = DRAWS) -> np.ndarray:
    """Cosines between the first i axes and a uniform j-dimensional space of R^n, through QR of a Gaussian matrix."""
    generator = np.random.default_rng(7)
    bases = np.linalg.qr(generator.standard_normal((draws, n, j)))[0]
    return np.linalg.svd(bases[:, :i], compute_uv=False)


@pytest.mark.parametrize(("n", "i", "j"), DIMENSIONS)
def test_mean_variance_and_band_of_the_overlap(n: int, i: int, j: int) -> None:
    overlap = (direct(n, i, j) ** 2).sum(1)
    line = random_similarity(n, i, j)
    assert line.mean == max(i, j) / n
    assert overlap.mean() == pytest.approx(i * j / n, abs=5 * overlap.std() / math.sqrt(DRAWS))
    assert overlap.var() == pytest.approx(overlap_variance(n, i, j), rel=0.12)
    phi = overlap / min(i, j)
    inside = ((phi >= line.low) & (phi <= line.high)).mean()
    assert 0.915 <= inside <= 0.97  # 0.95 up to the beta approximation in few dimensions and 4000 draws


@pytest.mark.parametrize(("n", "i", "j"), DIMENSIONS)
def test_bartlett_factors_draw_the_same_cosines(n: int, i: int, j: int) -> None:
    drawn = random_cosines(n, i, j, draws=DRAWS, generator=np.random.default_rng(3))
    oracle = direct(n, i, j)
    assert drawn.shape == oracle.shape
    error = 6 * np.sqrt((drawn.var(0) + oracle.var(0)) / DRAWS) + 1e-9
    assert (abs(drawn.mean(0) - oracle.mean(0)) < error).all()
    assert (np.diff(drawn, axis=1) <= 1e-12).all()


def test_angles_of_random_spaces_are_a_function_of_the_seed() -> None:
    one = random_angles(64, 8, 4, seed=1)
    random_angles.cache_clear()
    assert one == random_angles(64, 8, 4, seed=1) != random_angles(64, 8, 4, seed=2)
    assert one.geodesic.low < one.geodesic.mean < one.geodesic.high < math.sqrt(4) * math.pi / 2
    expected = math.sqrt(4 - 64 * 8 * 4 / 64**2)  # chordal² = min(i, j) - overlap
    assert one.chordal.mean == pytest.approx(expected, abs=0.01)


def test_spaces_that_fill_everything_have_no_spread() -> None:
    line = random_similarity(8, 8, 3)
    assert (line.mean, line.low, line.high) == (1.0, 1.0, 1.0)
    assert random_angles(8, 8, 3).geodesic.high == 0.0
    assert random_similarity(1, 1, 1).mean == 1.0


def test_the_line_of_the_same_coordinates_is_the_mean_over_signs() -> None:
    generator = np.random.default_rng(2)
    a, b = (np.linalg.qr(generator.standard_normal((20, k)) * np.linspace(0.1, 3, 20)[:, None])[0] for k in (3, 5))
    signs = generator.choice([-1.0, 1.0], (DRAWS, 20))
    drawn = ((a.T @ (signs[:, :, None] * b)) ** 2).sum((1, 2)) / 3
    line = same_coordinates(torch.from_numpy(a), torch.from_numpy(b))
    assert line == pytest.approx(drawn.mean(), abs=5 * drawn.std() / math.sqrt(DRAWS))
    assert line > 5 / 20
    even = torch.eye(4, dtype=torch.float64) - 0.5  # a Hadamard-like basis: every entry is a half
    assert same_coordinates(even[:, :2], even[:, 1:]) == pytest.approx(3 / 4)


@pytest.mark.parametrize(("n", "count"), [(2, 2), (16, 16), (64, 20), (300, 300)])
def test_the_best_cosine_of_a_random_direction(n: int, count: int) -> None:
    directions = np.random.default_rng(5).standard_normal((DRAWS, n))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    best = abs(directions[:, :count]).max(1)
    below = (best < random_best_cosine(n, count)).mean()
    assert 0.93 <= below <= (0.97 if n > 2 else 1.0)  # in the plane the two cosines are far from independent


@pytest.mark.parametrize(("i", "j"), [(0, 1), (1, 0), (5, 1), (1, 5)])
def test_dimensions_out_of_range_are_refused(i: int, j: int) -> None:
    for function in (random_similarity, random_angles):
        with pytest.raises(RequestError, match=rf"R\^4 have dimensions from 1 to 4; received {i} and {j}"):
            function(4, i, j)
