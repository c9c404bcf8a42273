"""Accuracy against cost: DSC over parameters, GFLOPs and the time of training."""

from typing import Any

import matplotlib as mpl
import seaborn as sns

from ctrcl.report.cost import OTHER
from ctrcl.report.rendering import Table
from ctrcl.report.style import LOOKS, PAGE, STYLE, Drawing, drawing

LOOK: Any = {
    "hue": "trained by",
    "palette": {"trained alone": LOOKS["alone"].colour, "CTRCL and its parts": LOOKS["ctrcl"].colour, OTHER: "#BBBBBB"},
    "style": "kind",
    "markers": {"cnn": "o", "transformer": "^"},
}
PANELS = {"parameters": "parameters (millions)", "gflops": "GFLOPs an image", "seconds": "training of one seed (s)"}


@mpl.rc_context(STYLE)
def figure(table: Table) -> Drawing:
    """DSC against parameters, GFLOPs and the time of training: a point per experiment and student."""
    dataset = table.frame["dataset"].iloc[0]
    alt = f"{dataset}: DSC of every experiment and student against {', '.join(PANELS)}; the table has the numbers."
    drawn = drawing(PAGE, 3.1, alt)
    axes = drawn.subplots(1, 3, sharey=True)
    order = table.frame.sort_values("group", key=lambda c: c != OTHER, kind="stable")  # others lie behind
    order = order.rename(columns={"group": "trained by"}).assign(parameters=order["parameters"] / 1e6)
    for ax, (column, label) in zip(axes, PANELS.items(), strict=True):
        sns.scatterplot(order, x=column, y="dsc", s=30, ax=ax, legend="auto" if ax is axes[0] else False, **LOOK)
        ax.set(xlabel=label, xlim=(0, 1.06 * order[column].max()), ylabel="DSC (0 to 1)")
    handles, labels = axes[0].get_legend_handles_labels()
    axes[0].get_legend().remove()
    drawn.legend(handles, labels, loc="outside upper center", ncols=len(handles), handletextpad=0.1)
    drawn.below(f"{dataset}: a point an experiment and student.", table.notes)
    return drawn
