"""All tables of a preset to explore: one picture of every ablation, and any table by name."""

from dataclasses import replace

import pandas as pd

from ctrcl.report import plots
from ctrcl.report import table as tables
from ctrcl.report.rendering import Table
from ctrcl.report.results import Results
from ctrcl.report.style import Drawing

ABLATIONS = ("components", "factors", "features", "sensitivity", "balance", "pairs")


def pages(results: Results) -> list[tuple[str, str]]:
    """Table and data set of every ablation, or of all tables where there is none."""
    listed = results.settings.tables
    names = [name for name in ABLATIONS if listed.get(name)] or list(listed)
    return [(name, dataset) for name in names for dataset, rows in listed[name].items() if rows]


def combined(results: Results) -> Table:
    """The tables of all ablations below one another, each experiment once a data set, its label with its table."""
    found = [(name, tables.main(results, dataset, name)) for name, dataset in pages(results)]
    frame = pd.concat(
        [one.frame.assign(label=f"{name}: " + one.frame["label"]) for name, one in found], ignore_index=True
    )
    frame = frame.drop_duplicates(["dataset", "experiment", "student"])
    return replace(found[0][1], frame=frame, text=f"{len(found)} tables of preset {results.preset}.")


def figure(results: Results) -> Drawing:
    """Every ablation in one picture."""
    return plots.forest(combined(results))
