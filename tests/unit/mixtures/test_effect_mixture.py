"""The mixture of effects: identities, recovery, bad input, the Uganda trial."""

import re
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score, roc_auc_score

from terracausal._foundation.errors import AlignmentError, RoleError
from terracausal.datasets import load_dataset
from terracausal.encoders import BandStatisticsEncoder
from terracausal.mixtures import EffectMixture, MixtureNetworks, MixtureWarning, effect_mixture
from terracausal.mixtures.fitting import component_answers, find_mode, make_density
from terracausal.mixtures.networks import refuse_other_encoder
from terracausal.mixtures.preparing import prepare
from terracausal.mixtures.results import find_problems
from terracausal.nuisance import Nuisances
from terracausal.study import Study

QUICK = EffectMixture(
    2, n_dimensions=2, guide="laplace", n_restarts=3, n_bootstrap=10, random_state=0
)


@pytest.fixture(scope="module")
def small(two_types):
    """A study of 60 sites with 4 units, its embeddings, and a mixture of it."""
    study, embeddings, _ = two_types(60, 4, effects=(0.0, 4.0), random_state=1)
    return study, embeddings, clone(QUICK).fit(study)


def changed(study, embeddings, table):
    return Study(
        table,
        outcome="outcome",
        treatment="treated",
        site="site",
        covariates=["age"],
        propensity=0.5,
    ).join(embeddings, role="modifier")


# -- identities --------------------------------------------------------------------------------


def test_order_of_rows_scale_and_shift_of_the_outcome(small, rng):
    study, embeddings, mixture = small
    table = study.table.drop(columns=embeddings.columns).sample(frac=1, random_state=3)
    table["outcome"] = 3 + 2 * table["outcome"]
    other = clone(QUICK).fit(changed(study, embeddings.iloc[::-1, ::-1], table))
    np.testing.assert_allclose(
        other.component_effects_.value, 2 * mixture.component_effects_.value, rtol=1e-6
    )
    np.testing.assert_allclose(
        other.component_effects_.std_error, 2 * mixture.component_effects_.std_error, rtol=1e-4
    )
    np.testing.assert_allclose(other.shares_.value, mixture.shares_.value, rtol=1e-6)
    np.testing.assert_allclose(
        other.predict_proba(embeddings), mixture.predict_proba(embeddings), atol=1e-4
    )


def test_same_seed_same_numbers_and_nothing_global_changes(small):
    import pyro

    study, embeddings, _ = small
    pyro.clear_param_store()
    pyro.param("mine", torch.tensor(1.0))
    torch_before, numpy_before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    threads = torch.get_num_threads()
    searched = clone(QUICK).set_params(guide="full_rank")
    first, second = clone(searched).fit(study), clone(searched).fit(study)
    pd.testing.assert_frame_equal(first.predict_proba(embeddings), second.predict_proba(embeddings))
    pd.testing.assert_frame_equal(first.to_dataframe(), second.to_dataframe())
    assert list(pyro.get_param_store().keys()) == ["mine"]
    assert torch.equal(torch.random.get_rng_state(), torch_before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    assert torch.get_num_threads() == threads
    pyro.clear_param_store()


def test_the_parts_add_up(small):
    study, embeddings, mixture = small
    effects, shares = mixture.component_effects_, mixture.shares_
    assert effects.terms == ("component 1", "component 2")
    assert effects.value[0] < effects.value[1]
    assert shares.value.sum() == pytest.approx(1)
    implied = mixture.implied_effect_.value[0]
    assert implied == pytest.approx((effects.value * shares.value).sum())
    chance = mixture.predict_proba(embeddings)
    np.testing.assert_allclose(chance[["probability_1", "probability_2"]].sum(axis=1), 1)
    assert (chance[["sd_1", "sd_2"]] > 0).all(axis=None)
    assert (mixture.predict(embeddings) - 1 == (chance["probability_2"] > 0.5)).all()
    # the standard errors are those of the refits, times one factor for degrees of freedom
    names = ["effect_1", "effect_2", "implied_effect", "share_1", "share_2"]
    refits = mixture.refits_[names].to_numpy()
    low, high = np.quantile(refits, [0.05, 0.95], axis=0, method="normal_unbiased")
    told = (effects, mixture.implied_effect_, shares)
    factor = np.concatenate([x.std_error for x in told]) * 2 * stats.norm.ppf(0.95) / (high - low)
    np.testing.assert_allclose(factor, factor[0], rtol=1e-6)
    # 60 sites; 18 parameters, less the 3 of two types' logits that priors alone tell
    assert 1 < factor[0] < np.sqrt(60 / (60 - 15))
    assert mixture.memberships_.index.equals(pd.Index(sorted(study.sites.unique()), name="site"))


def test_it_is_shown(small):
    _, _, mixture = small
    text = mixture.summary()
    for words in ("component 2", "implied", "by AIPW", "prior", "clustered (60 clusters", "refits"):
        assert words in text
    assert "component 1" in mixture._repr_html_()
    assert [t.get_text()[:11] for t in mixture.plot().get_yticklabels()] == [
        "component 1",
        "component 2",
    ]
    assert "EffectMixture" in str(clone(QUICK))


@pytest.mark.parametrize("guide", ["full_rank", "low_rank", "mean_field"])
def test_other_guides_find_the_same_effects(small, guide):
    study, _, mixture = small
    other = clone(QUICK).set_params(guide=guide, n_bootstrap=0).fit(study)
    np.testing.assert_allclose(
        other.component_effects_.value, mixture.component_effects_.value, rtol=1e-6
    )
    # means of 500 draws, within 5 standard errors of their difference: 5 SD sqrt(2 / 500)
    gap = np.abs(other.posterior_["mean"] - mixture.posterior_["mean"])
    assert (gap < 0.32 * mixture.posterior_["sd"]).all()
    assert other.refits_ is None


def test_two_types_are_recovered(two_types):
    study, embeddings, kind = two_types(random_state=0)
    mixture = EffectMixture(2, n_dimensions=4, n_bootstrap=60, random_state=0).fit(study)
    effects = mixture.component_effects_
    # 0.1 % on either side, by the estimate's own error
    assert (np.abs(effects.value - [0, 2]) < stats.norm.ppf(0.999) * effects.std_error).all()
    assert (effects.std_error < 0.2).all()
    chance = mixture.predict_proba(embeddings)["probability_2"]
    oracle = 1 / (1 + np.exp(-2 * embeddings["e0"]))
    assert roc_auc_score(kind, chance) > roc_auc_score(kind, oracle) - 0.03
    assert mixture.converged_
    assert mixture.notes_ == ()


@pytest.mark.parametrize("family", ["bernoulli", "left_censored", "student_t"])
def test_other_families_imply_the_average_effect_in_units_of_the_outcome(two_types, family):
    study, embeddings, _ = two_types(80, 4, effects=(1.0, 1.0), random_state=4)
    table = study.table.drop(columns=embeddings.columns)
    if family == "bernoulli":
        table["outcome"] = (table["outcome"] > 0.5).astype(float)
    if family == "left_censored":
        table["outcome"] = table["outcome"].clip(lower=0.0)
    one = clone(QUICK).set_params(n_components=1, family=family, n_bootstrap=0)
    mixture = one.fit(changed(study, embeddings, table))
    treated = table["treated"] == 1
    simple = table["outcome"][treated].mean() - table["outcome"][~treated].mean()
    error = np.sqrt(sum(table["outcome"][a].var() / a.sum() for a in (treated, ~treated)))
    assert abs(mixture.component_effects_.value[0] - simple) < stats.norm.ppf(0.9995) * error
    assert 0.5 * error < mixture.component_effects_.std_error[0] < 1.5 * error
    assert (mixture.predict_proba(embeddings)["probability_1"] == 1).all()
    assert "the effect does not differ" in mixture.summary()


def test_clusters_of_several_sites_and_weights(two_types):
    # four dimensions: with two, the baseline misses a column, and the score test may say so
    full = clone(QUICK).set_params(n_dimensions=4)
    study, embeddings, _ = two_types(80, 4, effects=(0.0, 4.0), random_state=4)
    table = study.table.drop(columns=embeddings.columns)
    table["district"] = table["site"].str[:3]
    table["weight"] = 2.5
    plain = changed(study, embeddings, table)
    first = clone(full).fit(plain)
    second = clone(full).fit(plain.with_roles(cluster="district", weight="weight"))
    # equal weights change nothing; wider clusters change the standard errors alone
    np.testing.assert_allclose(
        second.component_effects_.value, first.component_effects_.value, rtol=1e-9
    )
    assert second.component_effects_.n_clusters == 8
    assert "clustered (8 clusters" in second.summary()


# -- other likelihoods and searches -------------------------------------------------------------


def test_effects_linear_in_covariates(two_types):
    study, embeddings, _ = two_types(120, 5, effects=(0.0, 3.0), random_state=5)
    table = study.table.drop(columns=embeddings.columns)
    table["outcome"] += 0.8 * table["age"] * table["treated"]
    study = changed(study, embeddings, table)
    bent = clone(QUICK).set_params(effect="covariates", n_bootstrap=0).fit(study)
    # a slope is the effect at one more year of age, averaged over types by their share
    slopes = np.polyfit(table["age"], bent.unit_effects_["effect"], 1)
    # SE of a slope: noise of the outcome over the root of the units of an arm, and noise of types
    error = np.sqrt(4 / len(table) + bent.unit_effects_["effect"].var() / len(table))
    assert abs(slopes[0] - 0.8) < stats.norm.ppf(0.9995) * error
    assert (
        np.abs(bent.component_effects_.value - [0, 3]) < 4 * bent.component_effects_.std_error
    ).all()
    assert "linear in covariates" in bent.summary()
    by_image = clone(QUICK).set_params(effect="image", n_bootstrap=0).fit(study)
    assert by_image.unit_effects_["effect"].groupby(study.sites).std().max() > 0
    none = changed(study, embeddings, table).with_roles(covariates=())
    with pytest.raises(RoleError, match=r"effect='covariates' lets effects differ .*; it has none"):
        clone(QUICK).set_params(effect="covariates").fit(none)


@pytest.mark.parametrize("adjustment", ["baseline", "orthogonal"])
def test_the_orthogonal_likelihood_adjusts_for_what_the_nuisances_know(two_types, adjustment):
    study, embeddings, _ = two_types(150, 6, random_state=6)
    table = study.table.drop(columns=embeddings.columns)
    rng = np.random.default_rng(1)
    # what a linear baseline cannot see moves outcome and treatment
    bend = np.minimum(table["age"] ** 2, 3.0) - 1
    chance = 1 / (1 + np.exp(-0.8 * bend))
    table["treated"] = (rng.random(len(table)) < chance).astype(int)
    effect = 2.0 * (embeddings["e0"] > 0).loc[table["site"]].to_numpy()
    table["outcome"] = 1.5 * bend + effect * table["treated"] + rng.normal(size=len(table))
    seen = Study(table, outcome="outcome", treatment="treated", site="site", covariates=["age"])
    seen = seen.join(embeddings, role="modifier")
    control = 1.5 * bend
    known = pd.DataFrame(
        {
            "propensity": chance,
            "outcome_control": control,
            "outcome_treated": control + effect,
            "fold": 0,
        }
    )
    nuisances = Nuisances(known, True, {}, pd.DataFrame())
    quick = clone(QUICK).set_params(n_dimensions=4, adjustment=adjustment, n_bootstrap=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MixtureWarning)
        mixture = quick.fit(seen, nuisances=nuisances)
    away = mixture.implied_effect_.value[0] - effect.mean()
    error = mixture.implied_effect_.std_error[0]
    assert (abs(away) < stats.norm.ppf(0.9995) * error) == (adjustment == "orthogonal")
    told = any("joint standard errors apart" in note for note in mixture.notes_)
    assert told == (adjustment == "baseline")


def test_the_orthogonal_likelihood_keeps_types_apart_where_most_are_treated(two_types):
    study, embeddings, kind = two_types(150, 7, random_state=3)
    table = study.table.drop(columns=embeddings.columns)
    rng = np.random.default_rng(3)
    effect = 2.0 * kind.loc[table["site"]].to_numpy()
    table["outcome"] -= effect * table["treated"]
    table["treated"] = (rng.random(len(table)) < 0.8).astype(int)
    table["outcome"] += effect * table["treated"]
    roles = {"outcome": "outcome", "treatment": "treated", "site": "site", "propensity": 0.8}
    seen = Study(table, **roles, covariates=["age"]).join(embeddings, role="modifier")
    mixture = clone(QUICK).set_params(n_dimensions=4, adjustment="orthogonal", n_bootstrap=0)
    mixture.fit(seen)
    found, share = mixture.component_effects_, mixture.shares_
    # 3 normal errors; 1e-5. Residuals of one type would hold a part of the other types' effects
    widest = stats.norm.isf(1e-5 / 6)
    assert (np.abs(found.value - [0, 2]) < widest * found.std_error).all()
    assert abs(share.value[1] - kind.mean()) < widest * share.std_error[1]
    assert found.std_error.max() < 0.2
    types = mixture.memberships_.to_numpy().argmax(axis=1)
    assert (types == kind.to_numpy()).mean() > 0.9


def test_minibatches_find_the_same_posterior(small):
    study, _, mixture = small
    batches = clone(QUICK).set_params(guide="mean_field", batch_size=20, n_bootstrap=0).fit(study)
    # 500 draws leave 0.32 SD (see above); noisy steps somewhat more
    gap = np.abs(batches.posterior_["mean"] - mixture.posterior_["mean"])
    assert (gap < 0.5 * mixture.posterior_["sd"]).all()
    assert batches.diagnostics_["gradient_ratio"] > 0
    assert mixture.diagnostics_["pareto_shape"] < 0.7


def test_another_seed_sorts_sites_alike(small):
    study, embeddings, mixture = small
    other = clone(QUICK).set_params(random_state=9).fit(study)
    pair = mixture.predict(embeddings), other.predict(embeddings)
    assert adjusted_rand_score(*pair) > 0.9
    assert other.restart_agreement_ > 0.5


def test_unit_effects_of_one_component_are_its_effect(small):
    study, _, _ = small
    one = clone(QUICK).set_params(n_components=1, n_bootstrap=0).fit(study)
    found = one.unit_effects_
    assert found.index.equals(study.units)
    draws = one.posterior_
    # the first 200 of 500 draws
    np.testing.assert_allclose(
        found["effect"], draws["mean"].iloc[0], atol=5 * draws["sd"].iloc[0] / 14
    )
    np.testing.assert_allclose(found["sd"], draws["sd"].iloc[0], rtol=0.3)
    assert np.ptp(found.to_numpy(), axis=0).max() < 1e-6
    assert "which may be all that the data support" in one.summary()


def test_outcomes_of_another_family_are_told_by_the_checks(two_types):
    study, embeddings, _ = two_types(80, 5, effects=(1.0, 1.0), random_state=7)
    one = clone(QUICK).set_params(n_components=1, n_bootstrap=0)
    right = one.fit(study).predictive_checks_
    # 10 checks, each with 100 replicates: none is beyond all of them but in 1 of 5 studies
    assert (right["p_value"] < 0.01).sum() <= 2
    table = study.table.drop(columns=embeddings.columns)
    table["outcome"] = np.exp(table["outcome"])
    skewed = changed(study, embeddings, table)
    wrong = clone(one).fit(skewed)
    rare = wrong.predictive_checks_.query("p_value < 0.01")
    assert {"skewness", "largest"} <= set(rare["statistic"])
    assert "misfit      " in wrong.summary()
    logs = clone(one).set_params(family="log_normal").fit(skewed)
    assert (logs.predictive_checks_["p_value"] < 0.01).sum() <= 2


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ({"n_components": 7}, r"60 sites support at most 6, got n_components=7"),
        ({"n_components": 0}, r"`n_components` must be an integer of at least 1; got 0"),
        ({"family": "gamma"}, r"`family` must be one of .*; got 'gamma'"),
        ({"family": "bernoulli"}, r"takes outcomes 0 and 1; 'outcome' has 240 values"),
        ({"family": "left_censored"}, r"only 0.4% of the units of 'outcome' sit at"),
        ({"family": "zero_inflated"}, r"only 0.4% of the units of 'outcome' sit at"),
        (
            {"family": "log_normal"},
            r"takes positive outcomes; \d+ of 240 values of 'outcome' are not",
        ),
        ({"family": "poisson"}, r"takes counts 0, 1, 2, …; 240 of 240 values of 'outcome'"),
        ({"family": "negative_binomial"}, r"family='negative_binomial' takes counts"),
        (
            {"adjustment": "orthogonal", "family": "bernoulli"},
            r"'student_t'; got family='bernoulli'",
        ),
        ({"effect": "linear"}, r"`effect` must be one of .*; got 'linear'"),
        ({"batch_size": 0}, r"`batch_size` must be an integer of at least 1; got 0"),
        ({"n_bootstrap": 3}, r"`n_bootstrap` must be 0 or at least 10, .*; got 3"),
        ({"learning_rate": -1.0}, r"`learning_rate` must be .*; got -1"),
    ],
)
def test_settings_that_cannot_be(small, setting, match):
    with pytest.raises(ValueError, match=match):
        clone(QUICK).set_params(**setting).fit(small[0])


@pytest.fixture
def untrained(monkeypatch):
    """Nothing may be fitted, not even predictions of outcome and treatment."""

    def refuse(*_, **__):
        raise AssertionError("something was fitted before the input was checked")

    for name in ("cross_fit", "train_on_images", "prepare"):
        monkeypatch.setattr(effect_mixture, name, refuse)


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(
    ("setting", "error", "match"),
    [
        ({"n_components": 7}, ValueError, r"60 sites support at most 6"),
        ({"family": "poisson"}, ValueError, r"takes counts 0, 1, 2, …; 240 of 240"),
        ({"networks": "mlp"}, TypeError, r"`networks` must be MixtureNetworks; got str"),
        ({"networks": MixtureNetworks("cnn")}, RoleError, r"'cnn' reads chips, .*; got no chips"),
    ],
)
def test_input_is_checked_before_anything_is_fitted(small, setting, error, match):
    study, embeddings, _ = small
    with pytest.raises(error, match=match):
        clone(QUICK).set_params(**setting).fit(study)
    with pytest.raises(TypeError, match=r"`study` must be a Study; got DataFrame"):
        clone(QUICK).fit(study.table)
    with pytest.raises(TypeError, match=r"`chips` must be Chips; got DataFrame\. Embeddings are"):
        clone(QUICK).fit(study, embeddings)
    lonely = study.with_roles(covariates=())
    with pytest.raises(RoleError, match=r"effect='covariates' .*; it has none"):
        clone(QUICK).set_params(effect="covariates").fit(lonely)


def test_units_without_weight_do_not_matter(small):
    study, embeddings, _ = small
    table = study.table.drop(columns=embeddings.columns)
    table["weight"] = np.where(np.arange(len(table)) % 4 == 1, 0.0, 1.0)
    roles = {"outcome": "outcome", "treatment": "treated", "site": "site", "propensity": 0.5}

    def density_of(rows):
        seen = Study(rows, **roles, weight="weight").join(embeddings, role="modifier")
        design, found = prepare(seen, QUICK)
        return make_density(design, found)

    every, some = density_of(table), density_of(table[table["weight"] > 0])
    point = torch.full((1, every.n_parameters), 0.3, dtype=torch.float64)
    np.testing.assert_allclose(every.log_sites(point), some.log_sites(point))


def test_a_constant_outcome_is_refused(small):
    study, embeddings, _ = small
    table = study.table.drop(columns=embeddings.columns).assign(outcome=2.5)
    with pytest.raises(ValueError, match=r"all 240 units have the value 2.5"):
        clone(QUICK).fit(changed(study, embeddings, table))


def test_constant_embeddings_are_refused(small):
    study, embeddings, _ = small
    table = study.table.drop(columns=embeddings.columns)
    with pytest.raises(ValueError, match=r"all 60 sites have the same 4 values"):
        clone(QUICK).fit(changed(study, embeddings * 0 + 1, table))


def test_a_study_without_embeddings_is_refused(small):
    study, embeddings, _ = small
    table = study.table.drop(columns=embeddings.columns)
    bare = Study(table, outcome="outcome", treatment="treated", site="site")
    with pytest.raises(RoleError, match=r"60 sites and 0 joined embedding columns"):
        clone(QUICK).fit(bare)


def test_other_embeddings_are_refused_at_prediction(small):
    _, embeddings, mixture = small
    with pytest.raises(AlignmentError, match=r"lacks 1 of them: 'e2'"):
        mixture.predict_proba(embeddings.drop(columns="e2"))
    with pytest.raises(ValueError, match=r"1 sites have NaN or infinite values: 's001'"):
        mixture.predict(embeddings.assign(e1=embeddings["e1"].drop("s001")))


def test_embeddings_of_another_encoder_are_refused(small):
    study, embeddings, _ = small
    facts = {"class": "RandomConvEncoder", "bands": ["red"], "parameters": {"random_state": 0}}
    told = embeddings.copy()
    told.attrs["encoder"] = {**facts, "last_image": "2000-01-01"}
    table = study.table.drop(columns=embeddings.columns)
    mixture = clone(QUICK).fit(changed(study, told, table))
    told.attrs["encoder"] = {**facts, "last_image": "2010-01-01"}
    assert mixture.predict(told).notna().all()
    told.attrs["encoder"] = {**facts, "parameters": {"random_state": 1}}
    with pytest.raises(
        AlignmentError, match=r"differ in 'parameters' .*: \{'random_state': 1\}, not"
    ):
        mixture.predict_proba(told)
    with pytest.raises(TypeError, match=r"fitted to embeddings; .* by site, not str"):
        mixture.predict_proba("chips")


def test_a_collapsed_component_is_told(two_types):
    study, _, _ = two_types(60, 20, random_state=1)
    design, table = prepare(study, QUICK)
    density = make_density(design, table)
    mode = find_mode(density, 2, np.random.default_rng(0))
    # all units of one site, and of no other
    point = density.part(mode.parameters[None], "membership")
    point[0, 1] = 0.0
    point[0, 1, 0] = -4.3
    answers = component_answers(density, mode.parameters)
    shares = SimpleNamespace(value=answers[3:])
    one = SimpleNamespace(value=answers[2:3], std_error=np.ones(1))
    apart = SimpleNamespace(value=np.array([0.5, 0.6]))
    told = SimpleNamespace(effects=apart, shares=shares, implied=one, average=one)
    notes = find_problems(density, mode, table, told)
    assert len(notes) == 1
    assert re.search(
        r"component 2 (holds 1\.\d% of the units: it has collapsed|has about)", notes[0]
    )


def test_a_component_of_few_sites_is_told(two_types):
    study, _, _ = two_types(60, 20, random_state=1)
    design, table = prepare(study, QUICK)
    density = make_density(design, table)
    mode = find_mode(density, 2, np.random.default_rng(0))
    one = SimpleNamespace(value=np.zeros(1), std_error=np.ones(1))
    effects = SimpleNamespace(value=np.array([0.5, 0.6]))
    notes = []
    # from as many sites to about one in twelve: a hundred units, but few sites
    for intercept in (0.0, -2.5):
        density.part(mode.parameters[None], "membership")[0] = 0.0
        density.part(mode.parameters[None], "membership")[0, 1, 0] = intercept
        density.part(mode.parameters[None], "effect")[0] = 0.3  # outcomes tell nothing
        shares = SimpleNamespace(value=component_answers(density, mode.parameters)[3:])
        answers = SimpleNamespace(effects=effects, shares=shares, implied=one, average=one)
        notes.append(find_problems(density, mode, table, answers))
    assert notes[0] == ()
    assert re.fullmatch(r"component 2 holds about 4\.\d sites, fewer than 10: .*", notes[1][0])


def test_two_components_that_are_one_are_told(small):
    study, _, mixture = small
    design, table = prepare(study, QUICK)
    density = make_density(design, table)
    mode = find_mode(density, 2, np.random.default_rng(0))
    one = SimpleNamespace(value=np.zeros(1), std_error=np.ones(1))
    for gap, told in ((1e-4, True), (1e-2, False)):
        effects = SimpleNamespace(value=np.array([0.5664, 0.5664 + gap]))
        answers = SimpleNamespace(effects=effects, shares=mixture.shares_, implied=one, average=one)
        notes = find_problems(density, mode, table, answers)
        assert any("components 1 and 2 have the same effect, 0.56" in n for n in notes) == told


def test_embeddings_of_several_encoders_are_told_apart():
    one, two = {"class": "A", "filters": 1}, {"class": "B", "filters": 2}
    refuse_other_encoder({**two, "last_image": None}, (one, two))
    refuse_other_encoder({}, (one, two))
    refuse_other_encoder({"class": "C"}, (one, {}))
    with pytest.raises(AlignmentError, match=r"differ in 'filters' \(filters: 3, not 2\)"):
        refuse_other_encoder({"class": "B", "filters": 3}, (one, two))


def test_a_bound_that_is_not_finite_names_step_and_learning_rate(small):
    with pytest.raises(FloatingPointError, match=r"at step \d+ with learning rate 1e\+08"):
        clone(QUICK).set_params(guide="full_rank", learning_rate=1e8).fit(small[0])


def test_a_component_with_one_arm_is_flagged(two_types):
    study, embeddings, _ = two_types(60, 4, random_state=1)
    embeddings["e0"] = np.where(np.arange(60) < 12, 10.0, -0.5)
    table = study.table[["outcome", "treated", "age", "site"]]
    apart = table["site"] < "s012"
    table.loc[apart, "treated"] = 1
    table.loc[apart, "outcome"] += 8
    with pytest.warns(MixtureWarning, match=r"Component 2 .*: its effect is not identified"):
        mixture = clone(QUICK).fit(changed(study, embeddings, table))
    assert any("not identified" in note for note in mixture.notes_)
    assert "WARNING" in mixture.summary()


# -- the Uganda trial --------------------------------------------------------------------------


def test_uganda_implies_the_average_effect(data_root):
    data = load_dataset("uganda_yop", root=data_root)
    embeddings = BandStatisticsEncoder().fit_transform(data.chips)
    study = data.study.join(embeddings, role="modifier")
    mixture = EffectMixture(2, guide="laplace", n_restarts=4, n_bootstrap=20, random_state=0).fit(
        study
    )
    implied, average = mixture.implied_effect_, mixture.average_effect_
    # 0.7415 is the difference in means of the original tutorial
    assert abs(implied.value[0] - 0.7415) < implied.std_error[0]
    assert abs(implied.value[0] - average.value[0]) < average.std_error[0]
    assert mixture.converged_
