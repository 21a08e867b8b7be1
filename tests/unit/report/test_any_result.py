"""Every result of the library is told in plain words, and any other by what it has itself."""

import re
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

import terracausal as tc
from terracausal.effects import BootstrapEffect, ConformalIntervals
from terracausal.evaluation import (
    ImageHeterogeneityTest,
    SplitSampleInference,
    check_overlap,
    trimmed_units,
)
from terracausal.interpret import PostHocTypes, component_profile, exemplars, map_types
from terracausal.mixtures.choosing import ComponentChoice
from terracausal.report import Report
from terracausal.report.results import describe_result
from terracausal.report.statements import state
from terracausal.report.tables import cell_text, tabulate
from terracausal.study import UnitFrame, wild_cluster_bootstrap


@dataclass(frozen=True)
class SpillOver:
    """A result that the report has never heard of."""

    n_rows: int = 1
    notes: tuple[str, ...] = ("two villages were left out",)
    assumptions: tuple[str, ...] = field(default=("neighbours are known",))

    def summary(self):
        return "spill-over within 2 km\n  all the rest"

    def to_dataframe(self):
        rows = np.arange(self.n_rows, dtype=float)
        return pd.DataFrame(
            {
                "term": [f"ring {k}" for k in range(self.n_rows)],
                "estimate": rows + 1,
                "std_error": 0.5,
                "ci_low": rows,
                "ci_high": rows + 2,
                "n_units": 1200,
            }
        )

    def plot(self, ax=None):
        _, ax = plt.subplots()
        ax.set_yticks([0], ["a name that is much too long for the screen of a telephone"])
        return ax


class ToldByItself(SpillOver):
    def headline(self):
        return "Grants also reach the neighbours."


def text_of(tmp_path, results, **options):
    html = Report(results, **options).to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    return html, re.sub(r"<[^>]+>", " ", html)


# -- results that the report does not know -------------------------------------------------------


def test_an_unknown_result_is_shown_with_all_it_has(tmp_path):
    before = plt.get_fignums()
    html, text = text_of(tmp_path, [SpillOver()])
    assert "Spill over" in html
    assert "Spill-over within 2 km: 1.0 (95% interval 0.0 to 2.0)." in text
    assert "Two villages were left out" in text
    assert "Neighbours are known" in text
    assert "all the rest" in text
    assert "<td>1,200</td>" in html
    assert html.count("<img") == 1
    assert plt.get_fignums() == before


def test_a_result_may_tell_itself_and_is_then_a_finding(tmp_path):
    html, _ = text_of(tmp_path, [ToldByItself()])
    assert html.count("Grants also reach the neighbours.") == 3  # in short, section, picture


def test_long_tables_are_cut_and_say_so(tmp_path):
    _, text = text_of(tmp_path, [SpillOver(n_rows=40)])
    assert "The table shows the first 12 of 40 rows." in text
    assert "ring 11" in text
    assert "ring 12" not in text


def test_classes_and_half_results_are_refused():
    with pytest.raises(TypeError, match="item 0 is a type"):
        Report([SpillOver])
    with pytest.raises(TypeError, match="summary\\(\\) and to_dataframe\\(\\); item 0 is a Figure"):
        Report([plt.Figure()])


def test_a_page_is_extended_by_later_results(world, tmp_path):
    page = Report([world.study, world.estimate], title="Grants", notes=["careful"])
    html, _ = text_of(tmp_path, [world.study])
    extended = page.extended([ToldByItself()]).to_html(tmp_path / "more.html").read_text()
    assert "Grants also reach" not in html
    for text in ("Grants also reach", "<title>Grants</title>", "Careful", "Average effect"):
        assert text in extended


def test_assumptions_are_said_once(world, tmp_path):
    html, _ = text_of(tmp_path, [SpillOver(), SpillOver(n_rows=2)])
    assert html.count("<li>Neighbours are known</li>") == 1


# -- known kinds ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ranked():
    """Scores whose effects are known to rise with `x`, in 60 clusters."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=600)
    table = pd.DataFrame({"score": 0.2 + x + rng.normal(size=600), "cluster": np.arange(600) % 60})
    return tc.Scores.from_dataframe(table), pd.Series(x, name="ndvi")


@pytest.fixture(scope="module")
def confounded():
    study = tc.simulate_study("tutorial", n_sites=300, size_px=4, random_state=0).study
    return study, tc.cross_fit(study, random_state=0)


def test_groups_and_what_they_are_like(ranked):
    scores, x = ranked
    groups = tc.grouped_effects(scores, x, random_state=0)
    told = state(groups)
    assert told.finding
    assert told.part == "differences"
    assert told.sentence.startswith("The groups differ, as predicted")
    assert (
        "against the prediction" in state(tc.grouped_effects(scores, -x, random_state=0)).sentence
    )
    noise = pd.Series(np.random.default_rng(1).normal(size=600), name="rain")
    assert "do not show" in state(tc.grouped_effects(scores, noise, random_state=0)).sentence
    clan = groups.compare(pd.concat([x, noise], axis=1), random_state=0)
    assert state(clan).sentence == (
        "Compared with the least affected, the most affected have more ndvi."
    )


def test_projection_names_the_columns(ranked):
    scores, x = ranked
    columns = pd.DataFrame({"ndvi": x, "slope": -x + np.random.default_rng(2).normal(size=600)})
    told = state(tc.best_linear_projection(scores, columns))
    assert told.title == "What goes with larger effects"
    assert "larger where ndvi is high" in told.sentence
    rain = pd.DataFrame({"rain": np.random.default_rng(3).normal(size=600)})
    assert "None of the 1 columns" in state(tc.best_linear_projection(scores, rain)).sentence


def test_a_rule_is_compared_with_all_and_with_random(ranked):
    scores, x = ranked
    told = state(tc.policy_value(scores, x > 0))
    assert told.part == "policies"
    assert "more than treating as many at random" in told.sentence
    assert "more than treating everybody" in told.sentence
    learned = state(tc.learn_policy(scores, x.to_frame(), depth=1, random_state=0))
    assert learned.sentence.startswith("Do not treat if ndvi ≤")


def test_rankings_are_compared_by_name(ranked):
    scores, x = ranked
    found = tc.compare_priorities(scores, -x, x, names=("maps", "forest"), random_state=0)
    assert state(found).sentence.startswith("Forest ranks units better than maps")


def test_estimates_that_are_no_average_effect_stand_apart(world, tmp_path):
    gap = world.estimate - world.other_estimate
    html, text = text_of(tmp_path, [world.study, world.estimate, gap])
    assert html.count("<h2 id=") == 5  # in short, study, average, difference, making
    assert "In short" in text
    ratio = tc.Estimate(
        np.array([0.5]),
        np.tile([[-0.2], [0.2]], (200, 1)),
        UnitFrame(pd.RangeIndex(400)),
        ("ratio",),
        "ratio of means: average effect",
        "regression",
        scale="log",
    )
    assert "lies apart from 1" in state(ratio).sentence
    assert "raised" not in text_of(tmp_path, [ratio])[1]
    assert ratio.plot().get_xlabel() == "Ratio"


def test_bootstraps(ranked):
    scores, _ = ranked
    told = state(wild_cluster_bootstrap(tc.average_effect(scores), random_state=0))
    assert "With 60 clusters" in told.sentence
    assert "as the usual one does" in told.sentence
    spread = BootstrapEffect(
        np.array([1.0]),
        np.array([[0.5], [1.0], [1.5], [1.2], [0.8]]),
        np.array([[0.99], [1.01]]),
        *(("ate",), "average effect", "aipw", 100, 10),
    )
    assert "Resampling 10 clusters" in state(spread).sentence


def test_mixtures(world):
    mixture = tc.EffectMixture(n_dimensions=2, n_restarts=1, n_bootstrap=0, guide="laplace")
    mixture.design_ = None
    frame = UnitFrame(pd.RangeIndex(2))
    shift = np.array([[-0.1, -0.1], [0.1, 0.1]])
    words = (("component 1", "component 2"), "effect in each component", "mixture")
    mixture.component_effects_ = tc.Estimate(np.array([0.2, 1.0]), shift, frame, *words)
    mixture.shares_ = tc.Estimate(np.array([0.75, 0.25]), shift, frame, *words)
    mixture.posterior_ = pd.DataFrame({"mean": [0.2, 1.0], "sd": 0.1})
    mixture.notes_ = ()
    assert "in 75% of the units" in state(mixture).sentence
    # the number of types was given, so that it is no finding
    assert state(mixture).sentence.startswith("If places are of 2 types")
    assert not state(mixture).finding
    mixture.notes_ = ("component 2 has collapsed",)
    assert state(mixture).sentence.endswith("Component 2 has collapsed.")
    one = {"value": np.array([0.5]), "influence": shift[:, :1], "terms": ("component 1",)}
    mixture.component_effects_ = replace(mixture.component_effects_, **one)
    mixture.shares_ = replace(mixture.shares_, **{**one, "value": np.ones(1)})
    mixture.posterior_ = mixture.posterior_.iloc[:1]
    assert state(mixture).sentence.startswith("With one type of places, the effect is 0.5")


def test_the_number_of_types_is_told_with_its_test():
    table = pd.DataFrame({"n_components": [1, 2]})
    told = state(ComponentChoice(2, table, 0.17))
    assert "2 types of places is the smallest number" in told.sentence
    assert "p = 0.17 of no number predicting better than one" in told.sentence
    assert "do not support types" in state(ComponentChoice(1, table, 0.6)).sentence


def test_tests_of_any_heterogeneity():
    permuted = np.linspace(-1, 1, 99)
    words = ("calibration", "ridge", 400, 80, 80, 1)
    found = ImageHeterogeneityTest(np.array([2.0]), permuted, *words)
    assert state(found).sentence.startswith("Effects do vary with what the images show")
    assert "1.0% of 99" in state(found).sentence
    none = ImageHeterogeneityTest(np.array([0.0]), permuted, *words)
    assert "do not show that effects vary" in state(none).sentence
    terms = ("mean effect", "heterogeneity", "group 1", "group 2", "highest less lowest")
    one = np.ones((4, 5))
    split = SplitSampleInference(
        5 * one, one, np.full(4, np.inf), terms, 2, pd.DataFrame(), (0.0, 0.0), "x", 100
    )
    assert state(split).sentence.startswith("Effects learned on one half of the study do rank")


def test_doses_and_single_units():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"fertiliser": rng.uniform(size=200)})
    table["y"] = 3 * table["fertiliser"] + rng.normal(size=200)
    curve = tc.dose_response(table, treatment="fertiliser", outcome="y", random_state=0)
    told = state(curve)
    assert told.sentence.startswith("A unit more of fertiliser raises the outcome")
    section = describe_result(curve)[1]
    assert section.pictures
    # a curve is shown from end to end, in few digits, and with what it assumes
    ends = [section.table.rows[k][0] for k in (0, -1)]
    assert ends == [cell_text(curve.doses[0]), cell_text(curve.doses[-1])]
    assert section.note == "The table shows 12 of 50 rows."
    assert section.limits[0] == "No unmeasured confounding given the features"
    units = pd.DataFrame({"cate": [0.5], "ci_low": [-1.5], "ci_high": [2.5]})
    single = ConformalIntervals(units, 0.9, (2.0,), (40,), True, "DRLearner()")
    assert "reach 2 to either side, and 0% of them" in state(single).sentence


def test_images_and_types_of_places(world):
    by_site = world.effect_by_site.drop(world.effect_by_site.index[11])
    shown = describe_result(exemplars(by_site, world.chips, n_per_group=2))
    assert shown[0] == "places"
    assert "highest and lowest" in shown[1].sentence
    chance = pd.DataFrame({"dry": [0.9, 0.8, 0.1], "wet": [0.1, 0.2, 0.9]}, index=list("abc"))
    profile = component_profile(chance, pd.DataFrame({"ndvi": [0.1, 0.2, 0.8]}, list("abc")))
    assert state(profile).sentence == (
        "Compared with all places, dry has less ndvi and wet has more ndvi."
    )


def test_maps_of_types_and_groups_by_predicted_effect(world):
    keys = world.chips.keys
    p = np.linspace(0, 1, len(keys))
    chance = pd.DataFrame({"probability_1": p, "probability_2": 1 - p}, index=keys)
    part, section = describe_result(map_types(chance, world.chips))
    assert part == "types"
    assert "component 1 at 20 and component 2 at 20 of 40 places; at 24" in section.sentence
    assert section.pictures
    frame = UnitFrame(pd.RangeIndex(2))
    shift = np.array([[-0.1, -0.1], [0.1, 0.1]])
    words = (("component 1", "component 2"), "average effects of places", "scores")
    types = PostHocTypes()
    types.parts_, types.predicted_effects_ = [], np.array([0.3, 0.9])
    types.component_effects_ = tc.Estimate(np.array([0.2, 1.0]), shift, frame, *words)
    types.shares_ = tc.Estimate(np.array([0.75, 0.25]), shift, frame, *words)
    types.contrast_ = tc.Estimate(np.array([0.8]), shift[:, :1], frame, ("last",), *words[1:])
    told = state(types)
    # two units tell no difference of 0.8 with a standard error of 0.1; less noise does
    assert not told.finding
    types.contrast_ = replace(types.contrast_, influence=0.01 * shift[:, :1])
    assert state(types).finding
    assert told.part == "types"
    assert "1.0 (95% interval" in told.sentence
    assert "in 25% of the units" in told.sentence
    assert "differ by 0.8 (95%" in told.sentence


def test_checks_of_the_adjustment(confounded):
    study, nuisances = confounded
    scores = tc.doubly_robust_scores(study, nuisances, trim=0.1)
    told = {
        type(check).__name__: state(check)
        for check in (
            tc.check_overlap(scores),
            tc.check_propensity(scores),
            tc.check_balance(study, scores),
            trimmed_units(study, nuisances, scores),
            tc.spatial_autocorrelation(scores, random_state=0),
        )
    }
    assert {statement.part for statement in told.values()} == {"checks"}
    assert "the comparison rests on" in told["OverlapCheck"].sentence
    assert "pairs of a treated and a comparison unit" in told["PropensityCheck"].sentence
    assert "of 4 characteristics; after it, in" in told["BalanceCheck"].sentence
    n_out = study.n_units - scores.n_units
    assert f"{n_out} of 300 units were left out" in told["TrimmedUnits"].sentence


def test_thin_overlap_is_a_finding():
    treatment = np.arange(200) % 2
    propensity = np.where(np.arange(200) < 4, 0.001, 0.5)
    table = pd.DataFrame({"score": 1.0, "propensity": propensity, "treatment": treatment})
    told = state(check_overlap(tc.Scores.from_dataframe(table)))
    assert told.finding
    assert "That is thin" in told.sentence


def test_overlap_is_drawn_once(confounded, tmp_path):
    study, nuisances = confounded
    scores = tc.doubly_robust_scores(study, nuisances, trim=0.1)
    html, text = text_of(tmp_path, [study, scores, tc.check_overlap(scores)])
    assert html.count("<img") == 1
    assert "The scores behind the effects" in text


def test_a_map_without_places_is_left_out(confounded, tmp_path):
    study, nuisances = confounded
    blind = study.with_roles(coords=None)
    scores = tc.doubly_robust_scores(blind, nuisances, trim=0.1)
    assert describe_result(trimmed_units(blind, nuisances, scores))[1].pictures == ()


# -- tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "yes"),
        (-1200, "−1,200"),
        (1200.0, "1,200"),
        (12.345, "12.3"),
        (0.0, "0.000"),
        (1e-5, "1.0e−05"),
        (np.inf, "–"),
        (None, "–"),
    ],
)
def test_cells(value, text):
    assert cell_text(value) == text


def test_small_p_values_need_no_digits():
    frame = pd.DataFrame({"column": ["age", "size"], "p_value": [0.0, 0.25]})
    assert [row[1] for row in tabulate(frame)[0].rows] == ["<0.001", "0.250"]


def test_an_index_of_names_becomes_the_first_column():
    frame = pd.DataFrame({"p_value": [0.25]}, index=pd.Index(["age"], name="column"))
    table, _ = tabulate(frame)
    assert table.columns == ("", "p")
    assert table.rows == (("age", "0.250"),)
    assert tabulate(frame.iloc[:0]) == (None, 0)
