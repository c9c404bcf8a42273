"""`ctrcl results verify | compare`: are the results complete and what the rows give; how do two folders differ?"""

import io
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ctrcl.io import AGAIN, UserError, read_json, read_rows, write_rows, write_text
from ctrcl.report import claims, stats
from ctrcl.report import table as tables
from ctrcl.report.rendering import Table, plain, signed
from ctrcl.report.results import Results
from ctrcl.report.summary import TABLES, pages
from ctrcl.report.table import KEYS

UNDECIDED = "undecided"
SIDES = ["first", "second"]


def verify(results: Results) -> list[str]:
    """Everything that is wrong with the results, in a line each; nothing is written.

    Every table and the claims are computed anew from the rows and compared byte by byte; runs that are missing, left
    over, without provenance or edited, and tables that are missing or left over are named.
    """
    known = f"run or page of {results.folder}/params.yaml"
    found = [f"{path} belongs to no {known}; remove it" for path in _leftovers(results)]
    with tempfile.TemporaryDirectory() as folder:
        for dataset, experiment in results.settings.runs():
            with _noted(found):
                results.curves(dataset, experiment.name)
        for page in pages(results):
            with _noted(found):
                if table := page.computed(results):
                    table.save(Path(folder, "tables", page.stem))
                if page.name == "claims":
                    write_rows(Path(folder, "claims.csv"), claims.claims(results))
        for fresh in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
            path = results.folder / fresh.relative_to(folder)
            if not path.exists():
                found.append(f"{path} is missing; {AGAIN}")
            elif path.read_bytes() != fresh.read_bytes():
                found.append(f"{path} is not what its rows give; {AGAIN}")
    return list(dict.fromkeys(found))


@contextmanager
def _noted(found: list[str], about: str = "") -> Iterator[None]:
    """An error of the block becomes a line."""
    try:
        yield
    except UserError as error:
        found.append(f"{about}{error}")


def _leftovers(results: Results) -> Iterator[Path]:
    """Files that belong to no run and to no page of the settings."""
    runs, listed = {(dataset, one.name) for dataset, one in results.settings.runs()}, list(pages(results))
    known: dict[str, Callable[[Path], bool]] = {
        **dict.fromkeys(("cases", "curves", "runs", "samples"), lambda path: (path.parent.name, path.stem) in runs),
        "tables": lambda path: any(path.stem == page.stem and page.name in TABLES for page in listed),
        "notebooks": lambda path: any(path.stem == page.stem for page in listed),
        "figures": lambda path: any(page.draws(path.stem) for page in listed),
    }
    for kind, belongs in known.items():
        files = sorted((results.folder / kind).rglob("[!.]*"))
        yield from (path for path in files if path.is_file() and not belongs(path))


@dataclass(frozen=True)
class Comparison:
    """Two folders of results of one preset."""

    names: tuple[str, str]  # what was compared
    machines: list[str]  # the CPUs that it was made on
    frame: pd.DataFrame  # `dataset, experiment, student`, both mean DSC (`first`, `second`), the second less the first
    conclusions: pd.DataFrame  # `table, dataset, experiment, student`, and both: better, worse or undecided
    gaps: list[str]  # what could not be compared, a line each

    @property
    def changed(self) -> pd.DataFrame:
        """The rows of tables whose conclusion is another."""
        return self.conclusions[self.conclusions["first"] != self.conclusions["second"]]

    def lines(self) -> list[str]:
        """At most ten lines for the terminal."""
        where = "{dataset}, {experiment}, student {student}"
        lines = [f"{s}: {name}, made on {on}" for s, name, on in zip(SIDES, self.names, self.machines, strict=True)]
        gap, same = self.frame["difference"], len(self.conclusions) - len(self.changed)
        equal = f"{len(gap)} (run and student), {(gap == 0).sum()} identical"
        lines.append(f"means compared: {equal}; mean change {signed(gap.mean(), 4)} DSC")
        for row in self.frame.loc[gap.abs().nlargest(1).index].to_dict("records"):
            sizes = f"{where.format_map(row)}: {plain(row['first'])} and {plain(row['second'])}"
            lines.append(f"largest change: {signed(row['difference'], 4)} DSC ({sizes})")
        lines.append(f"conclusions (better, worse, undecided): {same} of {len(self.conclusions)} the same")
        changed = ("  {table}, " + where + ": {first}, now {second}").format_map
        lines += map(changed, self.changed.head(3).to_dict("records"))
        number = f"{len(self.gaps)} tables or runs that are not complete in both"
        return lines + [f"not compared: {number}; artifacts/ has the list"] * bool(self.gaps)

    def markdown(self) -> str:
        """The same and every number as a page in Markdown."""
        parts = {
            "# Reproduction": "".join(f"- {line.strip()}\n" for line in self.lines()),
            "## Conclusions that changed": Table(self.changed, [self.changed]).markdown(),
            "## Not compared": "".join(f"- {gap}\n" for gap in self.gaps) or "Nothing.\n",
            "## Every mean": Table(self.frame, [self.frame]).markdown(),
        }
        return "\n".join(f"{head}\n\n{body}" for head, body in parts.items())


def compare(one: Path, other: Path, names: tuple[str, str] | None = None) -> Comparison:
    """Two folders of results (`results/<preset>`), run by run and conclusion by conclusion.

    What is incomplete, as in the middle of a reproduction, is listed as not compared.
    """
    sides, gaps = (Results(one), Results(other)), list[str]()
    means = pd.concat([_means(place) for place in (one, other)], axis=1, keys=SIDES, sort=True)
    for side in SIDES:
        lacking = means[means[side].isna()].reset_index().drop_duplicates(KEYS[:2])
        gaps += [f"{run['dataset']}, {run['experiment']}: not in {side}" for run in lacking.to_dict("records")]
    found = [pd.DataFrame(columns=["table", *KEYS, *SIDES])]
    for table, dataset in [(table, dataset) for table, of in sides[0].settings.tables.items() for dataset in of]:
        with _noted(gaps, f"table {table} of {dataset}: "):
            words = [concluded(tables.main(side, dataset, table).frame) for side in sides]
            both = pd.concat(words, axis=1, keys=SIDES, join="inner").reset_index()
            found.append(both.assign(table=table)[["table", *KEYS, *SIDES]])
    frame = means.dropna().assign(difference=means["second"] - means["first"]).reset_index()
    made = [[read_json(path) for path in (place / "runs").glob("*/*.json")] for place in (one, other)]
    machines = [", ".join(sorted({record["machine"]["cpu"] for record in of})) or "an unknown CPU" for of in made]
    return Comparison(names or (str(one), str(other)), machines, frame, pd.concat(found, ignore_index=True), gaps)


def _means(place: Path) -> pd.Series:
    """Mean DSC by data set, experiment and student."""
    paths = sorted((place / "cases").glob("*/*.csv"))
    if not paths:
        raise UserError(f"{place} holds no cases/<data set>/<experiment>.csv; name a folder like results/laptop")
    parts = {key: part for path in paths for key, part in read_rows(path).groupby(KEYS)}
    return pd.Series({key: stats.mean(part, "dsc").mean for key, part in parts.items()}).rename_axis(KEYS)


def concluded(frame: pd.DataFrame) -> pd.Series:
    """A table's conclusions: better and worse as they are, everything else undecided."""
    tested = frame[frame["baseline"] != ""].set_index(KEYS)["verdict"]
    return tested.where(tested.isin([stats.BETTER, stats.WORSE]), UNDECIDED)


def published(revision: str, preset: str, folder: Path) -> Path:
    """`results/<preset>` of a git revision, unpacked below `folder`."""
    command = ["git", "archive", "--format=zip", revision, f"results/{preset}"]
    try:
        archive = subprocess.run(command, capture_output=True, check=True).stdout
    except FileNotFoundError:
        raise UserError("git is not installed: name two folders of results to compare") from None
    except subprocess.CalledProcessError as error:
        reason = " ".join(error.stderr.decode(errors="replace").split())
        where = f"results/{preset} of {revision!r}"
        raise UserError(f"{where} cannot be read: {reason}; name a commit or a folder") from None
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        files.extractall(folder)
    return folder / "results" / preset


def report(preset: str, one: str = "HEAD", other: str | None = None) -> Comparison:
    """Compare two folders or git revisions of a preset's results; by default the last commit and the working tree.

    The comparison becomes a page, too: `artifacts/reproduction-<preset>.md`.
    """
    names = (one, other or f"results/{preset}")
    with tempfile.TemporaryDirectory(prefix="ctrcl-") as folder:
        first, second = (
            Path(name) if Path(name).is_dir() else published(name, preset, Path(folder, side))
            for side, name in zip(SIDES, names, strict=True)
        )
        found = compare(first, second, names)
    write_text(Path("artifacts") / f"reproduction-{preset}.md", found.markdown())
    return found
