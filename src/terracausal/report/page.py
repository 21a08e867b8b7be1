"""`Report`: results in, one self-contained page out."""

import os
import platform
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from html import escape
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from terracausal.evaluation import OverlapCheck
from terracausal.imagery import Chips
from terracausal.report.bundle import Bundle, sort_results
from terracausal.report.places import describe_places
from terracausal.report.results import describe_result
from terracausal.report.sections import (
    Section,
    describe_average_effects,
    describe_nuisances,
    describe_overlap,
    describe_study,
    describe_targeting,
    rankings,
    tiles,
)
from terracausal.report.statements import PARTS
from terracausal.report.wording import capitalise
from terracausal.study import Study

_PACKAGES = (
    "numpy",
    "scipy",
    "pandas",
    "scikit-learn",
    "statsmodels",
    "econml",
    "torch",
    "geopandas",
    "rasterio",
    "matplotlib",
)


class Report:
    """One page on what a programme did, where and for whom, for readers who did not compute it.

    The order of `results` does not matter, except that the first estimate leads; the page has a
    section for what is there and none for what is not.

    Parameters
    ----------
    results : sequence
        Any results of the library: `Study`, `Chips`, `Nuisances`, `Scores`, `Estimate`,
        `TargetingResult`, pandas Series of conditional effects by unit (these need the Study too),
        and whatever else has ``summary()`` and ``to_dataframe()``. Of the latter, ``plot()`` is
        drawn, and ``notes`` and ``assumptions`` are listed; ``title`` and ``headline()``, a
        sentence in plain words, open the section of a kind that the report does not know.
    title : str, default="terracausal report"
        Title of the page.
    chips : Chips, default=None
        Images of the sites, unless they are in `results`.
    subtitle : str, default=None
        A line below the title.
    notes : sequence of str, default=()
        Caveats, printed at the top.

    Raises
    ------
    TypeError
        An item is of no known kind.
    ValueError
        There is nothing to report, or a Series of effects has no Study.
    AlignmentError
        A Series of effects names units that the study does not have.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> from terracausal.study import Study
    >>> table = pd.DataFrame({"income": [1.0, 2.0, 3.0, 5.0], "trained": [0, 0, 1, 1]})
    >>> study = Study(table, outcome="income", treatment="trained")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Report([study], title="Training").to_html(f"{folder}/report.html")
    >>> path.name
    'report.html'
    """

    def __init__(
        self,
        results: Sequence[Any],
        *,
        title: str = "terracausal report",
        chips: Chips | None = None,
        subtitle: str | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        if isinstance(notes, str):
            raise TypeError(f"`notes` must be a list of sentences; got the text {notes!r}.")
        self.title = title
        self.subtitle = subtitle
        self.notes = tuple(notes)
        self._bundle = sort_results(results, chips)
        self._results = tuple(results)

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """Write the page; an older file stays whole until the new one is complete.

        Parameters
        ----------
        path : path
            Where to write; missing folders are made.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        IsADirectoryError
            `path` is a folder.
        """
        target = Path(path)
        if target.is_dir():
            raise IsADirectoryError(
                f"`path` must be a file; {str(target)!r} is a folder. "
                f"Add a name: {str(target / 'report.html')!r}."
            )
        page = self._render()
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            draft.write_text(page, encoding="utf-8")
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
        return target

    def extended(self, results: Sequence[Any]) -> "Report":
        """Return a page that shows further results as well.

        Parameters
        ----------
        results : sequence
            As for the report.

        Returns
        -------
        Report
        """
        return Report(
            [*self._results, *results],
            title=self.title,
            chips=self._bundle.chips,
            subtitle=self.subtitle,
            notes=self.notes,
        )

    def _repr_html_(self) -> str:
        # a frame keeps the style of the page from the notebook around it
        return (
            f'<iframe srcdoc="{escape(self._render(), quote=True)}" title="{escape(self.title)}" '
            'style="width:100%;height:720px;border:1px solid #dfe5e8"></iframe>'
        )

    def __repr__(self) -> str:
        bundle = self._bundle
        found = [kind for kind, item in vars(bundle).items() if item is not None and item != []]
        return f"Report({self.title!r}: {', '.join(found)})"

    def _render(self) -> str:
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup

        here = files("terracausal.report")
        environment = Environment(
            autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        template = environment.from_string((here / "page.html.j2").read_text(encoding="utf-8"))
        sections = assemble(self._bundle)
        return template.render(
            title=self.title,
            subtitle=self.subtitle,
            notes=[capitalise(note) for note in self.notes],
            tiles=list(tiles(self._bundle)),
            findings=[section.finding for section in sections if section.finding],
            sections=sections,
            style=Markup((here / "style.css").read_text(encoding="utf-8")),  # our own file
            made=describe_making(),
        )


def assemble(bundle: Bundle) -> list[Section]:
    """Return the sections in the order in which a reader asks: what, for whom, where, how sure."""
    parts: dict[str, list[Section]] = {part: [] for part in PARTS}
    if bundle.estimates:
        parts["averages"].append(describe_average_effects(bundle.estimates, bundle.outcome))
    parts["differences"] += [describe_targeting(found) for found in rankings(bundle.targeting)]
    for effects in bundle.effects:
        # sort_results has refused effects without a study
        parts["places"] += describe_places(effects, cast(Study, bundle.study), bundle.chips)
    overlap_is_checked = any(isinstance(result, OverlapCheck) for result in bundle.others)
    if not overlap_is_checked:
        parts["checks"] += [describe_overlap(scores) for scores in bundle.scores]
    for result in bundle.others:
        part, section = describe_result(result)
        parts[part].append(section)
    sections = [section for part in PARTS for section in parts[part]]
    if overlap_is_checked:
        sections += [describe_overlap(scores, checked=True) for scores in bundle.scores]
    if bundle.chips is not None:
        sections.append(_describe_chips(bundle.chips))
    sections += [describe_nuisances(nuisances) for nuisances in bundle.nuisances]
    if bundle.study is not None:
        sections.insert(0, describe_study(bundle.study))
    return say_limits_once(sections)


def say_limits_once(sections: Sequence[Section]) -> list[Section]:
    """Return the sections without assumptions and limits that an earlier one has listed."""
    told: set[str] = set()
    shortened = []
    for section in sections:
        new = tuple(text for text in section.limits if text not in told)
        told.update(new)
        shortened.append(replace(section, limits=new))
    return shortened


def _describe_chips(chips: Chips) -> Section:
    bands = ", ".join(str(band) for band in chips.bands)
    return Section(
        "The images",
        f"Each of the {len(chips.keys):,} places is described by a satellite image with the bands "
        f"{bands}.",
        printed=(("The images in full", chips.describe()),),
    )


def describe_making() -> tuple[tuple[str, str], ...]:
    """Return date and versions, so that the page can be made again."""
    facts = [
        ("Date", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("terracausal", version("terracausal")),
        ("Python", platform.python_version()),
    ]
    for package in _PACKAGES:
        try:
            facts.append((package, version(package)))
        except PackageNotFoundError:
            facts.append((package, "not installed"))
    return tuple(facts)
