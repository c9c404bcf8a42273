"""How they learn: every term of the loss, and how far the two students agree with each other, epoch by epoch.

Agreement is the mean foreground DSC of one student's label maps against the other's on the validation cases. A student
that learns from its peer should agree with it more than two that never met; too much of it would be copying.
"""

from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd

from ctrcl import data as datasets
from ctrcl.report.figures import every
from ctrcl.report.kept import curve_of, experiments_of
from ctrcl.report.plots import banded, spread
from ctrcl.report.rendering import Shown, framed, plain, short, signed
from ctrcl.report.style import COLUMN, PAGE, STYLE, Drawing, below, drawing, said

TERMS = {"seg": "segmentation", "logits": "soft labels"}
TERMS |= {"alignment": "CFCL: alignment", "supervision": "CFCL: supervision"}


@dataclass(frozen=True)
class Learning:
    """The page: curves by experiment and method, and `frame`, the last epoch's agreement, one row per experiment."""

    found: dict[tuple[str, str], pd.DataFrame]
    frame: pd.DataFrame
    scale: str
    dataset: str

    def table(self) -> Shown:
        """The last epoch's agreement, as shown."""
        return framed(self.frame.drop(columns="every"))

    def text(self) -> str:
        """What the last epoch's agreement says, seed by seed against training alone."""
        parts = [f"On the validation cases of {self.dataset} (scale {self.scale}), last epoch; brackets: the seeds."]
        words = {1: "more in every seed", -1: "less in every seed", 0: "not sure by the seeds"}
        for row in self.frame.dropna(subset="agreement").to_dict("records"):
            told = plain(row["agreement"])
            if row["least"] < row["most"]:
                told += f" [{plain(row['least'])} to {plain(row['most'])}]"
            if np.isnan(row["rise"]):
                parts.append(f"Two students that never met agree by {told}.")
            else:
                parts.append(
                    f"{row['method']}: {told}, {signed(row['rise'])} to training alone, {words[row['every']]}."
                )
        if len(parts) == 1:
            parts.append("There are no validation cases, so agreement was not measured.")
        return said(parts, datasets.get(self.dataset))

    @mpl.rc_context(STYLE)
    def agreement(self) -> Drawing:
        """Agreement by epoch of every main experiment: mean over seeds, band from the least to the most."""
        figure = drawing(COLUMN, 2.9, f"{self.dataset}: agreement of the two students by epoch, by method.")
        ax = figure.subplots()
        for (name, method), curve in self.found.items():
            banded(ax, curve, "agreement", name, method)
        if self.frame["agreement"].isna().all():
            ax.text(0.5, 0.5, "no validation cases", transform=ax.transAxes, ha="center", color="#555555")
        ax.set(xlabel="epoch", ylabel="DSC of a against b (0 to 1)")
        return self._finished(figure, columns=3)

    @mpl.rc_context(STYLE)
    def losses(self) -> Drawing:
        """Every term of the loss by epoch, weight included: a row a student, a column a term."""
        terms = [term for term in TERMS if any(f"{term}_a" in curve for curve in self.found.values())]
        told = ", ".join(TERMS[term] for term in terms)
        figure = drawing(PAGE, 3.6, f"{self.dataset}: {told} by epoch, of both students.")
        axes = figure.subplots(2, len(terms), sharex=True, sharey="col", squeeze=False)
        for row, student in zip(axes, ("a", "b"), strict=True):
            for ax, term in zip(row, terms, strict=True):
                for (name, method), curve in self.found.items():
                    if f"{term}_{student}" in curve:
                        banded(ax, curve, f"{term}_{student}", name, method)
            row[0].set_ylabel(f"student {student}: loss")
        for ax, last, term in zip(*axes, terms, strict=True):
            ax.set(title=TERMS[term], ylim=(0, None))
            last.set_xlabel("epoch")
        return self._finished(figure, columns=len(self.found))

    def _finished(self, figure: Drawing, columns: int) -> Drawing:
        handles = figure.axes[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper center", ncols=columns, frameon=False)
        below(figure, f"{self.dataset}: {spread(next(iter(self.found.values())))}.", datasets.get(self.dataset))
        return figure


def learning(results: Path, scale: str, dataset: str) -> Learning:
    """Read the curves of the main experiments."""
    place, titles = results / scale / "curves" / dataset, experiments_of(results, scale, dataset)
    found = {(name, short(title)): curve_of(place / f"{name}.csv") for name, title in titles.items()}
    last = {
        key: part[part["epoch"] == part["epoch"].max()].set_index("seed")["agreement"] for key, part in found.items()
    }
    alone, lines = next(values for (name, _), values in last.items() if name == "alone"), []
    for (name, method), values in last.items():
        rise = values - alone
        line = {"method": method, "agreement": values.mean(), "least": values.min(), "most": values.max()}
        lines.append(
            line | {"rise": rise.mean() if name != "alone" else np.nan, "seeds": len(values), "every": every(rise)}
        )
    return Learning(found, pd.DataFrame(lines), scale, dataset)
