"""`ctrcl results verify | compare`: are the results complete and what the rows give; how do two folders differ?"""

import atexit
import io
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ctrcl.io import AGAIN, STUDENTS, UserError, read_json, read_rows, write_text
from ctrcl.report import claims, stats
from ctrcl.report import table as tables
from ctrcl.report.figures import cost, overview
from ctrcl.report.rendering import Table, plain, signed
from ctrcl.report.results import Results
from ctrcl.report.summary import Page, drawn_by, pages

UNDECIDED = "undecided"
KEYS = ["dataset", "experiment", "student"]


def verify(results: Results) -> list[str]:
    """Everything that is wrong with the results, in a line each; nothing is written.

    Every table and the claims are computed anew from the rows and compared byte by byte; runs that are missing, left
    over, without provenance or edited, and tables that are missing or left over are named.
    """
    found = [*_leftovers(results), *_curves(results)]
    with tempfile.TemporaryDirectory() as folder:
        for page in pages(results):
            try:
                paths = list(_fresh(results, page, Path(folder)))
            except UserError as error:
                found.append(str(error))
                continue
            found += [line for path in paths for line in _same(path, results.folder / path.relative_to(folder))]
    return list(dict.fromkeys(found))


def _leftovers(results: Results) -> Iterator[str]:
    """Files that belong to no run and to no page of the settings."""
    runs = {(dataset, one.name) for dataset, one in results.settings.runs()}
    for kind in ("cases", "curves", "runs", "samples"):
        for path in sorted((results.folder / kind).glob("*/*")):
            if (path.parent.name, path.stem) not in runs:
                yield f"{path} belongs to no run of {results.folder}/params.yaml; remove it"
    listed = list(pages(results))
    stems = {stem for page in listed for stem in page.tables()}
    for kind in ("tables", "notebooks", "figures"):
        for path in sorted((results.folder / kind).glob("[!.]*")):
            known = {
                "tables": path.stem in stems,
                "notebooks": path.stem in {page.stem for page in listed},
                "figures": any(drawn_by(page, path.stem) for page in listed),
            }
            if not known[kind]:
                yield f"{path} belongs to no page of {results.folder}/params.yaml; remove it"


def _curves(results: Results) -> Iterator[str]:
    for dataset, one in results.settings.runs():
        try:
            results.curves(dataset, one.name)
        except UserError as error:
            yield str(error)


def _fresh(results: Results, page: Page, folder: Path) -> Iterator[Path]:
    """The tables of a page, written anew."""
    found: list[Table] = []
    if page.name in ("main", "comparison") and page.dataset:
        found = [tables.main(results, page.dataset, page.table or "main")]
    elif page.name == "cost" and page.dataset:
        found = [cost.costs(results, page.dataset)]
    elif page.name == "overview" and page.table:
        found = [overview.ranks(results, page.table)]
        found += [overview.wins(results, student, page.table) for student in STUDENTS]
    elif page.name == "claims":
        yield claims.save(claims.claims(results), folder / "claims.csv")
    for stem, table in zip(page.tables(), found, strict=True):
        yield from table.save(folder / "tables" / stem)


def _same(fresh: Path, there: Path) -> Iterator[str]:
    if not there.exists():
        yield f"{there} is missing; {AGAIN}"
    elif there.read_bytes() != fresh.read_bytes():
        yield f"{there} is not what its rows give; {AGAIN}"


@dataclass(frozen=True)
class Comparison:
    """Two folders of results of one preset.

    Attributes:
        names: what was compared; `machines`: the CPUs that it was made on.
        frame: `dataset, experiment, student`, both mean DSC (`first`, `second`), the second less the first.
        conclusions: `table, dataset, experiment, student` and both conclusions: better, worse or undecided.
        gaps: what could not be compared, a line each.
    """

    names: tuple[str, str]
    machines: tuple[str, str]
    frame: pd.DataFrame
    conclusions: pd.DataFrame
    gaps: list[str]

    @property
    def changed(self) -> pd.DataFrame:
        """The rows of tables whose conclusion is another."""
        return self.conclusions[self.conclusions["first"] != self.conclusions["second"]]

    def lines(self) -> list[str]:
        """At most ten lines for the terminal."""
        lines = [
            f"first: {self.names[0]}, made on {self.machines[0]}",
            f"second: {self.names[1]}, made on {self.machines[1]}",
        ]
        if len(self.frame):
            gap = self.frame["difference"]
            worst = self.frame.iloc[int(gap.abs().to_numpy().argmax())]
            lines += [
                f"means compared: {len(gap)} (run and student), {int((gap == 0).sum())} identical; mean change "
                f"{signed(gap.mean(), 4)} DSC",
                f"largest change: {signed(worst['difference'], 4)} DSC ({worst['dataset']}, {worst['experiment']}, "
                f"student {worst['student']}: {plain(worst['first'])} and {plain(worst['second'])})",
            ]
        same = len(self.conclusions) - len(self.changed)
        lines.append(f"conclusions (better, worse, undecided): {same} of {len(self.conclusions)} the same")
        for row in self.changed.head(3).to_dict("records"):
            where = f"{row['table']}, {row['dataset']}, {row['experiment']}, student {row['student']}"
            lines.append(f"  {where}: {row['first']}, now {row['second']}")
        return [*lines, *(f"not compared: {gap}" for gap in self.gaps)][:10]

    def markdown(self) -> str:
        """The same and every number as a page in Markdown."""
        means = Table(self.frame, [self.frame]).markdown()
        changed = Table(self.changed, [self.changed]).markdown() if len(self.changed) else "None.\n"
        gaps = "".join(f"- {gap}\n" for gap in self.gaps) or "Nothing.\n"
        heads = ("# Reproduction", "## Conclusions that changed", "## Not compared", "## Every mean")
        bodies = ("\n".join(f"- {line.strip()}" for line in self.lines()) + "\n", changed, gaps, means)
        return "\n".join(f"{head}\n\n{body}" for head, body in zip(heads, bodies, strict=True))


def compare(one: Path, other: Path, names: tuple[str, str] | None = None) -> Comparison:
    """Two folders of results (`results/<preset>`), run by run and conclusion by conclusion.

    What is incomplete, as in the middle of a reproduction, is listed as not compared.
    """
    sides, gaps = (Results(one), Results(other)), []
    lines, conclusions = [], []
    runs = [_runs(place) for place in (one, other)]
    for dataset, name in sorted(runs[0] | runs[1]):
        if (dataset, name) not in runs[0] & runs[1]:
            gaps.append(f"{dataset}, {name}: only in {'first' if (dataset, name) in runs[0] else 'second'}")
            continue
        rows = [read_rows(place / "cases" / dataset / f"{name}.csv") for place in (one, other)]
        for student in STUDENTS:
            first, second = (stats.mean(part[part["student"] == student], "dsc").mean for part in rows)
            line = {"dataset": dataset, "experiment": name, "student": student, "first": first, "second": second}
            lines.append(line | {"difference": second - first})
    for table, listed in sides[0].settings.tables.items():
        for dataset in listed:
            try:
                frames = [_concluded(tables.main(side, dataset, table).frame) for side in sides]
            except UserError as error:
                gaps.append(f"table {table} of {dataset}: {error}")
                continue
            merged = frames[0].merge(frames[1], on=KEYS, suffixes=("_", ""))
            merged = merged.rename(columns={"conclusion_": "first", "conclusion": "second"})
            conclusions.append(merged.assign(table=table)[["table", *KEYS, "first", "second"]])
    empty = pd.DataFrame(columns=["table", *KEYS, "first", "second"])
    frame = pd.DataFrame(lines, columns=[*KEYS, "first", "second", "difference"])
    machines = (_machine(one), _machine(other))
    every = pd.concat(conclusions, ignore_index=True) if conclusions else empty
    return Comparison(names or (str(one), str(other)), machines, frame, every, gaps)


def _concluded(frame: pd.DataFrame) -> pd.DataFrame:
    """A table's conclusions: better and worse as they are, everything else undecided."""
    tested = frame[frame["baseline"] != ""]
    words = tested["verdict"].where(tested["verdict"].isin([stats.BETTER, stats.WORSE]), UNDECIDED)
    return tested[KEYS].assign(conclusion=words)


def _runs(place: Path) -> set[tuple[str, str]]:
    found = {(path.parent.name, path.stem) for path in (place / "cases").glob("*/*.csv")}
    if not found:
        raise UserError(f"{place} holds no cases/<data set>/<experiment>.csv; name a folder like results/laptop")
    return found


def _machine(place: Path) -> str:
    """The CPUs that the runs of a folder were made on."""
    made = [read_json(path).get("machine") for path in sorted((place / "runs").glob("*/*.json"))]
    return (
        ", ".join(sorted({str(one.get("cpu") if isinstance(one, dict) else one) for one in made})) or "an unknown CPU"
    )


def published(revision: str, preset: str) -> Path:
    """`results/<preset>` of a git revision in a temporary folder, which is removed when the program ends."""
    command = ["git", "archive", revision, f"results/{preset}"]
    try:
        archive = subprocess.run(command, capture_output=True, check=True).stdout
    except FileNotFoundError:
        raise UserError("git is not installed: name two folders of results to compare") from None
    except subprocess.CalledProcessError as error:
        reason = " ".join(error.stderr.decode(errors="replace").split())
        raise UserError(
            f"results/{preset} of {revision!r} cannot be read: {reason}; name a commit or a folder"
        ) from None
    folder = Path(tempfile.mkdtemp(prefix="ctrcl-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return folder / "results" / preset


def between(preset: str, one: str = "HEAD", other: str | None = None) -> Comparison:
    """Compare two folders or git revisions of a preset's results; by default the last commit and the working tree."""
    names = (one, other or f"results/{preset}")
    places = [Path(name) if Path(name).is_dir() else published(name, preset) for name in names]
    return compare(places[0], places[1], names)


def report(preset: str, one: str = "HEAD", other: str | None = None) -> Comparison:
    """The same, and as a page in `artifacts/reproduction-<preset>.md`."""
    found = between(preset, one, other)
    write_text(Path("artifacts") / f"reproduction-{preset}.md", found.markdown())
    return found
