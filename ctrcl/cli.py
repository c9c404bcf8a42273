"""The command `ctrcl`. Every part of the package is imported where it is used.

Errors are one line (what, where, what to do) and exit code 2.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ctrcl import config
from ctrcl.io import UserError, advised, read_text, write_text

app = typer.Typer(
    help="Rectified collaborative learning of a CNN and a Transformer, reproduced.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data = typer.Typer(help="Data sets: list, import, verify.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data, name="data")
results = typer.Typer(help="Results: verify, compare.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(results, name="results")
Dataset = Annotated[str, typer.Argument(help="a data set of this preset, e.g. phantom-cardiac")]


def main() -> None:
    """Entry point: a `UserError` becomes one line and exit code 2."""
    try:
        code = typer.main.get_command(app)(standalone_mode=False) or 0
    except UserError as error:
        code = _fail(str(error))
    except OSError as error:
        code = _fail(advised(error))
    except Exception as error:
        message = getattr(error, "format_message", None)  # a usage error of the click that typer brings
        if message is None:
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            print(message())
            code = 2
        else:
            code = _fail(f"{message()} See `ctrcl --help`.")
    if code == 130:  # what typer answers to Ctrl-C
        print("ctrcl: interrupted; run the same command again to go on from the last checkpoint", file=sys.stderr)
    sys.exit(code)


def _fail(message: str) -> int:
    print(f"ctrcl: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _benchmark(name: str) -> Any:
    """A data set by name; the settings in force declare a data set of one's own."""
    from ctrcl import data as datasets

    settings = config.load() if config.PARAMS.exists() else None
    return datasets.get(name, settings.data[name].classes if settings and name in settings.data else None)


def _results(preset: str | None = None) -> Any:
    from ctrcl.report.results import Results

    return Results(Path("results", preset or config.load().preset))


@data.command("list")
def data_list() -> None:
    """Every data set: classes, where its files belong, whether they are there."""
    from ctrcl import data as datasets

    own = list(config.load().data) if config.PARAMS.exists() else []
    for name in dict.fromkeys([*datasets.names(), *own]):
        benchmark = _benchmark(name)
        there = "present" if benchmark.folder.is_dir() else "absent "
        print(f"{name:16} {there}  {benchmark.folder}/  {', '.join(benchmark.classes[1:])}")
        about = f"{benchmark.citation} {benchmark.terms} From: {benchmark.source}"
        print(f"{'':16} {'drawn data: say nothing about patients' if benchmark.drawn else about}")


@data.command("import")
def data_import(
    name: str,
    path: Annotated[Path | None, typer.Argument(help="folder, zip or tar; none: download it (kvasir-seg only)")] = None,
) -> None:
    """Check a data set in a folder, zip or tar and import it atomically to external/NAME."""
    import signal

    from ctrcl.data.importing import import_dataset

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # like Ctrl-C, so that what is staged is removed
    import_dataset(_benchmark(name), path)


@data.command("verify")
def data_verify(name: str) -> None:
    """Read every case of an imported data set and report what is right, what is odd and what stops."""
    from ctrcl.data.verify import verify

    benchmark = _benchmark(name)
    report = verify(benchmark, benchmark.folder)
    print(report)
    if report.errors:
        raise UserError(report.errors[0])


@results.command("verify")
def results_verify(preset: Annotated[str | None, typer.Argument(help="preset; none: that in force")] = None) -> None:
    """Recompute every table from its rows; name what is missing, left over, edited or without provenance."""
    from ctrcl.report import compare

    found = _results(preset)
    if problems := compare.verify(found):
        for problem in problems[:-1]:
            print(f"ctrcl: {problem}", file=sys.stderr)
        raise UserError(problems[-1])
    print(f"{found.folder}: every table is what its rows give, every row has its provenance, nothing is left over")


@results.command("compare")
def results_compare(
    first: Annotated[str, typer.Argument(help="a git revision, or a folder like results/laptop")] = "HEAD",
    second: Annotated[str | None, typer.Argument(help="the same; none: the results of the preset in force")] = None,
) -> None:
    """Reproduction report: published numbers beside yours, the largest difference, which conclusions are the same."""
    from ctrcl.report import compare

    preset = config.load().preset
    print("\n".join(compare.report(preset, first, second).lines()))


@results.command("index")
def results_index() -> None:
    """Write results/README.md (links to every notebook, table and figure) and the headline of README.md."""
    from ctrcl.report import summary

    first = next(iter(config.load().tables["main"]))
    write_text("README.md", summary.headline(read_text("README.md"), _results(), first))
    write_text("results/README.md", summary.index())


@app.command()
def preset(
    name: Annotated[str | None, typer.Argument(help="a preset of conf/, e.g. laptop; none: the one in force")] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="e.g. training.epochs=3")] = None,
) -> None:
    """Compose params.yaml from conf/ and derive plan.yaml; without a name, check params.yaml and derive again."""
    from ctrcl.engine import plan

    if name:
        settings = plan.install(config.compose(name, overrides))
    else:
        settings = config.load()
        plan.check(settings)
        plan.derive(settings)
    count = sum(1 for _ in settings.runs())
    print(f"params.yaml is {settings.preset}: {count} trainings on {', '.join(settings.data)}; next: dvc repro")


@app.command(hidden=True)
def record() -> None:
    """Copy params.yaml beside the results, and what all trainings share of it (the first stage of dvc.yaml)."""
    settings = config.load()
    place = Path("results", settings.preset)
    write_text(place / "params.yaml", read_text(config.PARAMS))
    shared = settings.model_dump(mode="json", include={"seeds", "balance", "students", "training"})
    config.write_yaml(place / "shared.yaml", shared | settings.numerics(), "Of params.yaml, what all trainings share.")


@app.command("prepare")
def prepare_data(dataset: Dataset) -> None:
    """Resize a data set's images to the size of the preset in force, into memory-mapped arrays."""
    from ctrcl.data.preparation import prepare
    from ctrcl.engine.run import RunPaths

    settings = config.load()
    size, benchmark = settings.size(dataset), _benchmark(dataset)
    target = RunPaths(settings.preset, dataset).prepared
    prepare(benchmark, benchmark.folder, size, target, settings.machine.workers)


@app.command()
def train(
    dataset: Annotated[str | None, typer.Argument(help="a data set of this preset; none: all of them")] = None,
    experiment: Annotated[str | None, typer.Argument(help="an experiment; none: all that tables name")] = None,
    table: Annotated[str | None, typer.Option(help="only the experiments of this table")] = None,
) -> None:
    """Train and evaluate what is missing, teachers first; interrupted, it resumes."""
    from ctrcl.engine import run

    settings = config.load()
    if dataset and experiment:
        settings.size(dataset)
        run.train(settings, [(dataset, settings.experiment(experiment))])
    else:
        run.train(settings, settings.runs(dataset, table))


@app.command()
def samples(dataset: Dataset) -> None:
    """Store what the figures are drawn from: best, median and worst case of training alone, per main experiment."""
    from ctrcl.engine import machine

    settings = config.load()
    machine.cap(settings.machine)
    from ctrcl.engine import samples as chosen

    chosen.collect(settings, dataset)


@app.command()
def notebook(
    name: str,
    dataset: Annotated[str | None, typer.Argument(help="a data set of this preset; none: all of them")] = None,
    table: Annotated[str | None, typer.Option(help="the table that `comparison` shows")] = None,
) -> None:
    """Execute notebooks/paper/NAME.ipynb on a data set of the preset in force, into results/."""
    from ctrcl.report import notebook as notebooks

    settings = config.load()
    if dataset:
        settings.size(dataset)
    notebooks.execute(name, settings.preset, dataset, table=table)


@app.command()
def methods() -> None:
    """Every method: family, fidelity, what it adds to the students' losses, paper."""
    from ctrcl import methods as registry

    for name in registry.names():
        method = registry.get(name)
        values = {key: field.default for key, field in method.Options.model_fields.items()}
        print(f"{name:15} {method.family:13} {method.fidelity:15} {method.equation.format(**values)}")
        print(f"{'':15} {method.citation}")


@app.command()
def report() -> None:
    """Print the main tables of the preset in force and where its tables, figures and notebooks are."""
    from ctrcl.report import summary

    print(summary.report(_results()))


@app.command()
def predict(
    weights: Annotated[Path, typer.Argument(help="a student's .safetensors")],
    images: Annotated[list[Path], typer.Argument(help="JPEG, PNG or NIfTI")],
    output: Annotated[Path, typer.Option("-o", "--output", help="folder for the label maps")],
) -> None:
    """Segment images with one student; not for clinical use."""
    from ctrcl.engine import predict as prediction

    prediction.predict(weights, images, output, _benchmark)


@app.command()
def export(
    weights: Annotated[Path, typer.Argument(help="a student's .safetensors")],
    output: Annotated[Path, typer.Option("-o", "--output", help="folder for the .safetensors and the .onnx")],
) -> None:
    """Copy one student as safetensors and write it as ONNX: image in [0, 1] in, class probabilities out."""
    from ctrcl.engine import export as exporting

    for path in exporting.export(weights, output):
        print(path)


if __name__ == "__main__":
    main()
