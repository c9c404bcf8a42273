"""What is told of the results outside the notebooks: `ctrcl report`, the README's tables, measured cost.

Imports no torch.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from ctrcl import methods
from ctrcl.config import Settings
from ctrcl.io import AGAIN, read_json
from ctrcl.report import tables
from ctrcl.report.rendering import Table, signed, spanned


def report(settings: Settings) -> None:
    """Print what there is of a scale's tables, figures and notebooks, and its main table, compact."""
    results = Path("results")
    place = results / settings.scale
    paths = [p for room in ("tables", "figures", "notebooks") for p in sorted((place / room).glob("*")) if p.is_file()]
    print("\n".join(str(path) for path in paths) or f"{place}: no table, figure or notebook yet; {AGAIN}")
    for dataset in settings.tables.get("main", {}):
        table = tables.main(results, settings.scale, dataset)
        print(f"\n## {dataset}\n\n" + "\n".join(_compact(table)) + f"\n\n{cost(results, settings, dataset)}")


def _compact(table: Table) -> Iterator[str]:
    yield f"| method | student | DSC [95 %] | to {table.reference} [95 %] |"
    yield "|---|---|---|---|"
    for row in table.frame.to_dict("records"):
        dsc, gap = spanned(row, "dsc"), spanned(row, "difference", signed)
        student = "ensemble" if row["student"] == "ensemble" else f"{row['student']}: {row['network']}"
        yield f"| {row['title']} | {student} | {f'**{dsc}**' if row['bold'] else dsc} | {gap} |"


def refreshed(text: str, results: Path) -> str:
    """A page with its tables written anew: what stands between `<!-- table:SCALE/DATASET -->` and `<!-- end -->`.

    `<!-- methods -->` begins the table of the registry.
    """

    def written(found: re.Match[str]) -> str:
        table = tables.main(results, found[1], found[2])
        return f"<!-- table:{found[1]}/{found[2]} -->\n" + "\n".join(_compact(table)) + "\n<!-- end -->"

    text = re.sub(r"<!-- table:([\w-]+)/([\w-]+) -->.*?<!-- end -->", written, text, flags=re.DOTALL)
    listed = "<!-- methods -->\n" + "\n".join(_registry()) + "\n<!-- end -->"
    return re.sub(r"<!-- methods -->.*?<!-- end -->", lambda _: listed, text, flags=re.DOTALL)


def _registry() -> Iterator[str]:
    yield "| method | trains | fidelity | adds to the students' losses | whose |"
    yield "|---|---|---|---|---|"
    for method in methods.METHODS.values():
        equation = method.equation.replace("|", "\\|")
        yield f"| `{method.name}` | {method.setting} | {method.fidelity} | {equation} | {method.cited} |"


def cost(results: Path, settings: Settings, dataset: str) -> str:
    """Measured time and memory of a data set's main runs; differs on a rerun, so it stands in no table."""
    place = results / settings.scale / "runs" / dataset
    records = [read_json(place / f"{experiment}.json") for experiment in settings.tables["main"][dataset]]
    seeds = [seed for record in records for seed in record["seeds"].values()]
    minutes, peak = sum(seed["seconds"] for seed in seeds) / 60, max(seed["peak_mib"] for seed in seeds)
    devices = ", ".join(sorted({seed["device"] for seed in seeds}))
    return f"Cost: {len(seeds)} trainings, {minutes:.1f} minutes of one worker in all, at most {peak} MiB; {devices}."
