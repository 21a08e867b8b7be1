"""Draw arrays and tables on matplotlib axes; nothing here estimates anything.

Every function takes plain arrays or a tidy table and returns the Axes it drew on. Without `ax`
it draws on a figure of its own that pyplot does not know, so loops leave no figure open; show it
with ``ax.figure`` in a notebook or ``ax.figure.savefig(...)``.
"""

from terracausal.plotting.chips import plot_chips, stretch_chips
from terracausal.plotting.effect_map import plot_effect_map
from terracausal.plotting.intervals import plot_intervals
from terracausal.plotting.overlap import plot_overlap
from terracausal.plotting.targeting import plot_targeting_curve

__all__ = [
    "plot_chips",
    "plot_effect_map",
    "plot_intervals",
    "plot_overlap",
    "plot_targeting_curve",
    "stretch_chips",
]
