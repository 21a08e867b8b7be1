"""What an analysis knows of the images: chips with an encoder or a network, or a table."""

from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
from sklearn.base import clone

from terracausal._foundation.errors import LeakageError, RoleError
from terracausal.encoders import BandStatisticsEncoder, RandomConvEncoder
from terracausal.encoders.base import ChipEncoder, image_facts
from terracausal.imagery import Chips
from terracausal.study import Study
from terracausal.workflows.steps import Steps

N_FEATURES = 256
N_COMPONENTS = 10


@dataclass(frozen=True)
class ImageSource:
    """Chips or embeddings, and what turns chips into numbers.

    Parameters
    ----------
    chips : Chips, default=None
        Images of the sites.
    table : pandas.DataFrame of shape (n_sites, n_features), default=None
        Embeddings computed elsewhere.
    encoder : ChipEncoder, default=None
        Turns chips into embeddings without looking at treatment or outcome.
    learner : object, default=None
        Predicts nuisances from chips itself: ``cross_fit(study, chips, folds)``.
    n_components : int, default=None
        Components that the nuisances see unless another number is asked for.

    Examples
    --------
    >>> table = pd.DataFrame({"ndvi": [0.1, 0.4]}, index=["a", "b"])
    >>> ImageSource.of(table, None, seed=0).learner is None
    True
    """

    chips: Chips | None = None
    table: pd.DataFrame | None = None
    encoder: ChipEncoder | None = None
    learner: Any = None
    n_components: int | None = None

    @classmethod
    def of(cls, chips: Any, encoder: Any, *, seed: int) -> "ImageSource":
        """Read the arguments of an analysis, or say what is wrong with them.

        Parameters
        ----------
        chips : Chips or pandas.DataFrame
        encoder : ChipEncoder, image learner or None
        seed : int
            Of the default encoder.

        Returns
        -------
        ImageSource
        """
        if isinstance(chips, pd.DataFrame):
            if encoder is not None:
                raise TypeError(
                    "An encoder needs Chips; `chips` is a table of embeddings already, and "
                    f"`encoder` is a {type(encoder).__name__}. Leave one of them out."
                )
            return cls(table=chips)
        if not isinstance(chips, Chips):
            raise TypeError(
                "`chips` must be Chips or a DataFrame of embeddings by site; got "
                f"{type(chips).__name__}. Read images with read_chips or open_chips."
            )
        if encoder is None:
            default = RandomConvEncoder(n_features=N_FEATURES, random_state=seed)
            return cls(chips, encoder=default, n_components=N_COMPONENTS)
        if callable(getattr(encoder, "cross_fit", None)):
            return cls(chips, learner=encoder)
        if not isinstance(encoder, ChipEncoder):
            raise TypeError(
                "`encoder` must be an encoder of chips, or have cross_fit(study, chips, folds); "
                f"got {type(encoder).__name__}."
            )
        if encoder.supervised and not hasattr(encoder, "bands_"):
            raise LeakageError(
                f"{type(encoder).__name__} learns from outcomes, which must happen inside the "
                "folds. Pass an ImageNuisanceLearner, or an encoder fitted on other sites."
            )
        return cls(chips, encoder=encoder)

    def sketch(self, study: Study, later_images: Literal["refuse", "allow"]) -> Study:
        """Return the study with a placeholder for each site: keys, dates and overlaps are checked.

        Parameters
        ----------
        study : Study
        later_images : {"refuse", "allow"}

        Returns
        -------
        Study
            Joined to a column of zeros, or to the given table.

        Raises
        ------
        AlignmentError
            A unit's site has no image.
        LeakageError
            Images are not from before the treatment.
        """
        table = self.table
        if self.chips is not None:
            table = pd.DataFrame({"image placeholder": 0.0}, index=self.chips.keys)
            table.attrs["encoder"] = image_facts(self.chips)
        return study.join(_given(table), role="confounder", later_images=later_images)

    def embeddings(self, steps: Steps) -> pd.DataFrame | None:
        """Return the embeddings, or None where a learner looks at chips itself.

        Parameters
        ----------
        steps : Steps

        Returns
        -------
        pandas.DataFrame of shape (n_sites, n_features) or None
        """
        if self.table is not None:
            return self.table
        if self.encoder is None or self.chips is None:
            return None
        is_fitted = hasattr(self.encoder, "bands_")
        encoder = self.encoder if is_fitted else clone(self.encoder).fit(self.chips)
        return steps.embeddings(encoder, self.chips)

    def statistics(self) -> pd.DataFrame | None:
        """Return mean and standard deviation of each band by site, to look at balance with."""
        if self.chips is None or isinstance(self.encoder, BandStatisticsEncoder):
            return None
        found: pd.DataFrame = BandStatisticsEncoder(quantiles=()).fit_transform(self.chips)
        return found

    def describe(self) -> str:
        """Return in words what the images are turned into numbers with."""
        if self.table is not None:
            return f"{self.table.shape[1]:,} columns of embeddings by site"
        return " ".join(repr(self.learner or self.encoder).split())


def _given(table: pd.DataFrame | None) -> pd.DataFrame:
    if table is None:
        raise RoleError("There are neither chips nor embeddings.")
    return table
