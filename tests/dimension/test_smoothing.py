import math

import numpy as np
import pytest
from scipy import stats

from idim.dimension import smoothing
from idim.dimension.smoothing import Level, posterior, t_probability
from idim.errors import RequestError


def test_t_probability_is_the_t_law() -> None:
    gap, variance = np.array([-0.3, 0.0, 0.2]), np.array([0.01, 0.04, 0.09])
    wanted = stats.t(5).cdf(gap / np.sqrt(variance))
    np.testing.assert_allclose(t_probability(gap, variance, 5, Level(mean=0)), wanted)


def test_an_uncertain_level_adds_its_variance_with_welch_freedom() -> None:
    a, b = stats.norm(1.0, 0.1).rvs(6, random_state=0), stats.norm(0.9, 0.05).rvs(4, random_state=1)
    got = t_probability(
        np.array(a.mean() - b.mean()), np.array(a.var(ddof=1) / 6), 5, Level(mean=0, error=b.std(ddof=1) / 2, df=3)
    )
    wanted = 1 - stats.ttest_ind(a, b, equal_var=False, alternative="greater").pvalue
    assert float(got) == pytest.approx(wanted)


def test_without_any_error_the_comparison_is_exact() -> None:
    got = t_probability(np.array([-1e-9, 0.0, 1e-9]), np.zeros(3), 2, Level(mean=0))
    np.testing.assert_array_equal(got, [0, 1, 1])


def test_a_straight_line_alone_is_ordinary_regression(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoothing, "SEED_RATIOS", (0.0,))
    monkeypatch.setattr(smoothing, "SMOOTH_SIZES", ())
    monkeypatch.setattr(smoothing, "ROUGH_SIZES", ())
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 3, 12)
    y, at = 0.5 + 0.1 * x + 0.02 * rng.normal(size=12), np.array([0.5, 1.7])
    fit = posterior(x, np.arange(12), y, at, rise=0.3, noise=0.02)
    line = stats.linregress(x, y)
    residual = y - line.intercept - line.slope * x
    spread = (residual @ residual / 10) * (1 / 12 + (at - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum())
    np.testing.assert_allclose(fit.mean, line.intercept + line.slope * at)
    np.testing.assert_allclose(fit.variances[0], spread)
    assert fit.df == 10


def test_runs_of_one_seed_are_not_independent_evidence() -> None:
    rng = np.random.default_rng(0)
    x = np.repeat(np.linspace(0, 1, 4), 3)
    shift = np.tile([-0.009, 0.0, 0.009], 4)
    y = 0.5 + 0.1 * x + shift + 0.003 * rng.normal(size=12)
    shared = posterior(x, np.tile([0, 1, 2], 4), y, np.array([0.5]), rise=0.1, noise=0.009)
    apart = posterior(x, np.arange(12), y, np.array([0.5]), rise=0.1, noise=0.009)
    assert shared.weight @ shared.variances > 2 * (apart.weight @ apart.variances)


@pytest.mark.parametrize(
    "level", [{"mean": math.nan}, {"mean": 0.9, "error": -1.0}, {"mean": 0.9, "error": 0.1, "df": 0.0}]
)
def test_level_refuses_nonsense(level: dict[str, float]) -> None:
    with pytest.raises(RequestError, match="the threshold must be finite"):
        Level(**level)
