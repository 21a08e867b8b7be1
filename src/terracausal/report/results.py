"""Any result as a section: its sentence, its own picture, its table and its summary."""

import sys
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from terracausal._foundation.errors import RoleError
from terracausal.report import check_statements, difference_statements  # noqa: F401 - they register
from terracausal.report.pictures import Picture, render_figure, styled
from terracausal.report.sections import Section, limits_of
from terracausal.report.statements import Statement, state
from terracausal.report.tables import is_grid, tabulate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LABEL_WIDTH = 26


def describe_result(result: Any) -> tuple[str, Section]:
    """Return the part of the page on which a result stands, and its section.

    Parameters
    ----------
    result : object
        With `summary()` and `to_dataframe()`, and perhaps `plot()`, `notes` and `assumptions`.

    Returns
    -------
    part : str
    section : Section
    """
    told = state(result)
    frame = result.to_dataframe()
    table, left_out = tabulate(frame)
    n_shown = len(frame) - left_out
    which = "" if is_grid(frame) else "the first "
    note = f"The table shows {which}{n_shown} of {len(frame):,} rows." if left_out else ""
    section = Section(
        told.title,
        told.sentence,
        pictures=_draw(result, told),
        table=table,
        note=note,
        printed=(("In full", result.summary()),),
        limits=limits_of([result, getattr(result, "estimate", None)]),
        finding=told.sentence if told.finding else "",
    )
    return told.part, section


def _draw(result: Any, told: Statement) -> tuple[Picture, ...]:
    """Return the result's own plot, at the height that it chose; none where there is none."""
    plot = getattr(result, "plot", None)
    if not callable(plot):
        return ()
    with styled():
        try:
            drawn = plot()
        except RoleError:  # such as a map without coordinates
            return ()
        figure = np.ravel(np.asarray(drawn, dtype=object))[0].figure
        _wrap_labels(figure)
        picture = render_figure(figure, alt=f"Figure: {told.title}. {told.sentence}")
    _release(figure)
    return (picture,)


def _wrap_labels(figure: "Figure") -> None:
    """Break long names of rows, so that a phone leaves room for what is drawn."""
    for ax in figure.axes:
        labels = [label.get_text() for label in ax.get_yticklabels()]
        if any(len(label) > _LABEL_WIDTH for label in labels):
            ax.set_yticks(
                ax.get_yticks(), [fill(text, _LABEL_WIDTH) for text in labels], parse_math=False
            )


def _release(figure: "Figure") -> None:
    """Let pyplot forget a figure that a result made with it."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close(figure)
