"""What there is to see: the pages of a preset in the paper's order, `ctrcl report`, and `results/README.md`."""

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import fill
from typing import NamedTuple

from ctrcl.io import UserError
from ctrcl.report import cost
from ctrcl.report import table as tables
from ctrcl.report.rendering import Table, signed, spanned
from ctrcl.report.results import Results

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
    "cost": "What it costs",
    "claims": "The claims",
}
TABLES = ("main", "comparison", "cost")  # those that write a table


class Page(NamedTuple):
    """An executed notebook; `dataset` and `table` are its parameters."""

    name: str
    dataset: str | None = None
    table: str | None = None

    @property
    def stem(self) -> str:
        """Name of the executed notebook, and how its figures' names begin."""
        return "-".join(filter(None, (self.table or self.name, self.dataset)))

    def draws(self, figure: str) -> bool:
        """Whether it writes a figure of that stem."""
        return figure == self.stem or figure.startswith(f"{self.stem}-")

    def computed(self, results: Results) -> Table | None:
        """The table that it writes under its stem, if it writes one."""
        if self.name == "cost":
            return cost.costs(results, self.dataset or "")
        if self.name in TABLES:
            return tables.main(results, self.dataset or "", self.table or "main")
        return None


def pages(results: Results) -> Iterator[Page]:
    """Every page of a preset, in the paper's order."""
    listed = {name: {d: rows for d, rows in of.items() if rows} for name, of in results.settings.tables.items()}
    own = {
        **{name: [Page(name)] for name in ("framework", "ablations", "claims")},  # on all data sets
        "comparison": [Page("comparison", d, table) for table, of in listed.items() if table != "main" for d in of],
        "cost": [Page("cost", d) for d in results.settings.data if results.experiments(d)],
    }
    for name in TITLES:
        yield from own.get(name, [Page(name, dataset) for dataset in listed.get("main", {})])


def report(results: Results) -> str:
    """For the terminal: each data set's main table without ensembles, and where everything else is."""
    parts = []
    for dataset in results.settings.tables.get("main", {}):
        try:
            found = tables.main(results, dataset)
            shown = found.parts[0][found.frame["student"] != "ensemble"].iloc[:, :5]  # up to verdict
            printed = shown.to_markdown(index=False, disable_numparse=True)
            parts.append("\n".join([dataset, printed, *results.dataset(dataset).notes]))
        except UserError as error:
            parts.append(f"{dataset}: {error}")
    return "\n\n".join([*parts, f"in {results.folder}/: tables, figures, notebooks"])


def index(folder: Path = Path("results")) -> str:
    """The text of `results/README.md`: every executed notebook, table and figure of every preset that is there."""
    lines = ["# Results", ""]
    lines += ["Written by `ctrcl results index`: executed notebooks in the paper's order, tables and figures."]
    for place in sorted(path.parent for path in folder.glob("*/params.yaml")):
        titled: dict[str, list[str]] = {}
        figures = sorted((place / "figures").glob("*.png"))
        for page in pages(Results(place)):
            files = [place / "notebooks" / f"{page.stem}.ipynb", place / "tables" / f"{page.stem}.md"]
            files += [path for path in figures if page.draws(path.stem)]
            files += [place / "claims.csv"] * (page.name == "claims")
            links = [f"[{path.name}]({path.relative_to(folder).as_posix()})" for path in files if path.exists()]
            if links:
                titled.setdefault(TITLES[page.name], []).append(f"- {page.stem}: {', '.join(links)}")
        lines += ["", f"## {place.name}"]
        lines += [line for title, items in titled.items() for line in ("", f"**{title}**", "", *items)]
    return "\n".join(lines) + "\n"


def headline(text: str, results: Results, dataset: str) -> str:
    """A page with the sentence between its `headline` marks computed from the main table of a data set."""
    frame = tables.main(results, dataset).frame
    rows = frame[frame["experiment"] == "ctrcl"].set_index("student").to_dict("index")
    a, b = (f"{spanned(rows[s], 'difference', signed)} ({rows[s]['verdict']})" for s in ("a", "b"))
    size = f"{rows['a']['units']} test cases, {rows['a']['seeds']} seeds"
    found = f"On `{dataset}` ({size}) CTRCL changes the DSC of training alone by {a} for the CNN and by {b} for the "
    found = " ".join([f"{found}Transformer, with 95 % intervals.", *results.dataset(dataset).notes])
    block = f"<!-- headline -->\n{fill(found, 120)}\n<!-- end -->"
    return re.sub("<!-- headline -->.*<!-- end -->", lambda _: block, text, flags=re.DOTALL)
