"""A study together with its images."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from terracausal.study.study import Study

if TYPE_CHECKING:
    from terracausal.imagery import Chips


@dataclass(frozen=True, eq=False)
class StudyData:
    """A study, the chips of its sites, and what a reader must know about both.

    Parameters
    ----------
    study : Study
        Units and their roles.
    chips : Chips
        One chip for each site.
    name : str
        Name of the data set or of the simulated world.
    notes : tuple of str, default=()
        What was dropped, decoded or repaired.

    Examples
    --------
    >>> import terracausal as tc
    >>> data = tc.simulate_study(n_sites=20, random_state=0)
    >>> data.study.n_sites, len(data.chips)
    (20, 20)
    """

    study: Study
    chips: "Chips"
    name: str
    notes: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return the study, the images and the notes as text."""
        parts = [self.name, self.study.describe(), self.chips.describe(), *self.notes]
        return "\n\n".join(parts)

    def __str__(self) -> str:
        return self.describe()
