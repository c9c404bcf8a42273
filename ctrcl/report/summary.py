"""What there is to see: the pages of a preset in the paper's order, `ctrcl report`, and `results/README.md`."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ctrcl.io import STUDENTS, UserError
from ctrcl.report import table as tables
from ctrcl.report.rendering import signed
from ctrcl.report.results import DRAWN, Results
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
        if self.dataset:
            return f"{self.table or self.name}-{self.dataset}"
        return "-".join(filter(None, (self.name, self.table)))

    def tables(self) -> list[str]:
        """The stems of the tables that it writes."""
        if self.name in ("main", "comparison", "cost"):
            return [self.stem]
        if self.name == "overview":
            return [f"ranks-{self.table}", *(f"wins-{student}-{self.table}" for student in STUDENTS)]
        return []


def pages(results: Results) -> Iterator[Page]:
    """Every page of a preset, in the paper's order."""
    listed = {name: {d: rows for d, rows in of.items() if rows} for name, of in results.settings.tables.items()}
    for name in TITLES:
        if name in ONCE:
            yield Page(name)
        elif name == "overview":
            for table, of in listed.items():
                if len(of) > 1 and len({frozenset(rows) for rows in of.values()}) == 1:
                    yield Page(name, table=table)
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
    found = tables.main(results, dataset, table)
    rows = found.frame[found.frame["student"] != "ensemble"]
    lines: dict[str, dict[str, str]] = {}
    for row in rows.to_dict("records"):
        line = lines.setdefault(row["experiment"], {"method": short(row["label"])})
        gap = f"{signed(row['difference'])} {row['verdict']}" if row["verdict"] else "–"
        line |= {f"DSC {row['student']}": f"{row['dsc']:.3f}", f"to baseline {row['student']}": gap}
    shown = tables.pd.DataFrame(lines.values()).to_markdown(index=False, disable_numparse=True)
    return f"{shown}\n{DRAWN}" if DRAWN in found.notes else shown


def index(folder: Path = Path("results")) -> str:
    """The text of `results/README.md`: every executed notebook, table and figure of every preset that is there."""
    lines = ["# Results", "", "Written by `ctrcl report`: executed notebooks in the paper's order, tables and figures."]
    for place in sorted(path.parent for path in folder.glob("*/params.yaml")):
        results, last = Results(place), ""
        lines += ["", f"## {place.name}"]
        for page in pages(results):
            links = _links(place, page)
            if links and page.name != last:
                lines += ["", f"**{TITLES[page.name]}**", ""]
                last = page.name
            if links:
                lines.append(f"- {page.stem}: {', '.join(links)}")
        if (place / "claims.csv").exists():
            lines.append(f"- [claims.csv]({place.name}/claims.csv)")
    return "\n".join(lines) + "\n"


def _links(place: Path, page: Page) -> list[str]:
    """Links to the files of a page that are there."""
    files = [place / "notebooks" / f"{page.stem}.ipynb"]
    files += [place / "tables" / f"{stem}.md" for stem in page.tables()]
    files += [path for path in sorted((place / "figures").glob("*.png")) if drawn_by(page, path.stem)]
    return [f"[{path.name}]({path.relative_to(place.parent).as_posix()})" for path in files if path.exists()]


def drawn_by(page: Page, figure: str) -> bool:
    """Whether a page writes a figure of that stem."""
    return figure == page.stem or figure.startswith(f"{page.stem}-")
