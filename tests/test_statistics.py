"""Intervals: exact where they can be, against a loop where they cannot, and their coverage."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose

from ctrcl.report import stats as statistics
from ctrcl.report.stats import interval, paired, seed_spread


def rows_of(values: np.ndarray, cases: int = 1) -> pd.DataFrame:
    """Rows of an array, seeds x units x classes; with `cases` > 1 that many successive units are one patient's."""
    seeds, units, classes = values.shape
    return pd.DataFrame(
        {"seed": s, "patient": f"p{u // cases:03}", "case": f"c{u:03}", "class": f"k{k}", "dsc": values[s, u, k]}
        for s in range(seeds)
        for u in range(units)
        for k in range(classes)
    )


@pytest.fixture
def uneven() -> pd.DataFrame:
    """Two seeds, nine patients of two cases, three classes, a quarter undefined, one class everywhere."""
    rng = np.random.default_rng(1)
    values = rng.uniform(0.2, 0.9, (2, 18, 3))
    values[:, rng.random((18, 3)) < 0.25] = np.nan
    values[:, 4, 1] = np.nan
    return rows_of(values, cases=2)


def seed_means(rows: pd.DataFrame) -> dict[str, list[tuple[str, float]]]:
    """Per patient its defined (class, mean over seeds), by a loop over the rows."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for row in rows.dropna().itertuples():
        found.setdefault((row.patient, row.case, row[4]), []).append(row.dsc)
    means: dict[str, list[tuple[str, float]]] = {}
    for (patient, _, name), values in found.items():
        means.setdefault(patient, []).append((name, sum(values) / len(values)))
    return means


def statistic_by_loops(means: dict[str, list[tuple[str, float]]], weight: dict[str, float]) -> float:
    """Mean over classes of the weighted mean over the defined cases of the patients."""
    total: dict[str, float] = {}
    count: dict[str, float] = {}
    for patient, cases in means.items():
        for name, value in cases:
            total[name] = total.get(name, 0) + weight[patient] * value
            count[name] = count.get(name, 0) + weight[patient]
    each = [total[name] / count[name] for name in total if count[name] > 0]
    return sum(each) / len(each)


def error_by_loops(means: dict[str, list[tuple[str, float]]], weight: dict[str, float]) -> float:
    """Standard error by numerical derivative: what a little more of each patient does to the statistic."""
    step, n, squares = 1e-5, len(means), 0.0
    for patient in means:
        more, less = ({**weight, patient: weight[patient] + sign * step} for sign in (1, -1))
        change = (statistic_by_loops(means, more) - statistic_by_loops(means, less)) / (2 * step)
        squares += weight[patient] * (n * change) ** 2
    return (squares / (n * (n - 1))) ** 0.5


def test_the_estimate_is_the_mean_over_classes_of_the_mean_over_defined_cases():
    values = np.array([[[0.2, 0.9], [0.4, np.nan], [0.6, np.nan]]])
    found = interval(rows_of(values), "dsc")
    assert_allclose(found.estimate, (0.4 + 0.9) / 2)
    assert found.n == 3


def test_a_class_without_a_defined_case_is_left_out():
    values = np.array([[[0.2, np.nan], [0.4, np.nan], [0.6, np.nan]]])
    assert_allclose(interval(rows_of(values), "dsc").estimate, 0.4)


def test_seeds_are_averaged_before_cases():
    few, many = np.array([[[0.5], [0.1]], [[np.nan], [0.3]]]), np.array([[[0.5], [0.2]]])
    found = interval(rows_of(few), "dsc")
    assert_allclose(found, interval(rows_of(many), "dsc"))
    assert_allclose(found.estimate, 0.35)  # the mean of all rows would be 0.3


def test_more_seeds_do_not_narrow_the_interval():
    values = np.random.default_rng(0).uniform(0, 1, (1, 12, 2))
    once, often = interval(rows_of(values), "dsc"), interval(rows_of(np.repeat(values, 5, axis=0)), "dsc")
    assert_allclose(once, often)


def test_cases_of_one_patient_are_one_unit():
    values = np.random.default_rng(0).uniform(0.3, 0.7, (1, 10, 1))
    alone, twice = interval(rows_of(values), "dsc"), interval(rows_of(np.repeat(values, 2, axis=1), cases=2), "dsc")
    assert_allclose(alone, twice)


def test_the_standard_error_of_one_class_is_the_textbooks():
    x = np.random.default_rng(0).normal(size=(15, 1))
    mean, error = statistics.linearised(np.ones((1, 15)), x, np.ones((15, 1)))
    assert_allclose([mean[0], error[0]], [x.mean(), x.std(ddof=1) / np.sqrt(15)])


def test_it_equals_naive_loops(uneven, monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 79)
    monkeypatch.setattr(statistics, "weights", statistics.weights.__wrapped__)
    means = seed_means(uneven)
    patients = sorted(means)
    once = dict.fromkeys(patients, 1)
    value, error = statistic_by_loops(means, once), error_by_loops(means, once)
    t = []
    for index in np.random.default_rng(statistics.SEED).integers(9, size=(79, 9)):
        drawn = [patients[i] for i in index]
        weight = {patient: drawn.count(patient) for patient in patients}
        t.append((statistic_by_loops(means, weight) - value) / error_by_loops(means, weight))
    t.sort()
    found = interval(uneven, "dsc")
    assert_allclose(found, (value, value - t[-2] * error, value - t[1] * error, 9), rtol=1e-6)


def test_paired_equals_the_interval_of_the_differences(uneven):
    other = uneven.assign(dsc=uneven["dsc"] ** 2)
    gap = interval(uneven.assign(dsc=uneven["dsc"] - other["dsc"]), "dsc")
    assert_allclose(paired(uneven, other, "dsc")[0], gap.estimate)
    assert paired(uneven, other, "dsc").sign == 1
    assert paired(other, uneven, "dsc").sign == -1


def test_paired_counts_what_is_defined_in_both():
    one, other = np.array([[[0.5], [0.7], [np.nan]]]), np.array([[[0.4], [np.nan], [0.1]]])
    found = paired(rows_of(one), rows_of(other), "dsc")
    assert_allclose(found.estimate, 0.1)
    assert found.n == 1


def test_the_order_of_rows_does_not_matter(uneven):
    shuffled = uneven.sample(frac=1, random_state=3)
    assert interval(uneven, "dsc") == interval(shuffled, "dsc")
    assert seed_spread(uneven, "dsc") == seed_spread(shuffled, "dsc")


@pytest.mark.parametrize("values", [np.full((2, 6, 2), 0.1), np.array([[[0.3, 0.4]]]), np.array([[[0.1], [0.9]]])])
def test_where_the_data_cannot_say_the_limits_are_not_numbers(values):
    found = interval(rows_of(values), "dsc")
    assert_allclose(found.estimate, np.mean(values))
    assert np.isnan([found.low, found.high]).all()
    assert found.sign == 0
    assert found.n == values.shape[1]


def test_nothing_defined_is_not_a_number():
    found = interval(rows_of(np.full((1, 3, 1), np.nan)), "dsc")
    assert np.isnan(found[:3]).all()
    assert found.n == 0


def test_limits_stay_where_the_measure_can_be():
    values = np.array([0.1, 0.9, 0.97, 0.98, 0.99, 1.0])[None, :, None]
    assert interval(rows_of(values), "dsc").high <= 1


def test_two_experiments_at_once_are_refused(uneven):
    with pytest.raises(ValueError, match="one experiment"):
        interval(pd.concat([uneven, uneven]), "dsc")


def test_seed_spread_is_least_and_most_of_the_seeds_own_means():
    values = np.array([[[0.2], [0.4]], [[0.6], [0.6]], [[0.5], [0.3]]])
    assert_allclose(seed_spread(rows_of(values), "dsc"), (0.3, 0.6))


def coverage(runs: int, units: int, skewed: bool, seeds: int = 3) -> float:
    """Share of samples whose interval holds the mean over all cases, given the seeds that were trained.

    A value is a case's own difficulty, the seed's own effect on all cases, and what the seed does to that case.
    """
    rng = np.random.default_rng(5)
    w, ones = statistics.weights(units), np.ones((units, 1))
    hits = 0
    for _ in range(runs):
        case = rng.beta(5, 1.5, units) - 5 / 6.5 if skewed else rng.normal(0, 0.1, units)
        effect = rng.normal(0, 0.02, seeds)
        values = case + effect[:, None] + rng.normal(0, 0.03, (seeds, units))
        x = values.mean(0)[:, None]
        point, error = (float(part[0]) for part in statistics.linearised(np.ones((1, units)), x, ones))
        low, high = statistics.studentised(point, error, *statistics.linearised(w, x, ones))
        hits += low <= effect.mean() <= high
    return hits / runs


@pytest.mark.parametrize("skewed", [False, True])
def test_the_interval_holds_the_mean_about_as_often_as_it_says(skewed):
    assert 0.90 <= coverage(150, 20, skewed) <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize("units", [20, 120])
def test_the_interval_holds_the_mean_as_often_as_it_says(units, skewed):
    assert 0.93 <= coverage(4000 if units == 20 else 1500, units, skewed) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("skewed", [False, True])
def test_with_twelve_units_the_interval_is_reported_as_it_comes_out(skewed, capsys):
    found = coverage(4000, 12, skewed)
    with capsys.disabled():
        print(f"\ncoverage with 12 {'skewed' if skewed else 'normal'} units: {found:.3f}")
    assert 0.90 <= found <= 0.99


# tests


def test_the_signed_rank_test_is_wilcoxons_on_the_units_own_means(uneven):
    other = uneven.assign(dsc=uneven["dsc"] - np.random.default_rng(2).normal(0.02, 0.05, len(uneven)))
    means, rivals = seed_means(uneven), seed_means(other)
    gaps = []
    for patient in sorted(means):
        by_class: dict[str, list[float]] = {}
        for (name, mine), (_, theirs) in zip(means[patient], rivals[patient], strict=True):
            by_class.setdefault(name, []).append(mine - theirs)
        gaps.append(np.mean([np.mean(values) for values in by_class.values()]))
    found = statistics.signed_rank(uneven, other, "dsc")
    assert found.p == pytest.approx(scipy.stats.wilcoxon(gaps).pvalue)
    ranks = np.argsort(np.argsort(np.abs(gaps))) + 1
    assert found.effect == pytest.approx(np.sum(np.sign(gaps) * ranks) / ranks.sum())
    assert found.n == 9


def test_an_effect_of_one_is_a_gain_in_every_unit():
    values = np.random.default_rng(0).uniform(0.3, 0.5, (1, 8, 2))
    found = statistics.signed_rank(rows_of(values + 0.1), rows_of(values), "dsc")
    assert found == (2 / 2**8, 1.0, 8)  # the least p that eight units can give
    assert found.p == statistics.least_p(8, family=1)
    assert statistics.signed_rank(rows_of(values), rows_of(values + 0.1), "dsc").effect == -1


def test_nothing_differs_is_no_evidence():
    values = np.random.default_rng(0).uniform(0.3, 0.5, (1, 8, 1))
    assert statistics.signed_rank(rows_of(values), rows_of(values), "dsc") == (1.0, 0.0, 8)


def test_below_six_units_there_is_no_test():
    values = np.random.default_rng(0).uniform(0.3, 0.5, (1, 5, 1))
    found = statistics.signed_rank(rows_of(values + 0.1), rows_of(values), "dsc")
    assert np.isnan([found.p, found.effect]).all()
    assert found.n == 5


def test_holm_by_hand():
    p = np.array([0.01, np.nan, 0.04, 0.03, 0.005])
    assert_allclose(statistics.holm(p), [0.03, np.nan, 0.06, 0.06, 0.02])
    assert_allclose(statistics.holm(np.array([0.5, 0.6])), [1, 1])
    assert np.isnan(statistics.holm(np.array([np.nan]))).all()


@given(arrays(float, st.integers(1, 12), elements=st.floats(0, 1)))
def test_holm_keeps_the_order_and_lies_between_p_and_bonferroni(p):
    found = statistics.holm(p)
    assert (found >= p).all()
    assert (found <= np.minimum(p * len(p), 1) + 1e-12).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(found[order]) >= 0).all()


@pytest.mark.slow
def test_a_table_without_any_effect_names_one_at_most_five_times_in_a_hundred():
    """Eight methods against one reference, none better: the comparisons share the reference's cases."""
    rng, runs, wrong = np.random.default_rng(3), 2000, 0
    for _ in range(runs):
        hard = rng.beta(5, 1.5, 20)
        scores = hard + rng.normal(0, 0.05, (9, 20))
        p = scipy.stats.wilcoxon(scores[1:] - scores[0], axis=1).pvalue
        wrong += (statistics.holm(p) < 0.05).any()
    assert wrong / runs <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / runs)
