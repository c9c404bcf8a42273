"""Figures and what they measure: against loops and the statistics; equal bytes."""

import numpy as np
import pandas as pd
import pytest
import results_factory as factory
import torch
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from numpy.testing import assert_allclose
from refusals import refused

from ctrcl import io
from ctrcl.engine import metrics
from ctrcl.losses.targets import reduce_to
from ctrcl.report import stats, style
from ctrcl.report import table as tables
from ctrcl.report.cost import costs
from ctrcl.report.results import DRAWN, Results
from figures import categories, cost, feature_space, framework, pictures, plots, qualitative, rectification

DATASET = factory.DATASET
RNG = np.random.default_rng(3)


DRAWINGS = {
    "qualitative": lambda results: qualitative.figure(results, DATASET, "a"),
    "motivation": lambda results: qualitative.motivation(results, DATASET),
    "forest": lambda results: plots.forest(tables.main(results, DATASET)),
    "cost": lambda results: cost.figure(costs(results, DATASET)),
    "rectification": lambda results: rectification.figure(results, DATASET, "b"),
    "categories": lambda results: categories.figure(results, DATASET, "ctrcl"),
    "losses": lambda results: plots.losses(results, DATASET),
    "feature space": lambda results: feature_space.figure(results, DATASET),
    "framework": framework.figure,
}


def words(figure) -> str:
    """All that a reader can read in a figure."""
    return " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())


@pytest.mark.parametrize("name", DRAWINGS)
def test_the_same_results_give_the_same_bytes(results, name):
    once, twice = (DRAWINGS[name](results) for _ in range(2))
    kind, barred = ("pdf", b"CreationDate") if name in ("forest", "qualitative") else ("png", b"Software")
    found = once.encoded(kind)
    assert twice.encoded(kind) == found
    assert barred not in found
    if name != "framework":  # that one shows no data
        assert DRAWN in words(once)
        assert DATASET in once.alt


def test_a_figure_shows_itself_with_its_alternative_text():
    data, about = style.drawing(1, 1, "what it shows")._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    assert about["image/png"]["alt"] == data["text/plain"] == "what it shows"


def test_errors_are_missed_false_or_of_the_wrong_class_and_what_is_right_is_its_class():
    truth, predicted = np.array([[0, 1, 1, 1, 0]]), np.array([[0, 1, 0, 2, 2]])
    colours = ("#000000", "#56B4E9", "#009E73")
    shown = pictures.errors(predicted, truth, colours)[0]
    assert shown[0, 3] == 0
    expected = [colours[1], *(pictures.ERRORS[kind] for kind in ("missed", "wrong class", "false"))]
    for pixel, colour in zip(shown[1:], expected, strict=True):
        assert_allclose(pixel[:3], to_rgb(colour))
        assert pixel[3] > 0


def test_planes_are_turned_as_they_are_looked_at(results):
    plane = np.array([[1, 2], [3, 4]])  # X Y: 2 lies in front of 1, and 3 to the right of 1
    about = results.dataset(DATASET)
    assert pictures.turned(plane, about._replace(volumes=False)).tolist() == [[1, 2], [3, 4]]
    assert pictures.turned(plane, about).tolist() == [[2, 4], [1, 3]]
    assert pictures.turned(plane, about._replace(name="phantom-abdomen")).tolist() == [[4, 2], [3, 1]]


def test_a_panel_states_the_score_of_its_case(results):
    shown = words(qualitative.figure(results, DATASET, "b"))
    rows = results.parts(DATASET)["ctrcl", "b"]
    mean = rows[rows["seed"] == 0].groupby("case")["dsc"].mean()
    for case in ("0002", "0006", "0009"):
        assert f"DSC {mean[case]:.2f}" in shown
        assert case in shown


@pytest.mark.parametrize("seed", range(4))
def test_what_is_mislocalised_is_that_of_the_metrics(seed):
    predicted, truth = np.zeros((2, 14, 12), int)
    rng = np.random.default_rng(seed)
    for drawn in [predicted, truth] * 5:
        y, x = rng.integers(0, 11), rng.integers(0, 9)
        drawn[y : y + rng.integers(1, 5), x : x + rng.integers(1, 4)] = rng.integers(1, 3)
    shown = qualitative.mislocalised(predicted, truth)
    for k in (1, 2):
        mine = predicted == k
        expected = metrics.measure(mine, truth == k, None)["mislocalised"]
        assert_allclose((shown & mine).sum() / mine.sum(), expected)
    assert not (shown & (predicted == 0)).any()


def test_a_method_looks_the_same_wherever_it_stands():
    five = [style.look(name, "collaborative") for name in style.LOOKS]
    for part in zip(*five, strict=True):
        assert len(set(map(str, part))) == 5  # colour, dash and marker, each tells them apart
    for name, family in (("kdcl-naive", "collaborative"), ("ctrcl-offline", "offline"), ("mine", "self")):
        assert style.look(name, family) == style.FAMILIES[family]
    variant = style.look("ctrcl-alpha-half", "collaborative")
    assert (variant.colour, variant.marker) == (style.LOOKS["ctrcl"].colour, style.VARIANT)
    everything = [*style.LOOKS.values(), *style.FAMILIES.values()]
    assert len({one.marker for one in everything} | {style.VARIANT}) == len(everything) + 1
    assert len({one.colour for one in everything}) == len(everything)


def test_curves_show_mean_and_range_of_the_seeds(results):
    ax = plots.curves(results, DATASET).axes[0]
    curve = results.curves(DATASET, "alone").groupby("epoch")["dsc_a"]
    assert_allclose(ax.lines[0].get_ydata(), curve.mean())
    band = ax.collections[0].get_paths()[0].vertices
    assert_allclose([band[:, 1].min(), band[:, 1].max()], [curve.min().min(), curve.max().max()])


def test_a_data_set_without_validation_says_so(place):
    for path in (place / "curves" / DATASET).glob("*.csv"):
        io.write_rows(path, pd.read_csv(path).assign(dsc_a=np.nan, dsc_b=np.nan, agreement=np.nan))
        factory.edit_record(place, path.stem, lambda record, path=path: record.update(curves=io.sha256(path)))
    assert "no validation cases" in words(plots.curves(Results(place), DATASET))


def test_points_and_lines_are_the_tables_numbers_and_hollow_ones_not_decided(results):
    table = tables.main(results, DATASET)
    axes = plots.forest(table).axes
    for ax, student, name in zip(axes, "aabb", ("dsc", "difference") * 2, strict=True):
        rows = table.frame[(table.frame["student"] == student) & table.frame[name].notna()]
        ends = [part.get_segments()[0][:, 0] for part in ax.collections]
        assert_allclose(ends, rows[[f"{name}_low", f"{name}_high"]].to_numpy())
        points = [line for line in ax.lines if len(line.get_xdata()) == 1]
        assert_allclose([line.get_xdata()[0] for line in points], rows[name])
        hollow = [line.get_markerfacecolor() == "white" for line in points]
        assert hollow == [name == "difference" and p >= 0.05 for p in rows["p_holm"]]


def test_every_ablation_stands_once_with_its_table(results):
    table = tables.ablations(results)
    frame = table.frame
    assert "RLCL" in words(plots.forest(table))
    assert not frame.duplicated(["experiment", "student"]).any()
    assert set(frame["experiment"]) == {*factory.MAIN, "teachers", "kd"}
    assert all(frame["label"].str.contains(": "))


def test_losses_show_each_term_where_it_is(results):
    lines = [len(ax.lines) for ax in plots.losses(results, DATASET).axes]
    assert lines == [5, 3, 2, 2] * 2  # segmentation all; soft labels DML, RLCL, CTRCL; CFCL itself and CTRCL


def test_the_rectified_label_mixes_in_the_truth(results):
    samples = results.samples(DATASET, "ctrcl")
    figure = rectification.figure(results, DATASET, "a")
    worst = [ax for ax in figure.axes if ax.images][18:27]  # the third row
    before, after = worst[2].images[-1].get_array(), worst[8].images[-1].get_array()
    error = samples["error_a"][2].T[::-1]
    weight = samples["weight_a"][2].astype(float).T[::-1]
    assert_allclose(after, weight * before + 1 - weight, atol=1e-6)
    assert (after[error] >= 7 / 8 - 0.01).all()
    assert_allclose(after[~error], before[~error])


def test_rectification_measures_what_the_maps_hold(results):
    samples = results.samples(DATASET, "ctrcl")
    found = rectification.measured(samples, 1, "a")
    error, p = samples["error_a"][1], samples["probabilities_a"][1].astype(float)
    sums = dict.fromkeys(("before", "after", "weight"), 0.0)
    for y, x in np.argwhere(error):
        own = p[samples["truth"][1, y, x], y, x] / p[:, y, x].sum()
        weight = float(samples["weight_a"][1, y, x])
        sums["before"] += own
        sums["after"] += weight * own + 1 - weight
        sums["weight"] += weight
    for name, total in sums.items():
        assert_allclose(found[name], total / error.sum())
    assert_allclose(found["wrong"], error.mean())
    table = rectification.measure(results, DATASET)
    assert f"{table.frame['before'].mean():.2f} to {table.frame['after'].mean():.2f}" in table.text


def test_agreement_of_the_maps_equals_loops_and_the_truth_is_reduced_as_in_training():
    mine, theirs = (RNG.dirichlet(np.ones(3), (2, 4, 4)).transpose(0, 3, 1, 2) for _ in range(2))
    truth = RNG.integers(0, 3, (2, 10, 10))
    small = reduce_to(torch.tensor(truth), (4, 4)).numpy()
    found = categories.measured(mine, theirs, truth)
    pairs = [
        (mine[n, :, y, x].argmax(), theirs[n, :, y, x].argmax(), small[n, y, x]) for n, y, x in np.ndindex(2, 4, 4)
    ]
    assert_allclose(found["agree"], np.mean([a == b for a, b, _ in pairs]))
    assert_allclose(found["right_a"], np.mean([a == true for a, _, true in pairs]))
    loops = [np.corrcoef(mine[n, k].ravel(), theirs[n, k].ravel())[0, 1] for n in range(2) for k in range(3)]
    assert_allclose(found["correlation"], np.mean(loops))
    assert categories.measured(mine, mine.repeat(3, 2).repeat(3, 3), truth)["agree"] == 1  # on the smaller grid
    assert np.isnan(categories.measured(np.ones((1, 2, 2, 2)), np.ones((1, 2, 2, 2)), truth[:1])["correlation"])


def test_only_what_has_two_kinds_of_students_class_maps_or_ctrcl_is_shown(results, tmp_path):
    assert set(categories.measure(results, DATASET).frame["method"]) == {"CFCL", "CTRCL"}

    def change(values):
        values["students"]["b"].update(kind="cnn")
        values["tables"].update(main={DATASET: ["alone", "dml"]})

    few = factory.opened(tmp_path, change=change)
    refused(qualitative.motivation, few, DATASET, name="two kinds")
    refused(categories.measure, few, DATASET, name="no class maps")
    refused(framework.figure, few, name="no ctrcl")


POINTS = RNG.normal(0, 1, (7, 3, 5)) * [5, 3, 2, 1, 0.5]


def test_separation_equals_a_loop():
    points = POINTS + np.eye(3, 5) * 4
    points[2, 1] = np.nan
    known = [(k, p) for case in points for k, p in enumerate(case) if not np.isnan(p).any()]
    middle, between, within = np.mean([p for _, p in known], axis=0), 0.0, 0.0
    for k in range(3):
        mine = [p for other, p in known if other == k]
        between += len(mine) * ((np.mean(mine, axis=0) - middle) ** 2).sum()
        within += sum(((p - np.mean(mine, axis=0)) ** 2).sum() for p in mine)
    assert_allclose(feature_space.separation(points), between / within)
    for one_class in (np.ones((3, 2, 4)), POINTS[:, :1]):
        assert np.isnan(feature_space.separation(one_class))


def test_likeness_is_the_correlation_of_cosines_over_pairs():
    mine, theirs = POINTS.copy(), RNG.normal(0, 1, (7, 3, 4))
    mine[0, 0] = np.nan
    known = [(i, k) for i in range(7) for k in range(3) if (i, k) != (0, 0)]
    pairs = [(p, q) for n, p in enumerate(known) for q in known[n + 1 :]]
    own = [space - np.mean([space[p] for p in known], axis=0) for space in (mine, theirs)]
    loops = [[s[p] @ s[q] / np.linalg.norm(s[p]) / np.linalg.norm(s[q]) for p, q in pairs] for s in own]
    assert_allclose(feature_space.likeness(mine, theirs), np.corrcoef(*loops)[0, 1])


def test_a_rotated_and_scaled_space_is_alike_and_another_is_not():
    rotation, _ = np.linalg.qr(RNG.normal(0, 1, (5, 5)))
    assert_allclose(feature_space.likeness(POINTS, 3 * POINTS @ rotation), 1)
    assert abs(feature_space.likeness(POINTS, RNG.normal(0, 1, POINTS.shape))) < 0.4
    assert np.isnan(feature_space.likeness(POINTS[:1, :2], POINTS[:1, :2]))
    assert np.isnan(feature_space.likeness(np.ones((3, 2, 4)), POINTS[:3, :2]))


def test_spaces_are_measured_per_seed(results):
    frame = feature_space.measure(results, DATASET).frame
    assert frame.groupby("experiment", sort=False).size().to_dict() == {"alone": 2, "cfcl": 2, "ctrcl": 2}
    samples = results.samples(DATASET, "ctrcl")
    a, b = (samples[f"shared_{student}"][1].astype(float) for student in ("a", "b"))
    row = frame[(frame["experiment"] == "ctrcl") & (frame["seed"] == 1)].iloc[0]
    assert_allclose(row["shared likeness"], feature_space.likeness(a, b))
    assert_allclose(row["shared separation a"], feature_space.separation(a))


def test_samples_of_an_older_version_are_named(place):
    for path in (place / "samples" / DATASET).glob("*.npz"):
        arrays = {k: v for k, v in np.load(path).items() if not k.startswith(("centres", "pyramid"))}
        io.write_arrays(path, arrays)
    for draw in (lambda: feature_space.figure(Results(place), DATASET), lambda: framework.figure(Results(place))):
        refused(draw, name=f"older version; run `ctrcl samples {DATASET}`")


def test_the_framework_states_what_settings_and_networks_are(results):
    shown = words(framework.figure(results))
    assert all(word in shown for word in ("resnet10t", "pvt_v2_b0", "/16 64", "ARM", "truth y", "K = 4"))
    assert shown.count("CPM") == 4


def test_a_row_of_costs_is_what_records_and_rows_hold(place):
    more = {"seconds": 92.25, "peak_mib": 900, "milliseconds": {"a": 3.5, "b": 4.5}}
    factory.edit_record(place, "ctrcl", lambda record: [seed.update(more) for seed in record["seeds"].values()])
    results = Results(place)
    table = costs(results, DATASET)
    row = table.frame.set_index(["experiment", "student"]).loc[("ctrcl", "b")]
    assert (row["seconds"], row["peak_mib"], row["milliseconds"]) == (92.25, 900, 4.5)
    assert (row["parameters"], row["gflops"], row["baseline"]) == (3_500_000, 0.1, "alone")
    assert_allclose(row["relative"], 92.25 / 61.5)
    rows = results.parts(DATASET, experiments=results.experiments(DATASET))["ctrcl", "b"]
    assert_allclose(row["dsc"], stats.mean(rows, "dsc").mean)
    assert "1.50 times" in table.text
    assert list(table.frame["experiment"])[::2] == results.experiments(DATASET)
    for ax, column in zip(cost.figure(table).axes, cost.PANELS, strict=True):
        points = np.concatenate([part.get_offsets() for part in ax.collections])
        unit = 1e-6 if column == "parameters" else 1
        expected = np.column_stack([unit * table.frame[column], table.frame["dsc"]])
        assert_allclose(points[np.lexsort(points.T)], expected[np.lexsort(expected.T)])


def test_seconds_are_compared_where_as_many_seeds_trained_at_once(tmp_path):
    change = {"workers": 3}
    results = factory.opened(tmp_path, seeds=[0, 1, 2], change=lambda values: values["machine"].update(change))
    frame = costs(results, DATASET).frame
    assert (frame["relative"].isna() == (frame["experiment"] == "kd")).all()  # one seed, its baseline three
