"""The paper's pages: what they measure against loops, what they say against their numbers, what they miss by name."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import results_factory as factory
from numpy.testing import assert_allclose

from ctrcl.engine import metrics
from ctrcl.io import UserError, read_rows
from ctrcl.report import claims as ledger
from ctrcl.report import kept, tables
from ctrcl.report import notebook as notebooks
from ctrcl.report import stats as statistics
from ctrcl.report.figures import ablations, categories, feature_space, framework, motivation, rectification, training

ROOT = Path(__file__).parent.parent
DATASET = factory.DATASET
RNG = np.random.default_rng(3)
PAGES = ("motivation", "rectification", "categories", "training", "feature-space", "framework", "ablations")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return factory.project(tmp_path_factory.mktemp("project"))


@pytest.fixture
def results(project):
    return project / "results"


def blobs(seed: int) -> np.ndarray:
    """A small label map of a few components in two classes."""
    rng = np.random.default_rng(seed)
    drawn = np.zeros((14, 12), int)
    for _ in range(5):
        y, x = rng.integers(0, 11), rng.integers(0, 9)
        drawn[y : y + rng.integers(1, 5), x : x + rng.integers(1, 4)] = rng.integers(1, 3)
    return drawn


def edge_by_loops(mask):
    """Pixels of a mask with a face neighbour that is not in it, or beyond the image."""
    found = []
    for y, x in np.argwhere(mask):
        for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if not (0 <= v < mask.shape[0] and 0 <= u < mask.shape[1] and mask[v, u]):
                found.append((y, x))
                break
    return found


def touching_by_loops(mask, other):
    """Flood from the pixels that both masks share, through eight neighbours."""
    reached, waiting = np.zeros_like(mask), [tuple(p) for p in np.argwhere(mask & other)]
    while waiting:
        y, x = waiting.pop()
        if not reached[y, x]:
            reached[y, x] = True
            for v, u in np.argwhere(mask[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]):
                waiting.append((v + max(y - 1, 0), u + max(x - 1, 0)))
    return reached


@pytest.mark.parametrize("seed", range(6))
def test_faults_equal_loops_and_the_metrics(seed):
    predicted, truth = blobs(seed), blobs(seed + 100)
    found = motivation.faults(predicted, truth)
    misplaced, distance = np.zeros(truth.shape, bool), np.full(truth.shape, np.nan)
    for k in (1, 2):
        mine, theirs = predicted == k, truth == k
        right = touching_by_loops(mine, theirs)
        misplaced |= mine & ~right
        lines = edge_by_loops(touching_by_loops(theirs, mine))
        for y, x in edge_by_loops(right):
            distance[y, x] = min(np.hypot(y - v, x - u) for v, u in lines)
        if mine.any():
            measured = metrics.measure(mine, theirs, None)
            assert_allclose((mine & found.misplaced).sum() / mine.sum(), measured["mislocalised"])
            both = [
                motivation.faults(one.astype(int), other.astype(int)) for one, other in ((mine, theirs), (theirs, mine))
            ]
            off = np.concatenate([one.distance[np.isfinite(one.distance)] for one in both])
            assert_allclose(off.mean() if len(off) else np.nan, measured["boundary_error"])
    assert (found.misplaced == misplaced).all()
    assert_allclose(found.distance, distance)


def test_a_perfect_prediction_has_no_fault_and_a_lost_one_no_boundary():
    truth = blobs(1)
    found = motivation.faults(truth, truth)
    assert not found.misplaced.any()
    assert np.nanmax(found.distance) == 0
    assert "boundary off by 0.00 px" in str(found)
    lost = motivation.faults(np.flipud(np.eye(6, dtype=int)), np.eye(6, dtype=int))
    assert lost.misplaced.sum() == 6
    assert str(lost) == "1 mislocalised (6 pixels), nothing in the right place"


def test_the_motivation_page_judges_as_the_ledger_does(results):
    rng = np.random.default_rng(0)
    path = results / "smoke/cases" / DATASET / "alone.csv"
    before = read_rows(path)
    worse = before.assign(
        mislocalised=np.where(before["student"] == "a", 0.3, 0.1) + rng.uniform(0, 0.05, len(before)),
        boundary_error=np.where(before["student"] == "a", 3.0, 1.0) + rng.uniform(0, 0.5, len(before)),
    )
    factory.write_rows(path, worse)
    try:
        page = motivation.motivation(results, "smoke", DATASET)
        lines = ledger.ledger(results, "smoke")
    finally:
        factory.write_rows(path, before)
    for claim, row in zip(("9", "10"), page.frame.to_dict("records"), strict=True):
        line = lines[(lines["claim"] == claim) & (lines["dataset"] == DATASET)].iloc[0]
        assert (row["claim"], row["verdict"]) == (claim, line["verdict"])
        assert_allclose(row["gap"], line["difference"] * (100 if claim == "9" else 1))
    assert page.frame["verdict"].tolist() == ["supported", "contradicted"]
    text = page.text()
    for number in page.frame[["a", "b", "a_low", "b_high"]].to_numpy().ravel():
        assert f"{number:.3f}" in text
    assert "claim 9 (CNNs mislocalise more than Transformers) is supported here" in text


def test_rectification_measures_what_the_maps_hold(results):
    arrays = kept.samples_of(results / "smoke/samples" / DATASET / "ctrcl.npz")
    found = rectification.measured(arrays, 1, "a")
    error, p = arrays["error_a"][1], arrays["probabilities_a"][1].astype(float)
    sums = dict.fromkeys(("before", "after", "weight"), 0.0)
    for y, x in np.argwhere(error):
        own = p[arrays["truth"][1, y, x], y, x] / p[:, y, x].sum()
        weight = float(arrays["weight_a"][1, y, x])
        sums["before"] += own
        sums["after"] += weight * own + 1 - weight
        sums["weight"] += weight
    for name, total in sums.items():
        assert_allclose(found[name], total / error.sum())
    assert_allclose(found["wrong"], error.mean())
    said = rectification.rectified(results, "smoke", DATASET).text()
    assert f"{100 * found['wrong_foreground']:.1f} % (median)" in said


def test_nothing_wrong_is_nothing_rectified(results):
    page = rectification.rectified(results, "smoke", DATASET)
    page.frame[[*rectification.FACTORS, "before", "after"]] = np.nan
    assert "No pixel is wrong" in page.text()


def test_maps_are_reduced_as_in_training():
    import torch

    from ctrcl.losses.targets import reduce_to

    truth = RNG.integers(0, 4, (2, 10, 10))
    for side in (1, 3, 4, 10):
        assert (categories.reduced(truth, side) == reduce_to(torch.from_numpy(truth), (side, side)).numpy()).all()


def test_agreement_of_the_maps_equals_loops():
    mine, theirs = (RNG.dirichlet(np.ones(3), (2, 4, 4)).transpose(0, 3, 1, 2) for _ in range(2))
    truth = RNG.integers(0, 3, (2, 8, 8))
    found = categories.measured(mine, theirs, truth)
    same = right = 0
    for n in range(2):
        for y in range(4):
            for x in range(4):
                a, b = mine[n, :, y, x].argmax(), theirs[n, :, y, x].argmax()
                same += a == b
                right += a == truth[n, 2 * y + 1, 2 * x + 1]
    assert_allclose([found["agree"], found["right_a"]], [same / 32, right / 32])
    loops = [np.corrcoef(mine[n, k].ravel(), theirs[n, k].ravel())[0, 1] for n in range(2) for k in range(3)]
    assert_allclose(found["correlation"], np.mean(loops))
    assert categories.measured(mine, mine, truth)["agree"] == 1
    assert np.isnan(categories.measured(np.ones((1, 2, 2, 2)), np.ones((1, 2, 2, 2)), truth[:1])["correlation"])


def test_maps_of_different_grids_are_compared_on_the_smaller():
    mine = RNG.dirichlet(np.ones(3), (1, 2, 2)).transpose(0, 3, 1, 2)
    wide = mine.repeat(3, 2).repeat(3, 3)
    assert categories.measured(mine, wide, np.zeros((1, 6, 6), int))["agree"] == 1


def test_the_categories_page_says_its_numbers(results):
    page = categories.categories(results, "smoke", DATASET)
    assert list(page.kept) == ["cfcl", "ctrcl"]
    assert len(page.frame) == 4
    for row in page.frame.to_dict("records"):
        assert f"{100 * row['agree']:.1f} % of the positions" in page.text()


def test_agreement_is_that_of_the_last_epoch_against_training_alone(results):
    page = training.learning(results, "smoke", DATASET)
    curves = {n: pd.read_csv(results / f"smoke/curves/{DATASET}/{n}.csv") for n in ("alone", "ctrcl")}
    last = {n: curve[curve["epoch"] == 4].set_index("seed")["agreement"] for n, curve in curves.items()}
    row = page.frame[page.frame["method"] == "CTRCL"].iloc[0]
    assert_allclose([row["agreement"], row["least"], row["most"]], last["ctrcl"].agg(["mean", "min", "max"]))
    assert_allclose(row["rise"], (last["ctrcl"] - last["alone"]).mean())
    assert row["every"] == 1
    assert f"CTRCL: {row['agreement']:.3f}" in page.text()
    assert "more in every seed" in page.text()


def test_losses_show_each_term_where_it_is(results):
    axes = training.learning(results, "smoke", DATASET).losses().axes
    lines = [len(ax.lines) for ax in axes]
    assert lines == [5, 3, 2, 2] * 2  # segmentation all; soft labels DML, RLCL, CTRCL; CFCL itself and CTRCL


def test_a_change_is_what_every_seed_shows():
    alone, words = pd.Series([1.0, 2.0]), ("more", "less")
    assert feature_space.change(words, pd.Series([1.5, 2.5]), alone).startswith("more than alone in every seed")
    assert feature_space.change(words, pd.Series([0.5, 1.5]), alone).startswith("less than alone in every seed")
    assert "is not sure" in feature_space.change(words, pd.Series([0.5, 2.5]), alone)
    assert "is not sure" in feature_space.change(words, pd.Series([1.0 + 1e-9, 2.0 + 1e-9]), alone)  # rounding
    assert "is not sure" in feature_space.change(words, pd.Series([1.5]), alone[:1])  # one seed
    assert "2 [1.5 to 2.5] against 1.5 [1 to 2]" in feature_space.change(words, pd.Series([1.5, 2.5]), alone)


def test_the_feature_page_says_its_numbers(results):
    page = feature_space.feature_space(results, "smoke", DATASET)
    assert page.frame["experiment"].unique().tolist() == ["alone", "cfcl", "ctrcl"]
    shared = page.frame.groupby("experiment")["shared likeness"]
    assert shared.mean()["ctrcl"] > 0.9  # the factory draws both students' embeddings about the same corners
    assert feature_space.between(page.frame[page.frame["experiment"] == "ctrcl"]["likeness"]) in page.text()


def test_older_samples_are_named_with_the_command_that_makes_them_anew(tmp_path):
    results = factory.make(tmp_path)
    for path in (results / "smoke/samples" / DATASET).glob("*.npz"):
        arrays = {k: v for k, v in np.load(path).items() if not k.startswith(("centres", "pyramid"))}
        np.savez_compressed(path, **arrays)
    for draw in (
        lambda: feature_space.feature_space(results, "smoke", DATASET),
        lambda: framework.framework(results, "smoke"),
    ):
        with pytest.raises(UserError, match=r"older version; run `ctrcl samples phantom-cardiac`"):
            draw()


def test_the_framework_says_what_settings_and_networks_are(results):
    page = framework.framework(results, "smoke")
    assert "16 at stride 4, 32 at stride 8" in page.text()
    assert f"4 ({DATASET})" in page.text()
    shown = " ".join(text.get_text() for text in page.figure().findobj(lambda artist: hasattr(artist, "get_text")))
    for word in ("resnet10t", "pvt_v2_b0", "stage 4", "ARM", "truth y"):
        assert word in shown
    assert shown.count("CPM") == 4


def test_dots_are_the_intervals_of_the_table(results):
    page = ablations.ablations(results, "smoke")
    ax = page.figure([("offline", DATASET)], "hd95", ["b"], ["alone", "kd"]).axes[0]
    rows = tables.load(results, "smoke", DATASET, "offline")
    for place, name in ((1, "alone"), (4, "kd")):
        mine = rows[(rows["experiment"] == name) & (rows["student"] == "b")]
        found = statistics.interval(mine, "hd95")
        assert_allclose(ax.lines[place].get_xdata(), found.estimate)
        assert_allclose(ax.lines[place - 1].get_xdata(), [found.low, found.high])
    assert ax.get_xlabel() == "HD95 (mm)"
    with pytest.raises(UserError, match="none of strange"):
        page.figure([("main", DATASET)], names=["strange"])


def test_the_ablations_text_counts_paired_differences(results):
    page = ablations.ablations(results, "smoke")
    frame = tables.main(results, "smoke", DATASET).frame
    rows = frame[(frame["rival"] != "") & frame["student"].isin(["a", "b"])]
    gain, lose = (rows["difference_low"] > 0).sum(), (rows["difference_high"] < 0).sum()
    assert f"main on {DATASET}: of {len(rows)} comparisons {gain} gain, {lose} lose" in page.text()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_runs_and_writes_its_figures(project, name):
    everywhere = name in ("framework", "ablations")
    target = notebooks.execute(name, "smoke", None if everywhere else DATASET, project)
    text = target.read_text()
    assert "Traceback" not in text
    if name == "ablations":  # its controls live under drawn ids
        assert "widget-view" not in text
        assert notebooks.execute(name, "smoke", None, project).read_text() == text
    assert str(project) not in text
    stem = name if everywhere else f"{name}-{DATASET}"
    assert list((project / "results/smoke/figures").glob(f"{stem}*.pdf"))


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("motivation", "cases/phantom-cardiac/alone.csv"),
        ("rectification", "samples/phantom-cardiac/ctrcl.npz"),
        ("training", "curves/phantom-cardiac/dml.csv"),
    ],
)
def test_a_missing_run_is_named_with_notebook_and_cell(tmp_path, name, gone):
    factory.project(tmp_path)
    (tmp_path / "results/smoke" / gone).unlink()
    with pytest.raises(UserError, match=rf"{name}\.ipynb, cell \d.*{Path(gone).name}.*(dvc repro|ctrcl samples)"):
        notebooks.execute(name, "smoke", DATASET, tmp_path)
