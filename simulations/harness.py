"""What every claim shares: long-form rows, resumable replications, and the derived interval.

A claim's `run.py` draws one world per replication and appends its rows; `tables.py` only reads.
"""

import argparse
import csv
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import stats

COLUMNS = (
    "replication",
    "seed",
    "setting",
    "estimator",
    "term",
    "truth",
    "estimate",
    "std_error",
    "ci_low",
    "ci_high",
    "seconds",
)
FALSE_ALARM = 1e-5
Row = dict[str, Any]
Draw = Callable[[np.random.Generator], Iterator[Row]]


def row(setting: str, estimator: str, truth: float, result: Any, started: float) -> Row:
    """Return the row of a result with one term, timed from `started` until now."""
    seconds = time.perf_counter() - started
    told = result.to_dataframe(level=0.95).iloc[0]
    numbers = {name: told[name] for name in ("estimate", "std_error", "ci_low", "ci_high")}
    numbers |= {"truth": truth, "seconds": round(seconds, 3)}
    named = {"setting": setting, "estimator": estimator, "term": told["term"]}
    return named | {name: f"{value:.5g}" for name, value in numbers.items()}


def table_of(line: pd.DataFrame) -> SimpleNamespace:
    """Dress a tidy row as a result."""
    return SimpleNamespace(to_dataframe=lambda level: line)


def number(term: str, value: float) -> SimpleNamespace:
    """Dress a number without an error as a result."""
    line = {"term": term, "estimate": value, "std_error": 0.0, "ci_low": value, "ci_high": value}
    return table_of(pd.DataFrame([line]))


def replication_seeds(entropy: int, n_replications: int) -> list[int]:
    """Return one seed per replication; the first ones do not depend on how many there are."""
    children = np.random.SeedSequence(entropy).spawn(n_replications)
    return [int(child.generate_state(1)[0]) for child in children]


def main(draw: Draw, entropy: int, folder: Path, replications: int) -> None:
    """Read the command line and append the rows of all replications that are not there yet.

    Parameters
    ----------
    draw : callable
        Takes a generator and yields the rows of one replication.
    entropy : int
        From which the seeds of the claim are derived.
    folder : Path
        Where results.csv lies by default.
    replications : int
        Default of the command line.
    """
    parser = argparse.ArgumentParser(description=f"Replications of the claim {folder.name}.")
    parser.add_argument("--replications", type=int, default=replications)
    parser.add_argument("--n-jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=folder / "results.csv")
    given = parser.parse_args()
    seeds = replication_seeds(entropy, given.replications)
    done = check_rows(given.out, seeds)
    left = [number for number in range(given.replications) if number not in done]
    # workers import this module by name
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    run = Parallel(n_jobs=given.n_jobs, return_as="generator")(
        delayed(_replicate)(draw, number, seeds[number]) for number in left
    )
    fresh = is_empty(given.out)
    with given.out.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if fresh:
            writer.writeheader()
        for rows in run:
            writer.writerows(rows)
            file.flush()
    print(f"{len(done)} replications were there, {len(left)} were added: {given.out}")


def _replicate(draw: Draw, number: int, seed: int) -> list[Row]:
    rng = np.random.default_rng(seed)
    return [{"replication": number, "seed": seed, **found} for found in draw(rng)]


def is_empty(out: Path) -> bool:
    """Return whether there is no file, or one of a run that was killed before its first row."""
    return not out.exists() or out.stat().st_size == 0


def check_rows(out: Path, seeds: list[int]) -> set[int]:
    """Return the replications that a file has, if they were drawn with these seeds."""
    if is_empty(out):
        return set()
    found = pd.read_csv(out, usecols=["replication", "seed"]).drop_duplicates()
    for number, seed in found.itertuples(index=False):
        if number < len(seeds) and seed != seeds[number]:
            raise ValueError(
                f"Replication {number} of {out} must have the seed {seeds[number]}; it has {seed}. "
                "The entropy has changed: remove the file to start anew."
            )
    return set(found["replication"].astype(int))


def read_results(folder: Path) -> pd.DataFrame:
    """Read the command line of `tables.py` and the rows it names."""
    parser = argparse.ArgumentParser(description=f"Table of the claim {folder.name}.")
    parser.add_argument("--results", type=Path, default=folder / "results.csv")
    return pd.read_csv(parser.parse_args().results)


def derived_interval(n_replications: int, rate: float) -> tuple[float, float]:
    """Return the interval which the share of hits leaves with probability 1e-5 if `rate` is true.

    Parameters
    ----------
    n_replications : int
    rate : float
        The share that is claimed, such as a coverage of 0.95.

    Returns
    -------
    (float, float)
        Two-sided, from the binomial distribution; both ends are inside.
    """
    binomial = stats.binom(n_replications, rate)
    low, high = binomial.ppf(FALSE_ALARM / 2), binomial.ppf(1 - FALSE_ALARM / 2)
    return float(low / n_replications), float(high / n_replications)


def judge(hits: "pd.Series[bool]", rate: float) -> str:
    """Return the share of hits, and whether it is inside the derived interval of a claimed rate."""
    share, (low, high) = float(hits.mean()), derived_interval(len(hits), rate)
    verdict = "inside" if low <= share <= high else "outside"
    return f"{share:.3f} ({verdict} {low:.3f} to {high:.3f})"


def covered(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Tell which intervals hold the truth."""
    return (rows["ci_low"] <= rows["truth"]) & (rows["truth"] <= rows["ci_high"])


def spread(rows: pd.DataFrame) -> dict[str, str]:
    """Return mean bias with its Monte Carlo error, SD and mean standard error, as text."""
    error = rows["estimate"] - rows["truth"]
    return {
        "replications": str(len(rows)),
        "mean bias (MC error)": f"{error.mean():.4f} ({error.std() / np.sqrt(len(rows)):.4f})",
        "SD": f"{error.std():.4f}",
        "mean SE": f"{rows['std_error'].mean():.4f}",
    }


def tabulate(results: pd.DataFrame, describe: Callable[[str, pd.DataFrame], dict[str, str]]) -> str:
    """Return a Markdown table with one line per setting, estimator and term.

    Parameters
    ----------
    results : pandas.DataFrame
        Long-form rows.
    describe : callable
        Takes the name of the estimator and its rows, and returns the cells after the names.
    """
    by = ["setting", "estimator", "term"]
    lines = [
        dict(zip(by, names, strict=True)) | describe(names[1], rows)
        for names, rows in results.groupby(by, sort=False)
    ]
    return markdown(pd.DataFrame(lines))


def markdown(table: pd.DataFrame) -> str:
    """Return a table of text as Markdown."""
    lines = [list(table.columns), ["---"] * table.shape[1], *table.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
