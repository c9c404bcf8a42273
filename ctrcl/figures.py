"""The figures, drawn from `results/`: what the students see, how they learn, how they compare, what ARM does.

Okabe and Ito's colours, so that nothing rests on red against green; the same figure gives the same bytes in PNG and
PDF. A figure carries an alternative text and shows itself in Jupyter. Imports no torch.
"""

from collections.abc import Iterable
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ctrcl import datasets, methods, tables
from ctrcl.datasets import Benchmark
from ctrcl.files import UserError, read_text, replacing
from ctrcl.rendering import Table, short
from ctrcl.rows import AGAIN, read_rows

OKABE_ITO = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#F0E442")
ERRORS = {"right": "#56B4E9", "missed": "#F0E442", "false": "#D55E00", "wrong class": "#CC79A7"}
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)), (0, (3, 3)))
MARKERS = "osD^vPX*"
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "image.interpolation": "nearest",
    "lines.linewidth": 1.2,
    "pdf.fonttype": 42,
    "savefig.bbox": None,
    "figure.facecolor": "white",
}
AXIAL = ("synapse", "flare22", "phantom-abdomen")  # the radiologist's view: the patient's right on the left
WIDTH = 7.2  # inches: a page
DPI = 200
DRAWN = "Drawn data: says nothing about patients."


class Drawing(Figure):
    """A figure that knows its alternative text and shows itself in Jupyter, without pyplot."""

    alt = ""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"image/png": png(self), "text/plain": self.alt}, {"image/png": {"alt": self.alt}}


def png(figure: Figure) -> bytes:
    """The figure's PNG, without a date or a version in it."""
    from io import BytesIO

    with BytesIO() as stream, mpl.rc_context(STYLE):
        figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
        return stream.getvalue()


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write `<stem>.png` (200 dpi) and `<stem>.pdf`; equal figures are equal bytes."""
    nameless = {"Creator": None, "Producer": None, "CreationDate": None}
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "pdf")]
    with replacing(paths[0]) as draft:
        draft.write_bytes(png(figure))
    with replacing(paths[1]) as draft, mpl.rc_context(STYLE):
        figure.savefig(draft, format="pdf", dpi=DPI, metadata=nameless)
    return paths


def _drawing(width: float, height: float, alt: str) -> Drawing:
    figure = Drawing(figsize=(width, height), layout="constrained")
    figure.alt = alt
    return figure


def experiments_of(results: Path, scale: str, dataset: str) -> dict[str, str]:
    """Title by experiment, in the order of the main table."""
    settings = tables.settings_of(results, scale)
    return {name: methods.title(name, settings.experiment(name)) for name in tables.listed(settings, dataset, "main")}


def samples_of(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a samples file; a missing one is a `UserError` that names the command that makes it."""
    if not path.exists():
        raise UserError(f"{path} is missing; run `ctrcl samples {path.parent.name}` (or `dvc repro`)")
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


@mpl.rc_context(STYLE)
def qualitative(results: Path, scale: str, dataset: str, student: str) -> Drawing:
    """Best, median and worst case (rows) as every experiment of the main table segments them (columns).

    The cases are chosen by training alone (`ctrcl/samples.py`), never by what they show of another method.
    """
    titles, benchmark = experiments_of(results, scale, dataset), datasets.get(dataset)  # settings may declare it
    place = results / scale
    kept = {name: samples_of(place / "samples" / dataset / f"{name}.npz") for name in titles}
    scores = {name: _scores(place / "cases" / dataset / f"{name}.csv", student) for name in titles}
    first = next(iter(kept.values()))
    count, columns = len(first["case"]), 2 + len(titles)
    side = (WIDTH - 0.4) / columns
    alt = (
        f"{dataset}, student {student}: {', '.join(map(str, first['rank']))} case as {', '.join(titles)} segment them."
    )
    figure = _drawing(WIDTH, count * (side + 0.1) + 1.25, alt)
    axes = figure.subplots(count, columns, squeeze=False)
    for row in range(count):
        image, truth = _picture(first["image"][row], benchmark), _turned(first["truth"][row], benchmark)
        case = str(first["case"][row])
        _panel(axes[row, 0], image)
        axes[row, 0].set_ylabel(f"{first['rank'][row]}\n{fill(case, 18)}", fontsize=7)  # long ids in two lines
        _panel(axes[row, 1], image, _coloured(truth, benchmark.colours))
        for ax, name in zip(axes[row, 2:], titles, strict=True):
            predicted = _turned(kept[name][f"probabilities_{student}"][row].argmax(0), benchmark)
            _panel(ax, image, errors(predicted, truth))
            ax.set_xlabel(f"DSC {scores[name].get(case, np.nan):.2f}", fontsize=7, labelpad=2)
    for ax, text in zip(axes[0], ["image", "truth", *titles.values()], strict=True):
        ax.set_title(text.replace(" (", "\n(").replace("; ", ";\n"), fontsize=6.5)
    note = f"{dataset}, student {student}, first seed. DSC: of the whole case, mean over classes."
    _legends(figure, benchmark, f"{note} {DRAWN}" if benchmark.drawn else note)
    return figure


def _scores(path: Path, student: str) -> dict[str, float]:
    """DSC by case of the first seed, mean over the defined classes."""
    rows = read_rows(path)
    mine = rows[(rows["student"] == student) & (rows["seed"] == rows["seed"].iloc[0])]
    if mine.empty:
        raise UserError(f"{path} holds no student {student!r}; it has: {', '.join(sorted(set(rows['student'])))}")
    return mine.groupby("case")["dsc"].mean().to_dict()


def errors(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """RGBA of what is right, missed, false, or foreground of the wrong class; clear where both are background."""
    kinds = {
        "right": (predicted == truth) & (truth > 0),
        "missed": (predicted == 0) & (truth > 0),
        "false": (predicted > 0) & (truth == 0),
        "wrong class": (predicted > 0) & (truth > 0) & (predicted != truth),
    }
    shown = np.zeros((*truth.shape, 4))
    for kind, where in kinds.items():
        shown[where] = mpl.colors.to_rgba(ERRORS[kind], 0.45 if kind == "right" else 0.9)
    return shown


def _legends(figure: Drawing, benchmark: Benchmark, note: str) -> None:
    """Above: what the colours of a prediction mean. Below: the classes, under a note."""
    kinds = [kind for kind in ERRORS if kind != "wrong class" or len(benchmark.classes) > 2]
    verdicts = [Patch(color=ERRORS[kind], label=kind) for kind in kinds]
    classes = [Patch(color=c, label=name) for name, c in zip(benchmark.classes, benchmark.colours, strict=True)][1:]
    look: Any = {"frameon": False, "handlelength": 1, "columnspacing": 1, "title_fontsize": 7}
    look |= {"ncols": 5}
    figure.legend(handles=[Patch(alpha=0, label="prediction:"), *verdicts], loc="outside upper center", **look)
    figure.legend(handles=[Patch(alpha=0, label="truth:"), *classes], loc="outside lower center", title=note, **look)


def _below(figure: Drawing, text: str, benchmark: Benchmark | None) -> None:
    figure.supxlabel(f"{text} {DRAWN}" if benchmark and benchmark.drawn else text, fontsize=7)


def _turned(plane: np.ndarray, benchmark: Benchmark) -> np.ndarray:
    """As it is looked at: photographs as they are; slices X Y with Y, towards the front, up; axial ones from below."""
    if not benchmark.volumes:
        return plane
    return plane.T[::-1, ::-1] if benchmark.name in AXIAL else plane.T[::-1]


def _picture(image: np.ndarray, benchmark: Benchmark) -> np.ndarray:
    """C H W in [0, 1] as H W or H W 3."""
    planes = [_turned(channel, benchmark).astype(np.float32) for channel in image]
    return planes[0] if len(planes) == 1 else np.stack(planes, axis=-1)


def _coloured(labels: np.ndarray, colours: Iterable[str]) -> np.ndarray:
    shown = np.array([mpl.colors.to_rgba(colour, 0.75) for colour in colours])
    shown[0] = 0
    return shown[labels]


def _panel(ax: Axes, image: np.ndarray | None = None, over: np.ndarray | None = None) -> None:
    """An image, something laid over it, no axes."""
    if image is not None:
        ax.imshow(image, cmap="gray", vmin=0, vmax=1)
    if over is not None:
        ax.imshow(over)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


@mpl.rc_context(STYLE)
def curves(results: Path, scale: str, dataset: str) -> Drawing:
    """Validation DSC by epoch, one panel a student: mean over seeds, band from the least to the most."""
    titles = experiments_of(results, scale, dataset)
    found = {name: _curve(results / scale / "curves" / dataset / f"{name}.csv") for name in titles}
    alt = f"{dataset}: validation DSC by epoch of both students under {', '.join(titles)}."
    figure = _drawing(WIDTH, 2.8, alt)
    axes = figure.subplots(1, 2, sharey=True)
    students = tables.settings_of(results, scale).students
    for ax, student in zip(axes, ("a", "b"), strict=True):
        for number, (name, curve) in enumerate(found.items()):
            band = curve.groupby("epoch")[f"dsc_{student}"].agg(["mean", "min", "max"])
            look = {"color": OKABE_ITO[number % 8], "linestyle": DASHES[number % 8], "marker": MARKERS[number % 8]}
            ax.plot(band.index, band["mean"], label=short(titles[name]), markersize=3, **look)
            ax.fill_between(band.index, band["min"], band["max"], color=look["color"], alpha=0.12, linewidth=0)
        if all(curve[f"dsc_{student}"].isna().all() for curve in found.values()):
            ax.text(0.5, 0.5, "no validation cases", transform=ax.transAxes, ha="center", color="#555555")
        ax.set(title=f"student {student}: {getattr(students, student).network}", xlabel="epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
    axes[0].set_ylabel("validation DSC (0 to 1)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(found), frameon=False)
    seeds = next(iter(found.values()))["seed"].nunique()
    drawn = "one seed" if seeds == 1 else f"mean over {seeds} seeds; band: least to most"
    _below(figure, f"{dataset}: {drawn}. Nothing is chosen by it.", datasets.get(dataset))
    return figure


def _curve(path: Path) -> pd.DataFrame:
    from io import StringIO

    curve = pd.read_csv(StringIO(read_text(path)))
    if lacking := {"seed", "epoch", "dsc_a", "dsc_b"} - set(curve.columns):
        raise UserError(f"{path} lacks the columns {', '.join(sorted(lacking))}; restore it, or {AGAIN}")
    return curve


@mpl.rc_context(STYLE)
def comparison(table: Table) -> Drawing:
    """DSC with its interval by experiment, one panel a student; filled where the table is bold."""
    groups = list(table.frame.groupby("student", sort=False))
    names = list(dict.fromkeys(table.frame["experiment"]))
    alt = f"{table.dataset}: DSC with 95 % interval of {', '.join(names)}, by student; the numbers stand in the table."
    labels = [fill(short(table.title(name)), 30) for name in names]
    rows_high = [0.14 + 0.14 * len(label.splitlines()) for label in labels]  # inches
    places = dict(zip(names, -np.cumsum(rows_high) + np.array(rows_high) / 2, strict=True))
    figure = _drawing(WIDTH, 0.75 + sum(rows_high), alt)
    axes = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for ax, (student, rows) in zip(axes, groups, strict=True):
        origin = rows.loc[rows["experiment"] == table.reference, "dsc"].iloc[0]
        ax.axvline(origin, color="#999999", linewidth=0.8, linestyle=":")
        for row in rows.to_dict("records"):
            height, colour = places[row["experiment"]], OKABE_ITO[names.index(row["experiment"]) % 8]
            ax.plot([row["dsc_low"], row["dsc_high"]], [height, height], color=colour)
            ax.plot(row["dsc"], height, "o", color=colour, mfc=colour if row["bold"] else "white", markersize=5)
        network = f": {rows['network'].iloc[0]}" if rows["network"].nunique() == 1 else ""
        ax.set(title="ensemble" if student == "ensemble" else f"student {student}{network}", xlabel="DSC (0 to 1)")
        ax.locator_params(axis="x", nbins=4)
    axes[0].set_yticks(list(places.values()), labels)
    reference = short(table.title(table.reference))
    text = f"{table.dataset}: mean and 95 % interval; filled: bold in the table; dotted: {reference}."
    _below(figure, text, datasets.get(table.dataset))
    return figure


@mpl.rc_context(STYLE)
def rectification(path: Path, student: str, rank: str = "worst") -> Drawing:
    """The Adaptive Rectification Module step by step on one kept case.

    Args:
        path: a samples file, `results/<scale>/samples/<dataset>/<experiment>.npz`.
        student: whose soft label is rectified, `a` or `b`.
        rank: `best`, `median` or `worst`.
    """
    kept = samples_of(path)
    if path.parent.name not in datasets.KNOWN:  # settings declare it
        tables.settings_of(path.parents[3], path.parents[2].name)
    benchmark = datasets.get(path.parent.name)
    if f"probabilities_{student}" not in kept or rank not in kept["rank"]:
        raise UserError(
            f"{path} holds no student {student!r} or no {rank!r} case; ask for a or b; best, median or worst"
        )
    row = list(kept["rank"]).index(rank)
    maps = {
        name: _turned(kept[f"{name}_{student}"][row], benchmark)
        for name in ("error", "alignment", "similarity", "certainty", "weight")
    }
    planes = kept[f"probabilities_{student}"][row].astype(np.float64)
    p = np.stack([_turned(plane, benchmark) for plane in planes / planes.sum(0)])
    truth = _turned(kept["truth"][row], benchmark)
    figure = steps(_picture(kept["image"][row], benchmark), truth, p, maps, benchmark.colours)
    figure.alt = f"{benchmark.name}, {rank} case {kept['case'][row]}: {figure.alt}"
    _below(figure, f"{benchmark.name}, {rank} case {kept['case'][row]}, {path.stem}, student {student}.", benchmark)
    return figure


@mpl.rc_context(STYLE)
def steps(
    image: np.ndarray, truth: np.ndarray, p: np.ndarray, maps: dict[str, np.ndarray], colours: Iterable[str]
) -> Drawing:
    """Image, truth, soft label, error mask, the three factors, their product, and the rectified label.

    Args:
        image: H W or H W 3 in [0, 1]; truth: H W, class index.
        p: soft label, K H W, of probabilities.
        maps: `error`, `alignment`, `similarity`, `certainty`, `weight`, each H W.
        colours: one a class, background first.
    """
    at = truth[None].astype(int)
    before = np.take_along_axis(p, at, 0)[0]
    weight = maps["weight"].astype(np.float64)
    after = weight * before + (1 - weight)  # p^r = lambda p + (1 - lambda) onehot(y), at y
    figure = _drawing(WIDTH, 3.5, "image, truth, soft label, error mask, three factors, weight and rectified label.")
    axes = figure.subplots(2, 5)
    for ax in axes.flat:
        _panel(ax)
    _panel(axes[0, 0], image)
    _panel(axes[0, 1], image, _coloured(truth, colours))
    axes[0, 3].imshow(maps["error"], cmap=ListedColormap(["#EEEEEE", ERRORS["false"]]), vmin=0, vmax=1)
    for place, title in enumerate(
        ("image", "truth", "soft label\n$p_y$ of the true class", "error mask $M$\n(orange)")
    ):
        axes[0, place].set_title(title)
    shown = {
        axes[0, 2]: before,
        axes[1, 0]: maps["alignment"],
        axes[1, 1]: maps["similarity"],
        axes[1, 2]: maps["certainty"],
        axes[1, 3]: maps["weight"],
        axes[1, 4]: after,
    }
    names = (r"alignment $\lambda^a$", r"similarity $\lambda^s$", r"certainty $\lambda^c$", r"weight $\lambda$")
    for ax, name in zip(axes[1], (*names, "rectified label\n$p^r_y$ of the true class"), strict=True):
        ax.set_title(name)
    for ax, plane in shown.items():
        mapped = ax.imshow(plane, cmap="cividis", vmin=0, vmax=1)
    bar = axes[0, 4].inset_axes((0.1, 0.05, 0.1, 0.9))
    figure.colorbar(mapped, cax=bar, label="probability or\nweight (0 to 1)")
    return figure
