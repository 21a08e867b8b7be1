"""Draw arrays and tables on matplotlib axes; nothing here estimates anything.

Every function takes plain arrays or a tidy table and returns the Axes it drew on. Without `ax`
it draws on a figure of its own that pyplot does not know, so loops leave no figure open; show it
with ``ax.figure`` in a notebook or ``ax.figure.savefig(...)``.
"""

from terracausal.plotting.autocorrelation import plot_autocorrelation
from terracausal.plotting.balance import plot_balance
from terracausal.plotting.calibration import plot_calibration
from terracausal.plotting.chips import pick_bands, plot_chip_rows, plot_chips, stretch_chips
from terracausal.plotting.dose_response import plot_dose_response
from terracausal.plotting.effect_map import plot_effect_map
from terracausal.plotting.embeddings import (
    plot_cloud,
    plot_explained_variance,
    plot_filter_rows,
)
from terracausal.plotting.grouped_effects import plot_grouped_effects
from terracausal.plotting.intervals import plot_intervals
from terracausal.plotting.overlap import plot_overlap
from terracausal.plotting.permutations import plot_permutations
from terracausal.plotting.specification_curve import plot_specification_curve
from terracausal.plotting.targeted_map import plot_targeted_map
from terracausal.plotting.targeting import plot_targeting_curve
from terracausal.plotting.trimmed_map import plot_trimmed_map
from terracausal.plotting.type_map import plot_type_map
from terracausal.plotting.unit_intervals import plot_unit_intervals

__all__ = [
    "pick_bands",
    "plot_autocorrelation",
    "plot_balance",
    "plot_calibration",
    "plot_chip_rows",
    "plot_chips",
    "plot_cloud",
    "plot_dose_response",
    "plot_effect_map",
    "plot_explained_variance",
    "plot_filter_rows",
    "plot_grouped_effects",
    "plot_intervals",
    "plot_overlap",
    "plot_permutations",
    "plot_specification_curve",
    "plot_targeted_map",
    "plot_targeting_curve",
    "plot_trimmed_map",
    "plot_type_map",
    "plot_unit_intervals",
    "stretch_chips",
]
