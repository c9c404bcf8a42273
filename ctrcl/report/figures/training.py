"""How they learn: every term of the loss, and how far the two students agree with each other, epoch by epoch.

Agreement is the mean foreground DSC of one student's label maps against the other's on the validation cases. A student
that learns from its peer should agree with it more than two that never met; too much of it would be copying.
"""

import matplotlib as mpl
import numpy as np
import pandas as pd

from ctrcl.report.plots import banded, finished, spread
from ctrcl.report.rendering import Table, signed
from ctrcl.report.results import Results
from ctrcl.report.style import COLUMN, PAGE, STYLE, Drawing, drawing, short

TERMS = {"seg": "segmentation", "logits": "soft labels"}
TERMS |= {"alignment": "CFCL: alignment", "supervision": "CFCL: supervision"}


def measure(results: Results, dataset: str) -> Table:
    """The last epoch's agreement under the paper's five, and what it is more than alone, with the seeds' range."""
    last, lines = {}, []
    for name in results.main(dataset):
        curve = results.curves(dataset, name)
        last[name] = curve[curve["epoch"] == curve["epoch"].max()].set_index("seed")["agreement"]
    for name, values in last.items():
        rise = values - last["alone"] if "alone" in last and name != "alone" else values * np.nan
        line = {"method": short(results.label(name)), "agreement": values.mean(), "least": values.min()}
        line |= {"most": values.max(), "rise": rise.mean(), "least rise": rise.min(), "seeds": len(values)}
        lines.append(line)
    frame = pd.DataFrame(lines)
    text, ours = "There are no validation cases, so agreement was not measured.", short(results.label("ctrcl"))
    for row in frame[(frame["method"] == ours) & frame["rise"].notna()].to_dict("records"):
        text = f"Under {ours} the students' agreement differs by {signed(row['rise'])} from training alone."
    return Table(frame, [frame], [], results.dataset(dataset).sentences(text))


@mpl.rc_context(STYLE)
def agreement(results: Results, dataset: str) -> Drawing:
    """Agreement by epoch under the paper's five: mean over seeds, band from the least to the most."""
    found = {name: results.curves(dataset, name) for name in results.main(dataset)}
    figure = drawing(COLUMN, 2.9, f"{dataset}: agreement of the two students by epoch, by method.")
    ax = figure.subplots()
    for name, curve in found.items():
        banded(ax, curve, "agreement", name, short(results.label(name)))
    ax.set(xlabel="epoch", ylabel="DSC of a against b (0 to 1)")
    finished(figure, f"{dataset}: {spread(found)}.", results, dataset, columns=3)
    return figure


@mpl.rc_context(STYLE)
def losses(results: Results, dataset: str) -> Drawing:
    """Every term of the loss by epoch, weight included: a row a student, a column a term."""
    found = {name: results.curves(dataset, name) for name in results.main(dataset)}
    terms = [term for term in TERMS if any(f"{term}_a" in curve for curve in found.values())]
    figure = drawing(PAGE, 3.6, f"{dataset}: {', '.join(TERMS[t] for t in terms)} by epoch, of both students.")
    axes = figure.subplots(2, len(terms), sharex=True, sharey="col", squeeze=False)
    for row, student in zip(axes, ("a", "b"), strict=True):
        for ax, term in zip(row, terms, strict=True):
            for name, curve in found.items():
                if f"{term}_{student}" in curve:
                    banded(ax, curve, f"{term}_{student}", name, short(results.label(name)))
            ax.set(title=TERMS[term] if student == "a" else "", ylabel="", xlabel="epoch")
        row[0].set_ylabel(f"student {student}: loss")
    for ax in axes[0]:
        ax.set_ylim(bottom=0)
    finished(figure, f"{dataset}: {spread(found)}.", results, dataset)
    return figure
