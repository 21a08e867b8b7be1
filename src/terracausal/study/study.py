"""The study: one row per unit, bound to its causal roles."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.checks import (
    check_choice,
    check_count,
    check_positive,
    check_same_index,
    check_unique,
)
from terracausal._foundation.errors import AlignmentError, LeakageError, RoleError, list_some
from terracausal._foundation.randomness import RandomState, canonical_order, random_generator
from terracausal.study import roles as check_role
from terracausal.study.description import describe_study
from terracausal.study.features import CovariateEncoding, EffectFeatures, FeatureSchema, Task
from terracausal.study.folds import Folds, assign_folds, buffered_units, check_arms, fold_table
from terracausal.study.geography import linked_groups, spatial_blocks
from terracausal.study.grouping import dependent_groups, overlap_labels
from terracausal.study.image_dates import late_images
from terracausal.study.leakage import (
    refuse_functions_of_treatment,
    refuse_supervised_embeddings,
)
from terracausal.study.units import UnitFrame, one_cluster

EmbeddingRole = Literal["confounder", "modifier", "both"]


@dataclass(frozen=True)
class _Joined:
    """Embeddings by site, their causal role, and groups of sites whose chips overlap."""

    table: pd.DataFrame
    role: str
    overlapping: tuple[tuple[Any, ...], ...] = ()


class Study:
    """One row per unit, with the causal role of each column; immutable.

    Parameters
    ----------
    table : pandas.DataFrame of shape (n_units, any)
        One row per unit. Its index holds the unit keys and must be unique.
    outcome : str
        Column of numbers. Units without an outcome are dropped, and counted by arm in `describe`;
        `nuisance.weight_for_missing_outcomes` lets the others stand for them.
    treatment : str
        Column of 0 and 1 (or booleans).
    site : str, default=None
        Column with the key of the site, whose chip describes the unit's place.
    covariates : sequence of str, default=()
        Columns fixed before treatment: numbers or categories. Missing values are imputed and
        flagged, see `CovariateEncoding`.
    cluster : str, default=None
        Column with the sampling cluster. None: units that share a site are a cluster.
    strata : str, default=None
        Column with the stratum within which treatment was randomised.
    weight : str, default=None
        Column of non-negative unit weights.
    propensity : float or str, default=None
        Known probability of treatment: a number or a column. None: it is estimated.
    coords : pair of str, default=None
        Columns with longitude and latitude in degrees (EPSG:4326).
    treatment_date : str, default=None
        A date, or a column of dates; images from later dates are refused.

    Raises
    ------
    RoleError
        A column is missing, doubled in roles, constant or of the wrong kind.
    LeakageError
        A covariate is a function of the treatment.

    Notes
    -----
    Units that share a site or a cluster are treated as dependent everywhere: folds never split
    them, and standard errors are clustered by default. Where sites and clusters cross, the groups
    are the smallest ones that split neither.

    Examples
    --------
    >>> table = pd.DataFrame(
    ...     {"village": [1, 1, 2, 2], "paid": [0, 1, 1, 0], "income": [1.0, 2, 4, 3]}
    ... )
    >>> study = Study(table, outcome="income", treatment="paid", site="village")
    >>> study.n_units, study.n_sites, study.n_clusters
    (4, 2, 2)
    """

    def __init__(  # noqa: PLR0913 - one argument per causal role, all but two optional
        self,
        table: pd.DataFrame,
        *,
        outcome: str,
        treatment: str,
        site: str | None = None,
        covariates: Sequence[str] = (),
        cluster: str | None = None,
        strata: str | None = None,
        weight: str | None = None,
        propensity: float | str | None = None,
        coords: tuple[str, str] | None = None,
        treatment_date: Any = None,
    ) -> None:
        columns = check_role.Columns(
            outcome=outcome,
            treatment=treatment,
            site=site,
            covariates=tuple([covariates] if isinstance(covariates, str) else covariates),
            cluster=cluster,
            strata=strata,
            weight=weight,
            propensity=propensity,
            coords=None if coords is None else (coords[0], coords[1]),
            treatment_date=treatment_date,
        )
        check_role.check_columns(table, columns)
        check_unique("The index of the table (the unit keys)", table.index)
        self._columns = columns
        self._joined: tuple[_Joined, ...] = ()
        self._dropped: tuple[str, ...] = ()
        observed = check_role.check_outcome(table[outcome])
        if not observed.all():
            self._dropped = (check_role.tell_missing_outcomes(observed, table[treatment]),)
        self._table = table.loc[observed].copy()
        check_role.check_treatment(self._table[treatment])
        check_role.check_keys_and_numbers(self._table, columns)
        self._clusters = dependent_groups(self._table, columns)
        self._strata: tuple[Any, ...] = ()
        if columns.strata is not None:
            check_role.check_strata(self._table[columns.strata], self._table[treatment])
            self._strata = tuple(sorted(self._table[columns.strata].unique(), key=str))
        self._encoding = CovariateEncoding.learn(self._table[list(columns.covariates)])
        refuse_functions_of_treatment(
            self._table[list(columns.covariates)], _floats(self.treatment), self._group_codes
        )

    # -- what is in it --------------------------------------------------------------------------

    @property
    def roles(self) -> "check_role.Columns":
        """Which column plays which role."""
        return self._columns

    @property
    def units(self) -> pd.Index:
        """Unit keys, in the order of the table."""
        return self._table.index

    @property
    def n_units(self) -> int:
        """Number of units with an outcome."""
        return len(self._table)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was dropped, weighted or allowed, counted; scores and estimates pass it on."""
        return self._dropped

    @property
    def n_sites(self) -> int:
        """Number of distinct sites; 0 where units have no site."""
        return 0 if self.sites is None else int(self.sites.nunique())

    @property
    def n_clusters(self) -> int | None:
        """Number of clusters, or None where no two units depend on each other."""
        return None if self.clusters is None else int(self.clusters.nunique())

    @property
    def table(self) -> pd.DataFrame:
        """A copy of the units' table, with the joined embeddings as further columns."""
        parts = [self._table, *(self._by_unit(joined) for joined in self._joined)]
        return pd.concat(parts, axis=1)

    @property
    def outcome(self) -> "pd.Series[float]":
        """Outcome of each unit."""
        return self._table[self._columns.outcome].astype("float64").rename("outcome")

    @property
    def treatment(self) -> "pd.Series[float]":
        """Treatment of each unit, 0 or 1."""
        return self._table[self._columns.treatment].astype("float64").rename("treatment")

    @property
    def weight(self) -> "pd.Series[float] | None":
        """Weight of each unit, or None."""
        name = self._columns.weight
        return None if name is None else self._table[name].astype("float64").rename("weight")

    @property
    def sites(self) -> "pd.Series[Any] | None":
        """Site key of each unit, or None."""
        name = self._columns.site
        return None if name is None else self._table[name].rename("site")

    @property
    def strata(self) -> "pd.Series[Any] | None":
        """Stratum of each unit, or None."""
        name = self._columns.strata
        return None if name is None else self._table[name].rename("stratum")

    @property
    def propensity(self) -> "pd.Series[float] | None":
        """Known probability of treatment of each unit, or None where it must be estimated."""
        given = self._columns.propensity
        if given is None:
            return None
        values = self._table[given] if isinstance(given, str) else float(given)
        return pd.Series(values, index=self.units, dtype="float64", name="propensity")

    @property
    def coordinates(self) -> pd.DataFrame | None:
        """Columns lon and lat of each unit in degrees, or None."""
        names = self._columns.coords
        if names is None:
            return None
        return self._table[list(names)].astype("float64").set_axis(["lon", "lat"], axis=1)

    @property
    def clusters(self) -> "pd.Series[Any] | None":
        """Label of the group of dependent units, or None where every unit is on its own."""
        return None if self._clusters is None else self._clusters.copy()

    @property
    def _group_codes(self) -> NDArray[np.int64]:
        if self._clusters is None:
            return np.arange(self.n_units)
        return pd.factorize(self._clusters)[0].astype(np.int64)

    @property
    def frame(self) -> UnitFrame:
        """The units, their clusters and coordinates, as an `Estimate` carries them."""
        return UnitFrame(self.units, self.clusters, self.coordinates, self.treatment)

    # -- joining and choosing -------------------------------------------------------------------

    def join(
        self,
        embeddings: pd.DataFrame,
        role: EmbeddingRole = "both",
        *,
        missing: Literal["error", "drop"] = "error",
        later_images: Literal["refuse", "allow"] = "refuse",
    ) -> "Study":
        """Return a study that also has the embeddings of each unit's site.

        Parameters
        ----------
        embeddings : pandas.DataFrame of shape (n_sites, n_features)
            One row per site, indexed by site key; any order, and more sites than the study has.
        role : {"confounder", "modifier", "both"}, default="both"
            Confounders enter propensity, outcome and effect; modifiers enter outcome and effect.
        missing : {"error", "drop"}, default="error"
            What to do with units whose site has no embedding; dropped units are counted in
            `describe`.
        later_images : {"refuse", "allow"}, default="refuse"
            What to do, if the study has a `treatment_date`, with embeddings of images that are
            undated or not from before it; allowed ones are named in `describe`.

        Returns
        -------
        Study
        """
        check_choice("later_images", later_images, ("refuse", "allow"))
        check_choice("role", role, ("confounder", "modifier", "both"))
        check_choice("missing", missing, ("error", "drop"))
        sites = self.sites
        if sites is None:
            raise RoleError(
                "Embeddings are joined by site key, but the study has no `site` column. "
                "Name it: Study(..., site='village')."
            )
        check_unique("The index of the embeddings (the site keys)", embeddings.index)
        embeddings = embeddings.rename(columns=str)
        self._check_embedding_columns(embeddings)
        refuse_supervised_embeddings(dict(embeddings.attrs), sites[sites.isin(embeddings.index)])
        late = self._late_images(embeddings, sites)
        if late is not None and later_images == "refuse":
            raise LeakageError(
                f"Images must be from before the treatment; {late}. Read earlier images "
                "(before=...), or pass later_images='allow', which the report then says."
            )
        absent = ~sites.isin(embeddings.index)
        base, notes = self, list(self._dropped)
        if late is not None:
            notes.append(f"allowed although not known to be from before the treatment: {late}")
        if absent.any():
            lost = pd.Index(sites[absent].unique())
            if missing == "error" or absent.all():
                raise AlignmentError(
                    check_role.tell_absent_sites(sites, absent, lost, embeddings.index)
                )
            notes.append(
                f"{int(absent.sum())} units at {len(lost)} sites without an embedding were dropped "
                f"({list_some(lost)})"
            )
            base = self.subset(~absent.to_numpy())
        kept = embeddings.loc[embeddings.index.isin(sites)]
        groups = embeddings.attrs.get("encoder", {}).get("overlapping", ())
        overlapping = tuple(tuple(group) for group in groups)
        study = base._copy()
        study._joined = (*base._joined, _Joined(kept.astype("float64"), role, overlapping))
        study._dropped = tuple(notes)
        return study

    def _check_embedding_columns(self, embeddings: pd.DataFrame) -> None:
        taken = {*self.table.columns, *self.schema.names}
        clash = [name for name in embeddings.columns if name in taken]
        if clash:
            raise RoleError(
                f"{len(clash)} embedding columns bear names that the study already has: "
                f"{list_some(clash)}. Rename them, for example with add_prefix."
            )
        textual = [
            name
            for name, dtype in embeddings.dtypes.items()
            if not pd.api.types.is_numeric_dtype(dtype)
        ]
        if textual:
            raise RoleError(
                f"Embeddings must be numbers; {list_some(textual)} are not. Encode or drop them."
            )
        bad = ~np.isfinite(embeddings.to_numpy(dtype=np.float64)).all(axis=1)
        if bad.any():
            raise ValueError(
                f"Embeddings must be finite; {int(bad.sum())} sites have NaN or infinite values: "
                f"{list_some(embeddings.index[bad])}. Drop these sites or repair their chips."
            )

    def _late_images(self, embeddings: pd.DataFrame, sites: "pd.Series[Any]") -> str | None:
        """Say which images are not from before the treatment, where both dates are known."""
        given = self._columns.treatment_date
        if given is None:
            return None
        dates = self._table[given] if given in self._table.columns else given
        return late_images(dict(embeddings.attrs), sites, pd.Series(dates, index=self.units))

    def _by_unit(self, joined: _Joined) -> pd.DataFrame:
        return joined.table.reindex(self.sites).set_axis(self.units, axis=0)

    @property
    def embedding_columns(self) -> tuple[str, ...]:
        """Names of all joined columns."""
        return tuple(str(name) for joined in self._joined for name in joined.table.columns)

    def features(self, task: Task, *, use: EffectFeatures = "all") -> pd.DataFrame:
        """Return the numbers that a learner of the given task may see.

        Parameters
        ----------
        task : {"propensity", "outcome", "effect"}
            Propensities see covariates, strata and confounders; outcomes also modifiers; effects
            see covariates and all embeddings.
        use : {"all", "embeddings", "covariates"}, default="all"
            Which of these to keep.

        Returns
        -------
        pandas.DataFrame of shape (n_units, n_features)
        """
        return self.encode(self.table, task, use=use)

    def encode(
        self, table: pd.DataFrame, task: Task, *, use: EffectFeatures = "all"
    ) -> pd.DataFrame:
        """Return the features of any table with the study's columns, encoded as in the study.

        Parameters
        ----------
        table : pandas.DataFrame of shape (n_rows, any)
            Covariates and embedding columns by name; the order of columns is irrelevant.
        task : {"propensity", "outcome", "effect"}
            As in `features`.
        use : {"all", "embeddings", "covariates"}, default="all"
            Which of these to keep.

        Returns
        -------
        pandas.DataFrame of shape (n_rows, n_features)
        """
        return self.schema.encode(table, task, use=use)

    @property
    def schema(self) -> FeatureSchema:
        """What turns a table with the study's columns into features, without the study's rows."""
        return FeatureSchema(
            self._encoding,
            self._columns.strata,
            self._strata,
            tuple((joined.role, tuple(map(str, joined.table.columns))) for joined in self._joined),
        )

    def subset(self, mask: "NDArray[np.bool_] | pd.Series[bool]") -> "Study":
        """Return the units of a mask, with the same roles and the same encoding.

        Parameters
        ----------
        mask : ndarray or pandas.Series of bool, of shape (n_units,)
            An array is in the order of the table; a Series is aligned by unit.

        Returns
        -------
        Study
        """
        if isinstance(mask, pd.Series):
            check_same_index("mask", mask.index, self.units)
            mask = mask.loc[self.units]
        study = self._rows(np.flatnonzero(np.asarray(mask, dtype=bool)))
        check_role.check_treatment(study._table[self._columns.treatment])
        return study

    def canonical(self) -> "Study":
        """Return the study with its rows sorted by unit key, the order in which learners fit."""
        return self._rows(canonical_order(self.units))

    def _rows(self, positions: NDArray[np.intp]) -> "Study":
        """Return some rows; labels of clusters and codes of strata stay those of the study."""
        study = self._copy()
        study._table = self._table.iloc[positions]
        if self._clusters is not None:
            study._clusters = self._clusters.iloc[positions]
        return study

    def with_roles(self, **roles: Any) -> "Study":
        """Return the study with other columns in some roles; it is checked anew.

        Parameters
        ----------
        **roles : str or None
            Any argument of `Study` but the table.

        Returns
        -------
        Study

        Examples
        --------
        >>> table = pd.DataFrame({"y": [1.0, 2, 3, 4], "w": [0, 1, 0, 1], "area": list("aabb")})
        >>> study = Study(table, outcome="y", treatment="w").with_roles(strata="area")
        >>> study.strata.tolist()
        ['a', 'a', 'b', 'b']
        """
        if self._joined and roles.get("site", self._columns.site) != self._columns.site:
            raise RoleError(
                f"The embeddings were joined by the site {self._columns.site!r}, which cannot "
                f"change to {roles['site']!r} afterwards. Set the site first, then join."
            )
        columns = replace(self._columns, **roles)
        study = Study(self._table, **columns.arguments())
        study._joined = self._joined
        study._dropped = (*self._dropped, *study._dropped)
        return study

    def _copy(self) -> "Study":
        study = object.__new__(Study)
        study.__dict__.update(self.__dict__)
        return study

    # -- folds ----------------------------------------------------------------------------------

    def folds(
        self,
        n_folds: int = 5,
        block_m: float | None = None,
        buffer_m: float | None = None,
        random_state: RandomState = None,
        *,
        overlapping: Literal["together", "apart"] = "together",
    ) -> Folds:
        """Return folds of whole clusters, with the arms spread evenly.

        Parameters
        ----------
        n_folds : int, default=5
            Number of folds.
        block_m : float, default=None
            Side of square blocks in metres that are kept together as well.
        buffer_m : float, default=None
            Units within this many metres of a fold's held-out units do not train for it.
        random_state : None, int or Generator, default=None
            Seed; the same seed gives the same folds whatever the order of rows.
        overlapping : {"together", "apart"}, default="together"
            Whether joined sites whose chips share pixels are held out together. "apart" lets a
            learner see part of a held-out image, which flatters it.

        Returns
        -------
        Folds
        """
        check_choice("overlapping", overlapping, ("together", "apart"))
        check_count("n_folds", n_folds, minimum=2)
        ordered = self.canonical()
        group, lon_lat = ordered._group_codes, None
        if overlapping == "together":
            group = linked_groups(
                group,
                *overlap_labels(ordered.sites, [joined.overlapping for joined in self._joined]),
            )
        if block_m is not None or buffer_m is not None:
            if ordered.coordinates is None:
                raise RoleError(
                    "Spatial folds need coordinates; the study has none. "
                    "Name them: Study(..., coords=('lon', 'lat'))."
                )
            lon_lat = ordered.coordinates.to_numpy()
        if block_m is not None and lon_lat is not None:
            check_positive("block_m", block_m)
            group = linked_groups(group, spatial_blocks(lon_lat[:, 0], lon_lat[:, 1], block_m))
        if group.max() + 1 < n_folds:
            told = (
                "Folds hold whole clusters, so there must be at least as many clusters as folds; "
                f"found {int(group.max()) + 1} clusters for {n_folds} folds. Use fewer folds"
            )
            if group.max() == 0:
                told = one_cluster(self.n_units)
            raise RoleError(
                f"{told}{' or smaller blocks' if block_m is not None else ''}"
                f"{self._overlap_hint() if overlapping == 'together' else ''}."
            )
        treatment = ordered.treatment.to_numpy().astype(np.int64)
        labels = assign_folds(group, treatment, n_folds, random_generator(random_state))
        table, buffered = fold_table(labels, treatment, group), None
        if buffer_m is not None and lon_lat is not None:
            check_positive("buffer_m", buffer_m)
            buffered = buffered_units(lon_lat, labels, n_folds, buffer_m)
            table["n_buffered"] = buffered.sum(axis=0)
        drawn: dict[str, Any] = {"n_folds": n_folds, "block_m": block_m, "buffer_m": buffer_m}
        drawn["overlapping"] = overlapping
        folds = Folds(pd.Series(labels, index=ordered.units, name="fold"), table, buffered, drawn)
        check_arms(folds, treatment)
        back, near = ordered.units.get_indexer(self.units), buffered
        near = None if near is None else near[back]
        return replace(folds, labels=folds.labels.iloc[back], buffered=near)

    def _overlap_hint(self) -> str:
        n_sites = len({site for group in self.overlapping_sites for site in group})
        if not n_sites:
            return ""
        return (
            f". The chips of {n_sites} sites overlap and are kept together: use smaller chips, or "
            "overlapping='apart'"
        )

    # -- telling --------------------------------------------------------------------------------

    def describe(self) -> str:
        """Return the design of the study as text: counts, dependence, roles and missing data."""
        return describe_study(self, self._encoding, self._dropped)

    @property
    def overlapping_sites(self) -> tuple[tuple[Any, ...], ...]:
        """Groups of joined sites whose chips share pixels, which folds keep together."""
        return tuple(dict.fromkeys(g for joined in self._joined for g in joined.overlapping))

    @property
    def joined_roles(self) -> tuple[tuple[str, int], ...]:
        """Role and number of columns of each joined table of embeddings."""
        return tuple((joined.role, joined.table.shape[1]) for joined in self._joined)

    @property
    def joined_encoders(self) -> tuple[dict[str, Any], ...]:
        """What each joined table of embeddings says of the encoder that made it."""
        return tuple(dict(joined.table.attrs.get("encoder", {})) for joined in self._joined)

    def __repr__(self) -> str:
        clusters = "" if self.n_clusters is None else f", {self.n_clusters} clusters"
        return f"Study({self.n_units} units, {self.n_sites} sites{clusters})"

    def __str__(self) -> str:
        return self.describe()

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(self.describe())}</pre>"


def _floats(values: "pd.Series[float]") -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)
