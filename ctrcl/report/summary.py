"""What there is to see: the pages of a preset in the paper's order, `ctrcl report`, and `results/README.md`."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ctrcl.io import STUDENTS, UserError
from ctrcl.report import table as tables
from ctrcl.report.figures import cost, overview
from ctrcl.report.rendering import DASH, Table, signed
from ctrcl.report.results import Results
from ctrcl.report.style import short

TITLES = {  # notebooks in the paper's order; what each shows
    "framework": "The framework",
    "motivation": "Why a CNN and a Transformer",
    "main": "The main comparison",
    "qualitative": "What the students predict",
    "rectification": "The rectification, step by step",
    "categories": "What the Category Perception Modules see",
    "training": "How they learn",
    "feature-space": "Feature space",
    "comparison": "Comparisons and ablations",
    "ablations": "All ablations",
    "overview": "Over all data sets",
    "cost": "What it costs",
    "claims": "The claims",
}
ONCE = ("framework", "ablations", "claims")  # notebooks on all data sets


class Page(NamedTuple):
    """An executed notebook; `dataset` and `table` are its parameters."""

    name: str
    dataset: str | None = None
    table: str | None = None

    @property
    def stem(self) -> str:
        """Name of the executed notebook, and how its figures' names begin."""
        parts = (self.table or self.name, self.dataset) if self.dataset else (self.name, self.table)
        return "-".join(filter(None, parts))

    def draws(self, figure: str) -> bool:
        """Whether it writes a figure of that stem."""
        return figure == self.stem or figure.startswith(f"{self.stem}-")

    def tables(self) -> list[str]:
        """The stems of the tables that it writes."""
        if self.name == "overview":
            return [f"ranks-{self.table}", *(f"wins-{student}-{self.table}" for student in STUDENTS)]
        return [self.stem] if self.name in ("main", "comparison", "cost") else []

    def compute(self, results: Results) -> list[Table]:
        """These tables, from the rows."""
        if self.name == "overview" and self.table:
            wins = (overview.wins(results, student, self.table) for student in STUDENTS)
            return [overview.ranks(results, self.table), *wins]
        if self.name == "cost" and self.dataset:
            return [cost.costs(results, self.dataset)]
        if self.dataset and self.tables():
            return [tables.main(results, self.dataset, self.table or "main")]
        return []


def pages(results: Results) -> Iterator[Page]:
    """Every page of a preset, in the paper's order."""
    listed = {name: {d: rows for d, rows in of.items() if rows} for name, of in results.settings.tables.items()}
    for name in TITLES:
        if name in ONCE:
            yield Page(name)
        elif name == "overview":
            several = {table: set(map(frozenset, of.values())) for table, of in listed.items() if len(of) > 1}
            yield from (Page(name, table=table) for table, of in several.items() if len(of) == 1)
        elif name == "comparison":
            yield from (Page(name, d, table) for table, of in listed.items() if table != "main" for d in of)
        elif name == "cost":
            yield from (Page(name, d) for d in results.settings.data if results.experiments(d))
        else:
            yield from (Page(name, d) for d in listed.get("main", {}))


def report(results: Results) -> str:
    """For the terminal: each data set's main table in short, and where everything else is."""
    parts = []
    for dataset in results.settings.tables.get("main", {}):
        try:
            parts.append(f"{dataset}\n{compact(results, dataset)}")
        except UserError as error:
            parts.append(f"{dataset}: {error}")
    place = results.folder
    return "\n\n".join([*parts, f"tables, figures, notebooks: {place}/tables, {place}/figures, {place}/notebooks"])


def compact(results: Results, dataset: str, table: str = "main") -> str:
    """A table in Markdown with one row per experiment: DSC, difference to the baseline and verdict of both students."""
    found = tables.main(results, dataset, table).frame
    lines: dict[str, dict[str, str]] = {}
    for row in found[found["student"] != "ensemble"].to_dict("records"):
        gap = f"{signed(row['difference'])} {row['verdict']}" if row["verdict"] else DASH
        line = lines.setdefault(row["experiment"], {"method": short(row["label"])})
        line |= {f"DSC {row['student']}": f"{row['dsc']:.3f}", f"to baseline {row['student']}": gap}
    shown = pd.DataFrame(lines.values()).to_markdown(index=False, disable_numparse=True)
    return "\n".join([shown, *results.dataset(dataset).notes()])


def index(folder: Path = Path("results")) -> str:
    """The text of `results/README.md`: every executed notebook, table and figure of every preset that is there."""
    lines = ["# Results", "", "Written by `ctrcl report`: executed notebooks in the paper's order, tables and figures."]
    for place in sorted(path.parent for path in folder.glob("*/params.yaml")):
        last = ""
        lines += ["", f"## {place.name}"]
        figures = sorted((place / "figures").glob("*.png"))
        for page in pages(Results(place)):
            files = [place / "notebooks" / f"{page.stem}.ipynb"]
            files += [place / "tables" / f"{stem}.md" for stem in page.tables()]
            files += [path for path in figures if page.draws(path.stem)]
            files += [place / "claims.csv"] * (page.name == "claims")
            links = [f"[{path.name}]({path.relative_to(folder).as_posix()})" for path in files if path.exists()]
            if links:
                lines += [] if page.name == last else ["", f"**{TITLES[page.name]}**", ""]
                lines.append(f"- {page.stem}: {', '.join(links)}")
                last = page.name
    return "\n".join(lines) + "\n"
