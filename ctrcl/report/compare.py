"""`ctrcl results verify | compare`: are the results whole and what the rows say; how do two folders of them differ?

Imports no torch.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from string import Template

import pandas as pd

from ctrcl.config import Settings, read_yaml
from ctrcl.io import STUDENTS, UserError, read_json, read_rows, sha256
from ctrcl.report import claims as ledger
from ctrcl.report import overview, tables
from ctrcl.report import stats as statistics
from ctrcl.report.figures import cost
from ctrcl.report.rendering import signed, spanned


def verify(results: Path, scale: str) -> list[str]:
    """Everything that is wrong with a scale's results, in a line each; nothing is written.

    Every table and the ledger are computed anew from the rows and compared byte by byte; runs that are missing, left
    over, without provenance or edited, and tables that are missing or left over are named.
    """
    settings = tables.settings_of(results, scale)
    place = results / scale
    found = [*_leftovers(settings, place), *_tables(settings, results), *_curves(settings, place)]
    return [*found, *_costs(settings, results), *_overviews(settings, results), *_claims(results, scale)]


def _leftovers(settings: Settings, place: Path) -> Iterator[str]:
    """Files of runs and of tables that the settings do not list, and what no stage of the pipeline makes."""
    runs = {(run.dataset, run.experiment) for run in (*settings.runs.values(), *settings.distilled.values())}
    for room in ("cases", "curves", "runs"):
        for path in sorted((place / room).glob("*/*")):
            if (path.parent.name, path.stem) not in runs:
                yield f"{path} belongs to no run of {place}/params.yaml; remove it"
    stems = {f"{table}-{dataset}" for table, listed in settings.tables.items() for dataset in listed}
    stems |= {f"cost-{one.name}" for one in settings.sets.values()}
    stems |= {f"{kind}-{page.table}" for page in settings.across.values() for kind in overview.KINDS}
    for path in sorted((place / "tables").glob("*")):
        if path.stem not in stems:
            yield f"{path} belongs to no table of {place}/params.yaml; remove it"
    pipeline = place.parent.parent / "dvc.yaml"
    made = _made(settings, pipeline) if pipeline.exists() else set()
    for room in ("figures", "notebooks", "samples") if made else ():
        for path in sorted((place / room).glob("*")):
            if path.relative_to(pipeline.parent).as_posix() not in made and not path.name.startswith("."):
                yield f"{path} is made by no stage of dvc.yaml; remove it"


def _made(settings: Settings, pipeline: Path) -> set[str]:
    """The outputs that the stages of a scale write."""
    found = set()
    for stage in read_yaml(pipeline)["stages"].values():
        items = getattr(settings, stage["foreach"].strip("${}")).values() if "foreach" in stage else [None]
        for item in items:
            values = {"scale": settings.scale} | (item.model_dump() if item else {})
            for out in stage.get("do", stage)["outs"]:
                path = (out if isinstance(out, str) else next(iter(out))).replace("${item.", "${")
                found.add(Template(path).substitute(values))
    return found


def _tables(settings: Settings, results: Path) -> Iterator[str]:
    for name, listed in settings.tables.items():
        for dataset in listed:
            try:
                table = tables.main(results, settings.scale, dataset, table=name)
            except UserError as error:
                yield str(error)
                continue
            with tempfile.TemporaryDirectory() as folder:
                yield from _kept(table.save(Path(folder) / f"{name}-{dataset}"), settings, results)


def _costs(settings: Settings, results: Path) -> Iterator[str]:
    """The cost tables; what is wrong with a run was said with the other tables."""
    for one in settings.sets.values():
        try:
            found = cost.costs(results, settings.scale, one.name)
        except UserError:
            continue
        with tempfile.TemporaryDirectory() as folder:
            yield from _kept(found.save(Path(folder) / f"cost-{one.name}"), settings, results)


def _kept(paths: list[Path], settings: Settings, results: Path) -> Iterator[str]:
    for fresh in paths:
        yield from _same(fresh, results / settings.scale / "tables" / fresh.name)


def _curves(settings: Settings, place: Path) -> Iterator[str]:
    for run in (*settings.runs.values(), *settings.distilled.values()):
        path, record = (place / room / run.dataset / run.experiment for room in ("curves", "runs"))
        path, record = path.with_name(f"{path.name}.csv"), record.with_name(f"{record.name}.json")
        if not path.exists():
            yield f"{path} is missing; run `dvc repro`"
        elif record.exists() and read_json(record).get("curves") != sha256(path):
            yield f"{path} is not what its run wrote (another checksum); restore it, or run `dvc repro`"


def _overviews(settings: Settings, results: Path) -> Iterator[str]:
    """Ranks and wins, as their page writes them."""
    for page in settings.across.values():
        try:
            fresh = overview.overview(results, settings.scale, page.table)
        except UserError as error:
            yield str(error)
            continue
        with tempfile.TemporaryDirectory() as folder:
            yield from _kept(fresh.save(Path(folder)), settings, results)


def _claims(results: Path, scale: str) -> Iterator[str]:
    try:
        found = ledger.ledger(results, scale)
    except UserError as error:
        yield str(error)
        return
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / scale).mkdir()
        yield from _same(ledger.save(found, Path(folder), scale), results / scale / "claims.csv")


def _same(fresh: Path, kept: Path) -> Iterator[str]:
    if not kept.exists():
        yield f"{kept} is missing; run `dvc repro`"
    elif kept.read_bytes() != fresh.read_bytes():
        yield f"{kept} is not what its rows give; run `dvc repro`"


def compare(one: Path, other: Path) -> pd.DataFrame:
    """Two folders of results (`results/<scale>`), run by run and student by student.

    Returns:
        `dataset, experiment, student`, the mean DSC of both with intervals, and the second less the first, paired over
        the cases that both have; a run that only one folder has stands there with a dash.
    """
    runs = [_runs(place) for place in (one, other)]
    lines = []
    for dataset, experiment in sorted(runs[0] | runs[1]):
        sides = [_rows(place / "cases" / dataset / f"{experiment}.csv") for place in (one, other)]
        for student in STUDENTS:
            line: dict[str, object] = {"dataset": dataset, "experiment": experiment, "student": student}
            parts = [rows[rows["student"] == student] for rows in sides]
            for name, part in zip(("first", "second"), parts, strict=True):
                line |= tables.flat(name, statistics.interval(part, "dsc"))
            lines.append(line | tables.flat("difference", statistics.paired(parts[1], parts[0], "dsc")))
    return pd.DataFrame(lines)


def _runs(place: Path) -> set[tuple[str, str]]:
    found = {(path.parent.name, path.stem) for path in (place / "cases").glob("*/*.csv")}
    if not found:
        raise UserError(f"{place} holds no cases/<data set>/<experiment>.csv; name a folder like results/laptop")
    return found


def _rows(path: Path) -> pd.DataFrame:
    return read_rows(path) if path.exists() else pd.DataFrame(columns=["student", "seed", *statistics.KEYS, "dsc"])


def told(frame: pd.DataFrame) -> Iterator[str]:
    """The lines of a comparison, for people."""
    yield f"{'data set':16} {'experiment':30} {'student':9} {'first':22} {'second':22} second less first"
    for row in frame.to_dict("records"):
        names = f"{row['dataset']:16} {row['experiment']:30} {row['student']:9}"
        yield f"{names} {spanned(row, 'first'):22} {spanned(row, 'second'):22} {spanned(row, 'difference', signed)}"
