"""The command line: `terracausal demo`, `terracausal doctor`, `terracausal --version`."""

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


def main() -> None:
    """Run the command line."""
    app()
