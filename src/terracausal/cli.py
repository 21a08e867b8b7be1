"""The command line: `terracausal run`, `init`, `demo`, `doctor` and `--version`."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="What a policy did, where, and for whom: causal inference with satellite images.",
    no_args_is_help=True,
    add_completion=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from terracausal import __version__

        typer.echo(f"terracausal {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Analyse policies with satellite images of the places."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Seed of the simulated study.")] = 1,
) -> None:
    """Run the whole flow on a simulated study and write its report."""
    from terracausal.workflows import write_demonstration

    typer.echo("Simulating a trial, encoding its images and estimating effects …", err=True)
    found = write_demonstration(out, random_state=seed)
    typer.echo(found.summary())
    typer.echo(f"\nReport: {out / 'report.html'}")


@app.command()
def doctor() -> None:
    """Check the installation: versions, device, and a small analysis with a known answer."""
    from terracausal.workflows import check_installation

    checks = check_installation()
    for check in checks:
        typer.echo(f"{'ok  ' if check.passed else 'FAIL'} {check.name:<13} {check.found}")
    failed = [check.name for check in checks if not check.passed]
    if failed:
        typer.echo(f"\n{len(failed)} checks failed: {', '.join(failed)}", err=True)
        raise typer.Exit(code=1)
    typer.echo("\nAll checks passed.")


@app.command()
def init() -> None:
    """Print a configuration with comments: terracausal init > analysis.toml."""
    from terracausal.workflows.running import template

    typer.echo(template(), nl=False)


@app.command()
def run(
    configuration: Annotated[Path, typer.Argument(help="The file that describes the analysis.")],
    check: Annotated[bool, typer.Option("--check", help="Check everything, run nothing.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results of another configuration.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False,
) -> None:
    """Run the analysis of a file, or go on where it was stopped."""
    with _told_in_one_paragraph(debug), _progress_on_screen():
        from terracausal.workflows.running import check_run, run_file

        if check:
            typer.echo(check_run(configuration))
            typer.echo("\nThe configuration and the data can be used; nothing was run.")
            return
        found = run_file(configuration, overwrite=overwrite)
        typer.echo(found.summary)
        typer.echo(f"\nWritten to {found.folder}: {', '.join(found.files)}")


@contextmanager
def _told_in_one_paragraph(debug: bool) -> Iterator[None]:
    """Turn an error into one paragraph and exit code 2, unless its origin is asked for."""
    try:
        yield
    except typer.Exit:
        raise
    except Exception as error:
        if debug:
            raise
        notes = " ".join(f"({note})" for note in getattr(error, "__notes__", ()))
        expected = isinstance(error, ValueError | TypeError | OSError | ImportError)
        hint = "" if expected else " Run again with --debug to see where it happened."
        words = " ".join(f"{error} {notes}".split())
        typer.echo(f"Error ({type(error).__name__}): {words}{hint}", err=True)
        raise typer.Exit(code=2) from None


@contextmanager
def _progress_on_screen() -> Iterator[None]:
    """Show steps on standard error while they run, and warnings without their source lines."""
    log = logging.getLogger("terracausal.workflows")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log.addHandler(handler)
    shown = warnings.formatwarning
    warnings.formatwarning = lambda text, kind, *_, **__: f"Warning ({kind.__name__}): {text}\n"
    try:
        yield
    finally:
        warnings.formatwarning = shown
        log.removeHandler(handler)


def main() -> None:
    """Run the command line."""
    app()
