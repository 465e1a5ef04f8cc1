"""`gems evolve`: changes that prove themselves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from gems.apps.cli import options
from gems.apps.cli.command import command, command_group
from gems.apps.cli.errors import BEST_EFFORT, MET
from gems.apps.cli.options import argument, flag, option, path_option
from gems.apps.text import clean_text, one_line, pluralize
from gems.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gems.apps.cli.runner import Runner
    from gems.evolution import Adopted, Comparison, Evolution, PatchList
    from gems.evolution.trial import TrialPlan
    from gems.memory.patches import Counts, Evidence, Patch
    from gems.settings import Settings

T = TypeVar("T")
PatchId = Annotated[str, argument("PATCH", "Id from `gems evolve list`, or its beginning.")]


def _query(runner: Runner, task: Callable[[Evolution], Awaitable[T]], settings: Settings) -> T:
    async def coroutine() -> T:
        from gems.evolution import Evolution
        from gems.service import Gems

        async with Gems(settings) as gems:
            return await task(Evolution(gems))

    return runner.run_resumable(coroutine())


@command({0: "done, even if nothing was proposed", 2: "bad usage or configuration, or the patch cannot be applied"})
def propose(
    runner: Runner,
    models: options.Models,
    file: Annotated[Path | None, path_option("FILE", "Store the patch in this JSON file instead of asking.")] = None,
) -> None:
    """Propose patches from failures, lessons and counts of what worked.

    The reflector's chat model writes them: an amendment of a skill's guidance, of the wording of a task of the
    reflector or the judge, of the generator's recipe, or of a rule of the policy. Drafts by `gems skills learn`
    that amend a skill become patches, too. Nothing of it changes a run before `gems evolve adopt`.

    \b
    Examples:
      gems evolve propose
      gems evolve propose --file patch.json
    """
    patch = None if file is None else _read_patch(file)
    runner.show(
        _query(
            runner, lambda evolution: evolution.propose() if patch is None else evolution.add(patch), models.settings()
        ),
        _print_proposed,
    )


def _read_patch(file: Path) -> Patch:
    from pydantic import ValidationError

    from gems.memory.patches import Patch

    try:
        return Patch.model_validate_json(file.read_bytes())
    except OSError as error:
        raise OptionError(f"{file} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "the patch"
        message = fault["msg"].removeprefix("Value error, ")
        raise OptionError(f"{file} is no patch: {where}: {message}.", hint="See docs/evolution.md.") from error


def _print_proposed(found: PatchList) -> None:
    _print_patches(found)
    for reason in found.refused:
        typer.echo(f"refused: {one_line(reason)}", err=True)
    if not found.patches:
        typer.echo("Nothing was proposed. Run more prompts with memory, so that there is something to learn.", err=True)


@command(
    {
        0: "proven: it can be adopted",
        3: "refused, or the budget ended before anything was proven",
        2: "bad usage or configuration",
        130: "interrupted; the same command goes on",
    }
)
def try_(
    runner: Runner,
    patch: PatchId,
    prompts: Annotated[Path, path_option("FILE", "Held-out prompts, one per line: it must be better on them.")],
    keep: Annotated[Path, path_option("FILE", "Prompts that pass today, one per line: it must not be worse on them.")],
    budget: Annotated[int, option("N", "Most images of all runs together.", min=1)],
    models: options.Models,
    rounds: Annotated[int | None, option("N", "Most rounds of a run. Default: that of runs.", min=1, max=50)] = None,
    seed: Annotated[int, option("N", "From which the seed of each prompt is derived.")] = 0,
    dry_run: Annotated[bool, flag("--dry-run", "Only say what the trial would do and cost.")] = False,
) -> int | None:
    """Try a patch: runs with and without it, of the same prompts and seeds.

    Gains are measured by known truth in the built-in world, else by GEMS_EVAL_JUDGE__MODEL, which must be another
    model than the loop's judge. The exact paired test is corrected for earlier trials on any of the held-out
    prompts. A trial without hope ends early.

    \b
    Examples:
      gems evolve try 3f2a --prompts held-out.txt --keep passing.txt --budget 400 --dry-run
      gems evolve try 3f2a --prompts held-out.txt --keep passing.txt --budget 400
    """
    from gems.evolution import TrialRequest

    request = TrialRequest(
        prompts=_read_lines(prompts), keep=_read_lines(keep), budget=budget, rounds=rounds, seed=seed
    )
    settings = models.settings()
    if dry_run:
        plan = _query(runner, lambda evolution: evolution.plan(patch, request), settings)
        runner.show(plan, lambda plan: typer.echo(_describe_plan(plan)))
        return None

    def tell(plan: TrialPlan) -> None:
        typer.echo(_describe_plan(plan), err=True)

    found = _query(
        runner, lambda evolution: evolution.try_patch(patch, request, tell, runner.progress("pair")), settings
    )
    runner.show(found, _print_evidence)
    return MET if found.decision == "proven" else BEST_EFFORT


def _read_lines(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise OptionError(
            f"{file} cannot be read: {reason}.", hint="It must be a text with one prompt per line."
        ) from error
    return [line for line in map(str.strip, lines) if line]


def _describe_plan(plan: TrialPlan) -> str:
    usd = "" if plan.usd_high is None else f", at most ${plan.usd_high:,.2f}"
    done = f" ({plan.done} pairs are done)" if plan.done else ""
    return (
        f"{pluralize(plan.held, 'held-out pair')} and {pluralize(plan.keep, 'pair')} to keep{done}, measured by "
        f"{plan.measured_by}: {plan.images_low:,} to {plan.images_high:,} images{usd}; no more than {plan.budget:,}.\n"
        f"Trial {plan.tried} on these prompts: p must be at most {plan.level:.2g}, so at least {plan.needed} pairs "
        "must get better."
    )


def _print_evidence(found: Evidence) -> None:
    typer.echo(f"{found.decision}: {found.reason}")
    typer.echo(f"held-out: {_describe_counts(found.held)}, p = {found.p:.2g} (to reach: {found.level:.2g})")
    typer.echo(f"to keep: {_describe_counts(found.keep)}")
    without = found.images - found.images_with
    typer.echo(f"images: {without:,} without, {found.images_with:,} with; measured by {found.measured_by}")


def _describe_counts(counts: Counts) -> str:
    left_out = f", {counts.left_out} left out" if counts.left_out else ""
    return f"{counts.better} better, {counts.worse} worse of {pluralize(counts.pairs, 'pair')}{left_out}"


@command({0: "in force from now on", 2: "bad usage, or it is not proven"})
def adopt(runner: Runner, patch: PatchId, models: options.Models) -> None:
    """Put a proven patch in force for new runs of profile balanced.

    Only where it was better on the held-out prompts and not worse on those to keep, with the models of the
    settings and on top of what is in force. Runs of profile paper never take a patch.

    \b
    Example:
      gems evolve adopt 3f2a
    """
    done = _query(runner, lambda evolution: evolution.adopt(patch), models.settings())
    runner.show(done, _print_adopted)


@command({0: "no longer in force", 2: "bad usage, or it is not in force"})
def revert(runner: Runner, patch: PatchId) -> None:
    """Take an adopted patch back; runs in progress keep what they were started with.

    \b
    Example:
      gems evolve revert 3f2a
    """
    from gems.settings import load_settings

    done = _query(runner, lambda evolution: evolution.revert(patch), load_settings())
    runner.show(done, _print_adopted)


def _print_adopted(done: Adopted) -> None:
    version = done.version
    typer.echo(
        f"version {version.number}, {version.created}: {version.action} {version.patch}, seal {version.seal[:16]}"
    )
    typer.echo(clean_text(done.difference))
    for other in done.built_upon:
        typer.echo(f"warning: {other} was proven on top of it, and stays in force", err=True)


@command({0: "compared", 2: "bad usage, or there is no such version"})
def compare(
    runner: Runner,
    first: Annotated[int, argument("VERSION", "Number from `gems evolve list`; 0 is the time before any.")],
    second: Annotated[int | None, argument("VERSION", "The other version; by default the newest.")] = None,
) -> None:
    """Compare what was in force in two versions.

    \b
    Examples:
      gems evolve compare 0
      gems evolve compare 2 3
    """
    from gems.settings import load_settings

    runner.show(_query(runner, lambda evolution: evolution.compare(first, second), load_settings()), _print_comparison)


def _print_comparison(found: Comparison) -> None:
    names = [f"+{name}" for name in found.added] + [f"-{name}" for name in found.removed]
    typer.echo(f"version {found.first} to {found.second}: {', '.join(names) or 'the same is in force'}")
    if found.difference:
        typer.echo(clean_text(found.difference))


@command({0: "listed, even if there are none", 2: "bad configuration"})
def list_(runner: Runner) -> None:
    """List patches with how far they have come, and all versions of what was in force.

    \b
    Examples:
      gems evolve list
      gems evolve list --json
    """
    from gems.settings import load_settings

    async def listed(evolution: Evolution) -> PatchList:
        return evolution.list_patches()

    runner.show(_query(runner, listed, load_settings()), _print_list)


def _print_list(found: PatchList) -> None:
    _print_patches(found)
    for version in found.versions:
        in_force = ", ".join(version.in_force) or "nothing"
        typer.echo(
            f"version {version.number}, {version.created}: {version.action} {version.patch}; in force: {in_force}"
        )
    if not found.patches:
        typer.echo("There are no patches. `gems evolve propose` writes some.", err=True)


def _print_patches(found: PatchList) -> None:
    for item in found.patches:
        patch = item.patch
        change = ", ".join(f"{name} {value}" for name, value in patch.values.items()) or patch.after
        typer.echo(one_line(f"{item.id}  {item.status}  {patch.kind} {patch.target}: {change}", 200))
        if patch.reason:
            typer.echo(f"  {one_line(patch.reason, 200)}")


evolve = command_group(
    "evolve",
    "Propose changes, try them, and adopt those that prove themselves.",
    {"propose": propose, "try": try_, "adopt": adopt, "revert": revert, "list": list_, "compare": compare},
)
