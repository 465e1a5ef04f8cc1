"""`gems eval data`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gems.apps.cli import options
from gems.apps.cli.errors import BEST_EFFORT, MET, handle_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gems.evals.data import DataCheck, DataReport, FileCheck


def data(
    task: Annotated[str | None, typer.Argument(metavar="[TASK]", help="A benchmark; all by default.")] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--data",
            parser=options.path,
            metavar="DIR",
            help="Folder of the benchmark's data. Default: GEMS_HOME/benchmarks/TASK.",
        ),
    ] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Show the source and licence of the benchmarks' data, and check the local copies.

    Nothing is downloaded: clone the repository into the folder, or put the files there. Files are checked by
    count and size, and parsed as the task does. You can run a partial benchmark; its results are marked as
    partial.

    \b
    Examples:
      gems eval data
      gems eval data geneval2 --data ~/GenEval2

    \b
    Exit codes:
      0  all data are in place
      3  some files are missing, partial, damaged or of another edition; see their lines
      2  bad usage or configuration
      1  failure
    """  # noqa: D301 - \b keeps the lines apart
    with handle_errors(as_json=json, debug=debug):
        from gems.apps.cli.output import print_json  # noqa: PLC0415 - heavy

        report = _check_data(task, folder)
        if json:
            print_json(report)
        else:
            typer.echo("\n\n".join("\n".join(_format_check(check)) for check in report.benchmarks))
        raise typer.Exit(MET if report.ok else BEST_EFFORT)


def _check_data(name: str | None, folder: Path | None) -> DataReport:
    from gems.errors import OptionError  # noqa: PLC0415 - heavy
    from gems.evals.data import DataReport, check_data  # noqa: PLC0415
    from gems.evals.registry import TASKS, data_folder, load_task  # noqa: PLC0415
    from gems.settings import load_settings  # noqa: PLC0415

    if name is None and folder is not None:
        raise OptionError("--data needs a benchmark.", hint="Pass the benchmark, e.g. geneval2.")
    settings = load_settings()
    tasks = [load_task(each) for each in ([name] if name is not None else TASKS)]
    checks = [check_data(each, folder or data_folder(settings, each.name)) for each in tasks]
    return DataReport(ok=all(check.ok for check in checks), benchmarks=checks)


def _format_check(check: DataCheck) -> Iterator[str]:
    from gems.apps.cli.errors import clean  # noqa: PLC0415 - heavy
    from gems.apps.cli.text import one_line  # noqa: PLC0415 - heavy

    yield f"{check.task}: {check.title}, {'in place' if check.ok else 'not in place'}"
    if check.url:
        yield f"  from: {check.url}"
    yield f"  licence: {check.licence}"
    if check.note:
        yield f"  note: {check.note}"
    if check.files:
        yield clean(f"  folder: {check.folder}")
    for file in check.files:
        yield clean(f"  {file.status:<8}  {file.path}{_format_counts(file)}")
    for each in check.prompts:
        error = f"; {one_line(each.error)}" if each.error else ""
        yield f"  prompts   {each.language}: {each.prompts:,} of {each.expected:,}{error}"


def _format_counts(file: FileCheck) -> str:
    """Format record and byte counts against the expected ones."""
    exists = file.size is not None
    parts = []
    for found, expected, unit in (
        (file.records, file.records_expected, "records"),
        (file.size, file.size_expected, "bytes"),
    ):
        count = found if exists else expected
        if count is not None:
            whole = f" of {expected:,}" if exists and expected not in (None, found) else ""
            parts.append(f"{count:,}{whole} {unit}")
    return f": {', '.join(parts)}" if parts else ""
