"""Small trees that say whom to treat, learned on scores and valued on other folds."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from terracausal._foundation.checks import check_count
from terracausal._foundation.errors import RoleError
from terracausal._foundation.optional import require
from terracausal._foundation.progress import track
from terracausal._foundation.randomness import (
    RandomState,
    canonical_order,
    draw_seed,
    random_generator,
)
from terracausal.effects import EffectOrigin
from terracausal.effects.origin import with_origin
from terracausal.evaluation.policies import policy_value
from terracausal.evaluation.priorities import check_outcome_varies, numeric_columns
from terracausal.nuisance import Scores
from terracausal.study import Estimate
from terracausal.study.folds import assign_folds
from terracausal.study.result import TabularResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class LearnedPolicy(TabularResult):
    """A small tree that says whom to treat, with an honest value.

    Parameters
    ----------
    policy : pandas.Series of shape (n_units,)
        Whom the trees of the other folds treat, 0 or 1; for `policy_value`.
    estimate : Estimate
        The value of that, from `policy_value`.
    tree : econml.policy.PolicyTree
        Learned on all units, for use elsewhere.
    columns : tuple of str
        What the tree looks at.
    origin : EffectOrigin
        Which units trained `tree`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = pd.DataFrame({"ndvi": rng.normal(size=400)})
    >>> scores = Scores.from_dataframe(pd.DataFrame({"score": x["ndvi"] + rng.normal(size=400)}))
    >>> learned = learn_policy(scores, x, depth=1, random_state=0)
    >>> bool(learned.value[0] > 0.2)
    True
    """

    policy: "pd.Series[Any]" = field(repr=False)
    estimate: Estimate = field(repr=False)
    tree: Any = field(repr=False)
    columns: tuple[str, ...]
    origin: EffectOrigin = field(repr=False)

    @property
    def value(self) -> Floats:
        """Values of the rule, as in `policy_value`, of shape (4,)."""
        return self.estimate.value

    @property
    def std_error(self) -> Floats:
        """Their standard errors, of shape (4,)."""
        return self.estimate.std_error

    def predict(self, table: pd.DataFrame) -> "pd.Series[Any]":
        """Say whom the tree learned on all units treats.

        Parameters
        ----------
        table : pandas.DataFrame of shape (n_rows, any)
            With the columns of the tree, as numbers.

        Returns
        -------
        pandas.Series of shape (n_rows,)
            0 or 1. `policy_value` refuses it for units that trained the tree.
        """
        absent = [name for name in self.columns if name not in table.columns]
        if absent:
            raise RoleError(f"The tree looks at {self.columns}; the table lacks {absent}.")
        x = table[list(self.columns)].to_numpy(dtype=np.float64)
        chosen = np.asarray(self.tree.predict(x), dtype=np.float64)
        return with_origin(pd.Series(chosen, index=table.index, name="policy"), self.origin)

    def rules(self) -> list[str]:
        """Return one line per case: the conditions, and whether they mean treatment.

        Questions that change nothing, since both answers lead to the same, are left out.
        """
        nodes = self.tree.tree_
        lines: list[str] = []

        def outcomes(node: int) -> set[bool]:
            left, right = nodes.children_left[node], nodes.children_right[node]
            if left == -1:
                gains = np.ravel(nodes.value[node])
                return {bool(gains[1] > gains[0])}
            return outcomes(left) | outcomes(right)

        def walk(node: int, bounds: dict[tuple[str, str], float]) -> None:
            found = outcomes(node)
            if len(found) == 1:
                told = [f"{name} {sign} {cut:.4g}" for (name, sign), cut in bounds.items()]
                treat = found.pop()
                alone = "treat everybody" if treat else "do not treat anybody"
                word = "treat" if treat else "do not treat"
                lines.append(f"{word} if {' and '.join(told)}" if told else alone)
                return
            name, cut = self.columns[nodes.feature[node]], float(nodes.threshold[node])
            # a later bound on the same side is the tighter one
            walk(nodes.children_left[node], bounds | {(name, "≤"): cut})
            walk(nodes.children_right[node], bounds | {(name, ">"): cut})

        walk(0, {})
        return lines

    def to_dataframe(self, level: float = 0.95) -> pd.DataFrame:
        """Return the values of the rule, one row per comparison.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the intervals.

        Returns
        -------
        pandas.DataFrame
        """
        return self.estimate.to_dataframe(level)

    def summary(self) -> str:
        """Return the rule and its value as text."""
        rules = "\n".join(f"  {line}" for line in self.rules())
        return f"Policy tree, learned on all units\n{rules}\n{self.estimate.summary()}"

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the values of the rule.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        return self.estimate.plot(ax=ax)


def learn_policy(
    scores: Scores,
    columns: "pd.DataFrame | pd.Series[Any] | ArrayLike",
    *,
    depth: int = 2,
    n_folds: int = 5,
    cost: float = 0.0,
    min_leaf_units: int = 20,
    random_state: RandomState = None,
) -> LearnedPolicy:
    """Learn a shallow tree that says whom to treat, and evaluate it on other units.

    Parameters
    ----------
    scores : Scores
        From `doubly_robust_scores`; with repeats trees learn from the mean over them, and the value
        is the median.
    columns : pandas.DataFrame, pandas.Series or array-like of shape (n_units, n_columns)
        What the rule may look at, aligned by unit; each level of a category is an indicator.
    depth : int, default=2
        Questions asked of each unit.
    n_folds : int, default=5
        Folds of whole clusters; a unit is treated by the tree of the other folds.
    cost : float, default=0.0
        Cost of treating one unit, in units of the outcome.
    min_leaf_units : int, default=20
        Fewest units in a leaf.
    random_state : None, int or Generator, default=None
        Seed of the folds.

    Returns
    -------
    LearnedPolicy

    Raises
    ------
    RoleError
        There are fewer clusters than folds.

    Notes
    -----
    Athey & Wager (2021), Econometrica 89(1), with the greedy tree of econml, which can miss rules
    whose first question pays only together with the second. Scores use predictions that were made
    out of fold, in other folds than these.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = pd.DataFrame({"ndvi": rng.normal(size=400)})
    >>> scores = Scores.from_dataframe(pd.DataFrame({"score": x["ndvi"] + rng.normal(size=400)}))
    >>> learned = learn_policy(scores, x, depth=1, random_state=0)
    >>> [line.split("≤")[0] for line in learned.rules()][0]
    'do not treat if ndvi '
    """
    for name, count, least in (
        ("depth", depth, 1), ("n_folds", n_folds, 2), ("min_leaf_units", min_leaf_units, 1)
    ):  # fmt: skip
        check_count(name, count, least)
    check_outcome_varies(scores)
    order = canonical_order(scores.units)
    x = numeric_columns(scores, columns, drop_first=False)
    runs = [run.score.loc[scores.units] for run in (scores, *scores.repeats)]
    values, gain = x.to_numpy()[order], np.mean(runs, axis=0)[order] - cost
    weight, rng = scores.weight[order], random_generator(random_state)
    labels = _cluster_folds(scores, order, n_folds, rng)
    policies = require("econml.policy", needed_by="learn_policy")
    settings = {"max_depth": depth, "min_samples_leaf": min_leaf_units, "honest": False}
    seed = draw_seed(rng)
    chosen = np.zeros(scores.n_units)

    def grow(own: NDArray[np.bool_]) -> Any:
        tree = policies.PolicyTree(random_state=seed, **settings)
        rewards = np.column_stack([np.zeros(own.sum()), gain[own]])
        return tree.fit(values[own], rewards, sample_weight=weight[own])

    for fold in track(range(n_folds), "learning policy trees", n_folds):
        chosen[labels == fold] = grow(labels != fold).predict(values[labels == fold])
    index = scores.units[order]
    words = f"policy tree of depth {depth}"
    policy = with_origin(
        pd.Series(chosen, index=index, name="policy").loc[scores.units],
        EffectOrigin(words, folds=pd.Series(labels, index=index)),
    )
    everyone = grow(np.ones(scores.n_units, dtype=bool))
    return LearnedPolicy(
        policy,
        replace(policy_value(scores, policy, cost=cost), method=f"{words}, on other folds"),
        everyone,
        tuple(x.columns),
        EffectOrigin(words, trained_on=scores.units),
    )


def _cluster_folds(
    scores: Scores, order: NDArray[np.intp], n_folds: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return folds of whole clusters for the units in canonical order."""
    codes = np.arange(scores.n_units)
    if scores.frame.cluster is not None:
        codes = pd.factorize(scores.frame.cluster.iloc[order])[0].astype(np.int64)
    n_clusters = int(codes.max()) + 1
    if n_clusters < n_folds:
        raise RoleError(
            f"{n_folds} folds need at least as many clusters; the scores have {n_clusters}. Use "
            "fewer folds."
        )
    arm = np.arange(scores.n_units) % 2
    if "treatment" in scores.table and scores.table["treatment"].nunique() == 2:
        arm = scores.table["treatment"].to_numpy()[order].astype(np.int64)
    return assign_folds(codes, arm, n_folds, rng)
