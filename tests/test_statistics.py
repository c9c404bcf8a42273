"""One statistic: exact against scipy and statsmodels where they have it, simulated coverage where they have not."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import ttest_rel
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from ctrcl.report import stats


def cells(units: int, seeds: int, drawn: int = 0, mean: float = 0.0, sd=(0.02, 0.01, 0.03)) -> pd.DataFrame:
    """Differences of units x seeds with standard deviations of units, seeds and residual."""
    rng = np.random.default_rng(drawn)
    of_units, of_seeds, rest = (
        rng.normal(0, s, shape) for s, shape in zip(sd, ((units, 1), (1, seeds), (units, seeds)), strict=True)
    )
    return pd.DataFrame(mean + of_units + of_seeds + rest)


def rows(values: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """One case and class a unit."""
    ids = [f"{n:03}" for n in range(len(values))]
    return pd.DataFrame({"patient": ids, "case": ids, "class": "organ", "seed": seed, "dsc": values})


tables = st.builds(cells, st.integers(2, 30), st.integers(1, 5), st.integers(0, 1000), st.floats(-0.05, 0.05))


def test_one_seed_is_the_paired_t_test():
    rng = np.random.default_rng(0)
    mine, other = rng.normal(0.8, 0.1, 17), rng.normal(0.78, 0.1, 17)
    found, oracle = stats.difference(rows(mine), rows(other), "dsc"), ttest_rel(mine, other)
    assert_allclose((found.p, found.df), (oracle.pvalue, oracle.df))
    assert_allclose(found.interval(), tuple(oracle.confidence_interval(0.95)))
    assert (found.units, found.seeds) == (17, 1)


@pytest.mark.parametrize("mean", [0.0, 0.004, 0.02])
def test_equivalence_with_one_seed_is_the_two_one_sided_tests_of_statsmodels(mean):
    for drawn in range(20):
        found = cells(40, 1, drawn, mean)
        p, *_ = ttost_paired(found[0].to_numpy(), np.zeros(40), -stats.MARGIN, stats.MARGIN)
        assert stats.estimate(found).small == (p < 0.05)


@given(tables)
def test_p_interval_and_verdict_agree(table):
    found = stats.estimate(table)
    low, high = found.interval()
    assert (found.p < 0.05) == (low > 0 or high < 0)
    assert found.verdict().startswith(stats.BETTER) == (low > 0)
    assert found.verdict().startswith(stats.WORSE) == (high < 0)
    small = found.interval(0.9)[0] > -stats.MARGIN and found.interval(0.9)[1] < stats.MARGIN
    assert (found.verdict() in (stats.EQUIVALENT, *stats.NEGLIGIBLE.values())) == small
    assert replace(found, margin=0).verdict() in (stats.BETTER, stats.WORSE, stats.INCONCLUSIVE)


@given(tables)
def test_exchanging_sides_flips_the_sign_and_nothing_else(table):
    one, other = stats.estimate(table), stats.estimate(-table)
    assert_allclose((other.mean, other.error, other.df, other.p), (-one.mean, one.error, one.df, one.p))
    assert_allclose(other.interval(), np.negative(one.interval()[::-1]))
    kind, *negligible = one.verdict().split(", ")
    assert other.verdict() == ", ".join([{"better": "worse", "worse": "better"}.get(kind, kind), *negligible])


@given(tables)
def test_the_error_is_that_of_the_units_means_and_of_the_seeds_means(table):
    units, seeds = table.mean(axis=1), table.mean(axis=0)
    expected = units.var() / len(units) + (seeds.var() / len(seeds) if len(seeds) > 1 else 0)
    assert_allclose(stats.estimate(table).error ** 2, expected)


@pytest.mark.parametrize("units", [20, 60])
def test_intervals_over_units_and_seeds_cover_what_they_say(units):
    hits, trials = 0, 1500
    for drawn in range(trials):
        low, high = stats.estimate(cells(units, 3, drawn)).interval()
        hits += low < 0 < high
    assert 0.93 <= hits / trials <= 0.97


def test_a_value_is_the_mean_over_the_defined_cases_and_classes_of_a_unit_and_seed():
    frame = pd.DataFrame(
        {
            "patient": ["p", "p", "p", "q", "q", "q"],
            "case": ["1", "1", "2", "3", "3", "3"],
            "class": ["x", "y", "x", "x", "y", "z"],
            "seed": 0,
            "dsc": [0.5, np.nan, 0.7, 0.9, 0.1, 0.2],
        }
    )
    found = stats.grid(frame, "dsc")
    assert_allclose(found.loc["p"], 0.6)
    assert_allclose(found.loc["q"], 0.4)
    assert_allclose(stats.means(frame, ["dsc"])["dsc"], 0.5)
    with pytest.raises(ValueError, match="one experiment"):
        stats.grid(pd.concat([frame, frame]), "dsc")


def test_a_difference_is_taken_over_what_both_sides_define():
    mine, other = rows(np.array([0.9, np.nan, 0.8, 0.7])), rows(np.array([0.8, 0.5, np.nan, 0.7]))
    found = stats.difference(mine, other, "dsc")
    assert_allclose(found.mean, 0.05)
    assert found.units == 2


def test_cells_that_are_not_defined_take_no_part():
    table = cells(20, 3)
    table.iloc[3, 1] = np.nan
    found = stats.estimate(table)
    assert_allclose(found.mean, np.nanmean(table))
    assert_allclose(found.error, stats.estimate(cells(20, 3)).error, rtol=0.1)
    empty = pd.DataFrame(np.nan, [*range(20, 25)], table.columns)
    assert stats.estimate(pd.concat([table, empty])) == found


def test_too_little_data_is_no_interval_and_inconclusive():
    one, none = stats.estimate(cells(1, 3)), stats.estimate(pd.DataFrame([[np.nan]]))
    for found in (one, none):
        assert np.isnan(found.interval()).all()
        assert found.verdict() == stats.INCONCLUSIVE
        assert np.isnan(found.p)
    assert np.isnan(none.mean)


def test_no_difference_at_all_is_equivalent_and_a_constant_one_certain():
    nothing, all_alike = (stats.estimate(pd.DataFrame(np.full((9, 2), value))) for value in (0.0, 0.1))
    assert (nothing.p, nothing.verdict()) == (1, stats.EQUIVALENT)
    assert (all_alike.p, all_alike.verdict()) == (0, stats.BETTER)


def test_the_detectable_difference_is_found_with_eighty_percent_power():
    found = stats.estimate(cells(25, 1))
    power = TTestPower().power(found.detectable / found.sd, 25, 0.05)
    assert_allclose(power, 0.8, atol=0.01)
    assert_allclose(found.effect, found.mean / found.sd)


def test_verdicts_of_a_table_go_by_holms_p_of_what_was_tested():
    gaps = [stats.estimate(cells(12, 3, drawn, mean)) for drawn, mean in enumerate((0.0, 0.02, 0.03, 0.04, -0.03))]
    nothing = stats.estimate(pd.DataFrame([np.nan]))
    found = stats.judged([gaps[0], nothing, *gaps[1:]])
    assert np.isnan(found[1][0])
    assert found[1][1] == stats.INCONCLUSIVE
    p = multipletests([gap.p for gap in gaps], method="holm")[1]
    assert_allclose([one for one, _ in found[:1] + found[2:]], p)
    for gap, corrected, (_, verdict) in zip(gaps, p, found[:1] + found[2:], strict=True):
        assert verdict.startswith(("better", "worse")) == (corrected < 0.05)
        assert corrected < 0.05 or verdict == (stats.EQUIVALENT if gap.small else stats.INCONCLUSIVE)
    assert stats.judged([nothing]) == [(pytest.approx(np.nan, nan_ok=True), stats.INCONCLUSIVE)]
