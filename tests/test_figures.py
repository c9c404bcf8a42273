"""Figures: the same bytes twice, everything labelled, and the pictures' arithmetic."""

import numpy as np
import pandas as pd
import pytest
import results_factory as factory
from matplotlib.text import Text
from numpy.testing import assert_allclose

from ctrcl import data as datasets
from ctrcl.io import UserError, read_rows
from ctrcl.report import kept, pictures, tables
from ctrcl.report import plots as figures
from ctrcl.report import style as drawing
from ctrcl.report.figures import ablations, categories, feature_space, framework, motivation, training

DATASET = factory.DATASET


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return factory.make(tmp_path_factory.mktemp("project"))


@pytest.fixture
def samples(results):
    return results / "smoke/samples" / DATASET / "ctrcl.npz"


def words(figure) -> str:
    """All that a reader can read in a figure."""
    return " ".join(text.get_text() for text in figure.findobj(Text))


def drawings(results) -> dict:
    return {
        "qualitative": lambda: pictures.qualitative(results, "smoke", DATASET, "a"),
        "curves": lambda: figures.curves(results, "smoke", DATASET),
        "comparison": lambda: figures.comparison(tables.main(results, "smoke", DATASET)),
        "rectification": lambda: pictures.rectification(results / "smoke/samples" / DATASET / "ctrcl.npz", "b"),
        "motivation": lambda: motivation.motivation(results, "smoke", DATASET).figure(),
        "categories": lambda: categories.categories(results, "smoke", DATASET).figure("ctrcl"),
        "agreement": lambda: training.learning(results, "smoke", DATASET).agreement(),
        "losses": lambda: training.learning(results, "smoke", DATASET).losses(),
        "feature space": lambda: feature_space.feature_space(results, "smoke", DATASET).figure(),
        "ablations": lambda: ablations.ablations(results, "smoke").figure([("offline", DATASET)], "hd95", ["b"]),
        "framework": lambda: framework.framework(results, "smoke").figure(),
    }


NAMES = [*drawings(None)]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_results_give_the_same_bytes(results, tmp_path, name):
    draw = drawings(results)[name]
    once, twice = drawing.save(draw(), tmp_path / "once"), drawing.save(draw(), tmp_path / "twice")
    assert [path.suffix for path in once] == [".png", ".pdf"]
    for one, other in zip(once, twice, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert b"Software" not in once[0].read_bytes()[:200]
    assert b"CreationDate" not in once[1].read_bytes()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "framework"])  # that one shows no data
def test_a_figure_of_phantoms_says_so_and_has_an_alternative_text(results, name):
    figure = drawings(results)[name]()
    assert drawing.DRAWN in " ".join(words(figure).split())
    data, about = figure._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    assert DATASET in about["image/png"]["alt"] == data["text/plain"]


def test_errors_are_missed_false_or_of_the_wrong_class_and_what_is_right_is_its_class():
    truth, predicted = np.array([[0, 1, 1, 1, 0]]), np.array([[0, 1, 0, 2, 2]])
    colours = ("#000000", "#56B4E9", "#009E73")
    shown = pictures.errors(predicted, truth, colours)[0]
    assert shown[0, 3] == 0
    expected = [colours[1], *(pictures.ERRORS[kind] for kind in ("missed", "wrong class", "false"))]
    for pixel, colour in zip(shown[1:], expected, strict=True):
        assert_allclose(pixel[:3], pictures.mpl.colors.to_rgb(colour))
        assert pixel[3] > 0


def test_planes_are_turned_as_they_are_looked_at():
    plane = np.array([[1, 2], [3, 4]])  # X Y: 2 lies in front of 1, and 3 to the right of 1
    for name, shown in (
        ("phantom-polyp", [[1, 2], [3, 4]]),
        ("phantom-cardiac", [[2, 4], [1, 3]]),
        ("phantom-abdomen", [[4, 2], [3, 1]]),
    ):
        assert pictures.turned(plane, datasets.get(name)).tolist() == shown


def test_two_classes_need_no_wrong_class_in_the_legend(results):
    assert "wrong class" in words(pictures.qualitative(results, "smoke", DATASET, "a"))
    figure = drawing.drawing(3, 3, "")
    figure.subplots()
    pictures.legends(figure, datasets.get("phantom-polyp"), "")
    assert "missed" in words(figure)
    assert "wrong class" not in words(figure)


def test_a_panel_tells_the_score_of_its_case(results):
    shown = words(pictures.qualitative(results, "smoke", DATASET, "b"))
    rows = read_rows(results / f"smoke/cases/{DATASET}/ctrcl.csv")
    mine = rows[(rows["student"] == "b") & (rows["seed"] == 0)].groupby("case")["dsc"].mean()
    for case in ("0002", "0006", "0009"):
        assert f"DSC {mine[case]:.2f}" in shown
        assert case in shown


def test_the_rectified_label_mixes_in_the_truth(samples):
    arrays = kept.samples_of(samples)
    figure = pictures.rectification(samples, "a")
    worst = [ax for ax in figure.axes if ax.images][18:27]  # the third row
    before, after = worst[2].images[-1].get_array(), worst[8].images[-1].get_array()
    error = arrays["error_a"][2].T[::-1]
    weight = arrays["weight_a"][2].astype(float).T[::-1]
    assert_allclose(after, weight * before + 1 - weight, atol=1e-6)
    assert (after[error] >= 7 / 8 - 0.01).all()
    assert_allclose(after[~error], before[~error])
    assert [ax.get_title().split("\n")[0] for ax in figure.axes[:4]] == ["image", "truth", "soft", "error"]


def test_one_case_is_drawn_in_the_same_steps(samples):
    arrays = kept.samples_of(samples)
    p = arrays["probabilities_a"][0] / 255
    maps = {name: arrays[f"{name}_a"][0] for name in ("error", *pictures.FACTORS)}
    figure = pictures.steps(arrays["image"][0, 0], arrays["truth"][0], p, maps, iter(["#000", "#111", "#222", "#333"]))
    assert_allclose(figure.axes[7].images[0].get_array(), maps["weight"])
    assert "weight" in figure.alt


def test_curves_show_mean_and_range_of_the_seeds(results):
    figure = figures.curves(results, "smoke", DATASET)
    curve = pd.read_csv(results / f"smoke/curves/{DATASET}/alone.csv").groupby("epoch")["dsc_a"]
    assert_allclose(figure.axes[0].lines[0].get_ydata(), curve.mean())
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    assert_allclose([band[:, 1].min(), band[:, 1].max()], [curve.min().min(), curve.max().max()])


def test_a_data_set_without_validation_says_so(tmp_path):
    results = factory.make(tmp_path)
    for path in (results / "smoke/curves" / DATASET).glob("*.csv"):
        curve = pd.read_csv(path).assign(dsc_a=np.nan, dsc_b=np.nan)
        curve.to_csv(path, index=False)
    assert "no validation cases" in words(figures.curves(results, "smoke", DATASET))


def test_dots_and_lines_are_the_tables_numbers(results):
    table = tables.main(results, "smoke", DATASET)
    ax = figures.comparison(table).axes[1]
    rows = table.frame[table.frame["student"] == "b"]
    assert_allclose([line.get_xdata()[0] for line in ax.lines[2::2]], rows["dsc"])
    assert_allclose([line.get_xdata() for line in ax.lines[1::2]], rows[["dsc_low", "dsc_high"]])


def test_missing_samples_name_file_and_command(results):
    with pytest.raises(UserError, match=r"none\.npz is missing; run `ctrcl samples phantom-cardiac`"):
        pictures.rectification(results / "smoke/samples" / DATASET / "none.npz", "a")


def test_an_unknown_student_is_refused(results, samples):
    with pytest.raises(UserError, match="ask for a or b"):
        pictures.rectification(samples, "c")
    with pytest.raises(UserError, match="'c'"):
        pictures.qualitative(results, "smoke", DATASET, "c")


def test_a_method_looks_the_same_wherever_it_stands():
    five = [drawing.look(name) for name in ("alone", "dml", "rlcl", "cfcl", "ctrcl")]
    for part in zip(*five, strict=True):
        assert len(set(map(str, part))) == 5  # colour, dash and marker, each tells them apart
    families = {"kdcl-naive": "online", "hfd-bsd": "online", "at-paper": "offline", "ctrcl-offline": "offline"}
    families |= {"rlcl-offline": "offline", "acw-skd": "self", "dual": "dual", "teachers": "other", "my-own": "other"}
    for name, family in families.items():
        assert drawing.look(name) == drawing.FAMILIES[family], name
    variant = drawing.look("ctrcl-alpha-half")
    assert variant.colour == drawing.look("ctrcl").colour
    assert variant.marker == drawing.VARIANT
    everything = [*drawing.LOOKS.values(), *drawing.FAMILIES.values()]
    assert len({one.marker for one in everything} | {drawing.VARIANT}) == len(everything) + 1
    assert len({one.colour for one in everything}) == len(everything)
