"""The command `ctrcl`. It stands above all rooms and imports them where they are used.

Errors are for people: one line that says what is wrong, where, and what to do; exit code 2.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ctrcl.io import UserError, advised

MAIN = ("alone", "dml", "rlcl", "cfcl", "ctrcl")  # what the stages of `dvc.yaml` draw side by side
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
Dataset = Annotated[str, typer.Argument(help="a data set of this scale, e.g. phantom-cardiac")]
Experiment = Annotated[str, typer.Argument(help="an experiment of params.yaml, e.g. ctrcl")]


def main() -> None:
    """Entry point: people's errors become one line and exit code 2."""
    try:
        sys.exit(_told())
    except BrokenPipeError:  # `ctrcl ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _told() -> int:
    """Run the command; the exit code."""
    try:
        return typer.main.get_command(app)(standalone_mode=False) or 0
    except UserError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        print("ctrcl: interrupted; run the same command again to go on from the last checkpoint", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except OSError as error:
        return _fail(advised(error))
    except Exception as error:
        message = getattr(error, "format_message", None)  # a usage error of the click that typer brings
        if message is None:
            raise
        if type(error).__name__ != "NoArgsIsHelpError":
            return _fail(f"{message()} See `ctrcl --help`.")
        print(message())
        return 2


def _fail(message: str) -> int:
    print(f"ctrcl: {' '.join(message.split())}", file=sys.stderr)
    return 2


@data.callback()
def in_force() -> None:
    """Know the data sets that the settings in force declare."""
    from ctrcl import config as settings

    if settings.PARAMS.exists():
        settings.load()


@data.command("list")
def data_list() -> None:
    """Every data set: classes, where its files belong, whether they are there."""
    from ctrcl import data as datasets

    for name in datasets.names():
        benchmark = datasets.get(name)
        there = "present" if benchmark.folder.is_dir() else "absent "
        print(f"{name:16} {there}  {benchmark.folder}/  {', '.join(benchmark.classes[1:])}")
        about = f"{benchmark.citation} {benchmark.terms} From: {benchmark.source}"
        print(f"{'':16} {'drawn: says nothing about patients' if benchmark.drawn else about}")


@data.command("import")
def data_import(
    name: str,
    path: Annotated[Path | None, typer.Argument(help="folder, zip or tar; none: download it (kvasir-seg only)")] = None,
) -> None:
    """Check a data set in a folder, zip or tar and bring it to external/NAME, all of it or nothing."""
    import signal

    from ctrcl import data as datasets
    from ctrcl.data import importing

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # like Ctrl-C, so that what is staged is removed
    importing.import_dataset(datasets.get(name), path)


@data.command("verify")
def data_verify(name: str) -> None:
    """Read every case of a data set that is here and report what is right, what is odd and what stops."""
    from ctrcl import data as datasets
    from ctrcl.data.verify import verify

    benchmark = datasets.get(name)
    report = verify(benchmark, benchmark.folder)
    print(report)
    if report.errors:
        raise UserError(report.errors[0])


@results.command("verify")
def results_verify(
    scale: Annotated[str | None, typer.Argument(help="a scale that has results; none: the one in force")] = None,
) -> None:
    """Compute every table anew from its rows and compare; name what is missing, left over, edited or unproven."""
    from ctrcl import config as settings
    from ctrcl.io import UserError
    from ctrcl.report import compare as checking

    name = scale or settings.load().scale
    if problems := checking.verify(Path("results"), name):
        for problem in problems[:-1]:
            print(f"ctrcl: {problem}", file=sys.stderr)
        raise UserError(problems[-1])
    print(f"results/{name}: every table is what its rows give, every row has its provenance, nothing is left over")


@results.command("compare")
def results_compare(
    first: Annotated[Path, typer.Argument(help="a folder like results/laptop")],
    second: Annotated[Path, typer.Argument(help="another one: later, or of another machine")],
) -> None:
    """Show two folders of results side by side, with paired differences."""
    from ctrcl.report import compare as checking

    for line in checking.told(checking.compare(first, second)):
        print(line)


@app.command()
def scale(
    name: Annotated[
        str | None, typer.Argument(help="smoke, laptop, workstation or paper; none: params.yaml as it is")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="e.g. training.epochs=3")] = None,
) -> None:
    """Compose params.yaml from conf/; without a name, check it and keep a copy beside the results of its scale."""
    from ctrcl import config as settings
    from ctrcl import methods
    from ctrcl.io import read_text, write_text

    values = settings.compose(name, overrides) if name else settings.read_yaml(settings.PARAMS)
    chosen = settings.parse(values, f"{settings.CONF}/{name}.yaml" if name else str(settings.PARAMS))
    for experiment, options in chosen.experiments.items():
        methods.configured(experiment, options)
    for dataset, listed in chosen.tables.get("main", {}).items():
        if lacking := [experiment for experiment in MAIN if experiment not in listed]:
            raise UserError(
                f"tables.main.{dataset} lacks {', '.join(lacking)}: the figures need all of {', '.join(MAIN)}"
            )
    if name:
        settings.write(values)
    else:
        write_text(Path("results", chosen.scale, "params.yaml"), read_text(settings.PARAMS))
    count = len(chosen.runs) + len(chosen.distilled)
    print(f"params.yaml is {chosen.scale}: {count} trainings on {', '.join(chosen.data)}; next: dvc repro")


@app.command()
def prepare(dataset: Dataset) -> None:
    """Resize a data set's images to the size of the scale in force, into memory-mapped arrays."""
    from ctrcl import config as settings
    from ctrcl import data as datasets
    from ctrcl.data import preparation
    from ctrcl.engine import run as runs

    chosen = settings.load()
    target = runs.Places(chosen.scale, dataset).prepared
    size = chosen.size(dataset)
    benchmark = datasets.get(dataset, chosen.data[dataset].classes)
    preparation.prepare(benchmark, benchmark.folder, size, target, chosen.machine.workers)


@app.command()
def train(dataset: Dataset, experiment: Experiment) -> None:
    """Train and evaluate one experiment on one data set, all seeds; interrupted, it resumes."""
    from ctrcl import config as settings
    from ctrcl.engine import run as runs

    runs.train(settings.load(), dataset, experiment)


@app.command()
def evaluate(dataset: Dataset, experiment: Experiment) -> None:
    """Compute the metrics again from the kept label maps; needs no weights."""
    from ctrcl import config as settings
    from ctrcl.engine import run as runs

    runs.evaluate(settings.load(), dataset, experiment)


@app.command()
def samples(dataset: Dataset) -> None:
    """Keep what the figures are drawn from: best, median and worst case of training alone, for each main experiment."""
    from ctrcl import config as settings
    from ctrcl.engine import samples as drawn

    drawn.collect(settings.load(), dataset)


@app.command()
def notebook(
    name: str,
    dataset: Annotated[str | None, typer.Argument(help="a data set of this scale; none: a page on all of them")] = None,
    table: Annotated[str | None, typer.Option(help="the table that `comparison` shows")] = None,
) -> None:
    """Execute notebooks/paper/NAME.ipynb on a data set of the scale in force, into results/."""
    from ctrcl import config as settings
    from ctrcl.report import notebook as notebooks

    chosen = settings.load()
    if dataset:
        chosen.size(dataset)
    notebooks.execute(name, chosen.scale, dataset, table=table)


@app.command()
def methods() -> None:
    """Every method: what trains, fidelity, what it adds to the students' losses, paper."""
    from ctrcl import methods as registry

    for method in registry.METHODS.values():
        print(f"{method.name:15} {method.setting:8} {method.fidelity:15} {method.equation}\n{'':15} {method.cited}")


@app.command()
def report(
    readme: Annotated[bool, typer.Option("--readme", help="write the README's tables anew instead")] = False,
) -> None:
    """Name the tables, figures and notebooks of the scale in force, and print its main table."""
    from ctrcl import config as settings
    from ctrcl.io import read_text, write_text
    from ctrcl.report import summary as reporting

    if readme:
        write_text("README.md", reporting.refreshed(read_text("README.md"), Path("results")))
    else:
        reporting.report(settings.load())


@app.command()
def predict(
    weights: Annotated[Path, typer.Argument(help="a student's .safetensors")],
    images: Annotated[list[Path], typer.Argument(help="JPEG, PNG or NIfTI")],
    output: Annotated[Path, typer.Option("-o", "--output", help="folder for the label maps")],
) -> None:
    """Segment images with one student; not for clinical use."""
    from ctrcl.engine import predict as prediction

    in_force()
    prediction.predict(weights, images, output)


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
