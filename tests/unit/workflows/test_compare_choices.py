"""The design grid: what is run, what is kept, what fails, what is refused."""

import os
import random
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from terracausal._foundation.errors import AlignmentError, LeakageError, RoleError
from terracausal.encoders import BandStatisticsEncoder, TrainedEncoder
from terracausal.evaluation import rank_weighted_effect
from terracausal.imagery import Chips
from terracausal.nuisance import cross_fit, doubly_robust_scores
from terracausal.study import Study
from terracausal.workflows import Choices, compare_choices
from terracausal.workflows.comparison import _FOLDS, _LEARNER, _NUISANCES, _ROOT, ComparisonPlan

HERE = runpy.run_path(str(Path(__file__).with_name("conftest.py")), run_name="tiny")
QuickLearner, ConstantLearner = HERE["QuickLearner"], HERE["ConstantLearner"]
make_choices, make_table, make_study = (
    HERE[name] for name in ("make_choices", "make_table", "make_study")
)


def make_chips(n_times=1, size=4, **options):
    rng = np.random.default_rng(3)
    pixels = rng.uniform(size=(HERE["N_SITES"], n_times, 2, size, size))
    return Chips.from_arrays(pixels, sites=range(HERE["N_SITES"]), bands=["red", "nir"], **options)


# -- what is declared ------------------------------------------------------------------------------


def test_the_design_has_each_combination_once():
    encoder = BandStatisticsEncoder()
    choices = make_choices(
        encoder={"statistics": encoder, "table": make_table()},
        data=("tabular", "image", "sequence", "both", "both_sequence"),
        scale=(None, 16, (8, 16)),
    )
    found = choices.combinations()
    assert len(set(found)) == len(found)
    count = pd.Series([c.data for c in found]).value_counts()
    # covariates know no encoder; a table has no scale and no dates
    assert count.to_dict() == {
        "tabular": 1,
        "image": 2 * (3 + 1),
        "both": 2 * (3 + 1),
        "sequence": 2 * 3,
        "both_sequence": 2 * 3,
    }
    assert {c.scale for c in found} == {"none", "whole chip", "16 px", "8+16 px"}
    assert {c.components for c in found} == {"none", "raw", "2 PCs"}


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"data": ()}, ValueError, r"`data` must have at least one level"),
        ({"data": ("image", "image")}, ValueError, r"each once; got 'image', 'image'"),
        ({"data": ("picture",)}, ValueError, r"one of .*; got 'picture'"),
        ({"metric": ("RATE",)}, ValueError, r"got 'RATE'"),
        ({"components": (0,)}, ValueError, r"components\['0 PCs'\]` must be .* got 0"),
        ({"components": {"none": 2}}, ValueError, r"level named 'none'"),
        ({"scale": ((8, 0),)}, ValueError, r"must be an integer of at least 1; got 0"),
        ({"learner": {"forest": "forest"}}, TypeError, r"got str for 'forest'"),
        ({"encoder": {"clip": [1.0]}}, TypeError, r"got list for 'clip'"),
        ({"encoder": {}}, ValueError, r"needs embeddings, and `encoder` is empty"),
        ({"data": ("sequence",)}, ValueError, r"No combination is left"),
        ({"n_seeds": 0}, ValueError, r"`n_seeds` must be an integer of at least 1; got 0"),
        ({"n_folds": 1}, ValueError, r"`n_folds` must be an integer of at least 2; got 1"),
        ({"overlapping": "never"}, ValueError, r"got 'never'"),
    ],
)
def test_bad_declarations(changes, error, told):
    with pytest.raises(error, match=told):
        make_choices(**changes)


def test_a_mapping_is_a_declaration(study):
    given = {"data": ("tabular",), "learner": {"quick": QuickLearner()}, "n_seeds": 1}
    found = compare_choices(study, {**given, "n_folds": 2}, random_state=0)
    assert len(found.to_dataframe()) == 2


# -- what is refused before anything is fitted -----------------------------------------------------


def test_a_study_with_embeddings_is_refused(study):
    with pytest.raises(RoleError, match=r"already 4 joined columns"):
        compare_choices(study.join(make_table(), "modifier"), make_choices(), random_state=0)


def test_covariates_that_are_not_there(study):
    bare = Study(study.table, outcome="y", treatment="w", site="site", propensity=0.5)
    with pytest.raises(RoleError, match=r"data=\['tabular', 'both'\] needs covariates"):
        compare_choices(bare, make_choices(), random_state=0)


def test_a_folder_needs_a_seed(study, tmp_path):
    with pytest.raises(ValueError, match=r"got random_state=None"):
        compare_choices(study, make_choices(), folder=tmp_path)


def test_missing_sites_chips_and_dates(study):
    with pytest.raises(AlignmentError, match=r"1 sites with 3 units have none: 19"):
        compare_choices(study, make_choices(encoder={"one": make_table().iloc[:-1]}))
    encoders = make_choices(encoder={"statistics": BandStatisticsEncoder()}, data=("image",))
    with pytest.raises(ValueError, match=r"'statistics' need chips; got none"):
        compare_choices(study, encoders)
    with pytest.raises(AlignmentError, match=r"2 of 20 sites have none: 18, 19"):
        compare_choices(study, encoders, chips=make_chips().select(range(18)))
    sequence = make_choices(encoder={"s": BandStatisticsEncoder()}, data=("sequence",))
    with pytest.raises(ValueError, match=r"each site has 1 image"):
        compare_choices(study, sequence, chips=make_chips())
    large = make_choices(encoder={"s": BandStatisticsEncoder()}, data=("image",), scale=(8,))
    with pytest.raises(ValueError, match="8"):
        compare_choices(study, large, chips=make_chips())


def test_leaks_are_refused_at_the_door(study):
    late = study.table.assign(day="2010-06-01")
    dated = Study(
        late, outcome="y", treatment="w", site="site", covariates=["x"], treatment_date="day"
    )
    chips = make_chips(times=["2011-01-01"])
    encoders = make_choices(encoder={"s": BandStatisticsEncoder()}, data=("image",))
    with pytest.raises(LeakageError, match=r"from before the treatment; 20 of 20 sites"):
        compare_choices(dated, encoders, chips=chips)
    trained = make_choices(encoder={"cnn": TrainedEncoder()}, data=("image",))
    with pytest.raises(LeakageError, match=r"must not read outcomes; TrainedEncoder does"):
        compare_choices(study, trained, chips=make_chips())


# -- what comes out --------------------------------------------------------------------------------


def test_a_cell_is_what_the_single_calls_give(study):
    choices = make_choices(encoder={"one": make_table()}, components=(None,), data=("both",))
    found = compare_choices(study, choices, random_state=5).to_dataframe()
    root = int(np.random.default_rng(5).integers(2**31 - 1))
    plan = ComparisonPlan(study, choices, {}, root, None)
    folds = plan.folds(2)
    scores = doubly_robust_scores(
        study, cross_fit(study, folds, random_state=plan.seed(2, _NUISANCES))
    )
    joined = study.join(make_table().add_prefix("embedding_"), role="modifier")
    learner = QuickLearner(random_state=plan.seed(2, _LEARNER))
    priority = learner.cross_predict(joined, folds)
    for metric in ("AUTOC", "QINI"):
        rate = rank_weighted_effect(
            scores, priority, metric, n_bootstrap=20, random_state=plan.seed(0, _ROOT)
        )
        row = found.query(f"seed == 2 and metric == '{metric}'").iloc[0]
        assert row["estimate"] == rate.value[0]
        assert row["std_error"] == pytest.approx(rate.std_error[0], rel=1e-12)
        assert row["ratio"] == pytest.approx(rate.ratio[0] / np.sqrt(2), rel=1e-12)
        assert row["p_value"] == pytest.approx(rate.p_value[0], rel=1e-12)
        interval = row[["ci_low", "ci_high"]].to_numpy(dtype=float)
        assert interval == pytest.approx(rate.confint()[0], rel=1e-12)
    assert plan.seed(2, _FOLDS) != plan.seed(1, _FOLDS)


def test_all_components_span_the_columns(study):
    # the fourth direction of four columns is the last; a rotation loses nothing
    from terracausal.workflows.choice_cells import reduce_to_training

    table = make_table()
    train = study.table["site"].to_numpy() < 15
    reduced = reduce_to_training(study, train, table, 9)
    assert reduced.shape == table.shape
    design = np.column_stack([np.ones(len(reduced)), reduced])
    left = table.to_numpy() - design @ np.linalg.lstsq(design, table.to_numpy(), rcond=None)[0]
    assert np.abs(left).max() < 1e-12 * np.abs(table.to_numpy()).max() * len(table)


def test_components_are_learned_on_training_sites(study):
    from terracausal.workflows.choice_cells import reduce_to_training

    table = make_table()
    train = study.table["site"].to_numpy() < 15
    before = reduce_to_training(study, train, table, 2)
    spoiled = table.copy()
    spoiled.iloc[15:] *= 100
    after = reduce_to_training(study, train, spoiled, 2)
    pd.testing.assert_frame_equal(before.iloc[:15], after.iloc[:15], check_exact=True)


def test_the_order_of_rows_and_of_levels_changes_no_number(study):
    choices = make_choices()
    found = compare_choices(study, choices, random_state=0).to_dataframe()
    rows = np.random.default_rng(0).permutation(study.n_units)
    mixed = Study(study.table.iloc[rows], **study.roles.arguments())
    tables = {"two": make_table(3, 2).iloc[::-1], "one": make_table()}
    other = compare_choices(
        mixed, make_choices(encoder=tables, components=(2, None)), random_state=0
    ).to_dataframe()
    by = ["data", "encoder", "components", "metric", "seed"]
    numbers = ["estimate", "std_error", "average_effect"]
    one, two = (t.sort_values(by)[numbers].to_numpy() for t in (found, other))
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-12)


def test_more_workers_change_no_byte(study):
    choices = make_choices(encoder={"one": make_table()}, n_seeds=2)
    one = compare_choices(study, choices, random_state=0)
    # threads stand in for processes, whose start costs more than these cells
    from joblib import parallel_config

    with parallel_config("threading"):
        two = compare_choices(study, choices, random_state=0, n_jobs=2)
    assert one.to_dataframe().to_csv() == two.to_dataframe().to_csv()
    np.testing.assert_array_equal(one.draws, two.draws)


def test_images_sequences_and_scales_are_encoded_once_each(study, monkeypatch, tmp_path):
    calls = []
    fit = BandStatisticsEncoder.fit

    def counted(self, chips, y=None):
        calls.append((chips.n_times, chips.size_px))
        return fit(self, chips, y)

    monkeypatch.setattr(BandStatisticsEncoder, "fit", counted)
    choices = make_choices(
        encoder={"s": BandStatisticsEncoder(quantiles=())},
        data=("image", "sequence", "both"),
        scale=(None, 2),
        components=(None, 1),
        n_seeds=2,
    )
    chips = make_chips(3, times=["2001-01-01", "2002-01-01", "2003-01-01"])
    found = compare_choices(study, choices, chips=chips, folder=tmp_path, random_state=0)
    assert sorted(calls) == sorted([(1, (4, 4)), (1, (2, 2)), (3, (4, 4)), (3, (2, 2))])
    table = found.to_dataframe()
    assert found.n_failed == 0
    assert len(table) == 12 * 2 * 2
    ratio = table.pivot_table(index=["data", "scale", "components"], values="ratio")["ratio"]
    assert ratio.nunique() == len(ratio)
    again = compare_choices(study, choices, chips=chips, folder=tmp_path, random_state=0)
    assert len(calls) == 4  # all cells were kept: nothing is read
    assert again.to_dataframe().to_csv() == table.to_csv()


def test_the_last_image_may_be_of_another_day_at_each_site():
    chips = make_chips(2, times=["2001-01-01", "2002-01-01"])
    last = chips.select(times="last")
    assert last.n_times == 1
    np.testing.assert_array_equal(last[3][0], chips[3][1])
    undated = make_chips(2)
    with pytest.raises(ValueError, match="undated"):
        undated.select(times="last")
    assert make_chips().select(times="last").n_sites == HERE["N_SITES"]


# -- failures --------------------------------------------------------------------------------------


def test_a_failing_cell_is_a_row_with_its_error(study, tmp_path):
    bad = QuickLearner(fails_on="embedding_e3")  # the fourth column of table one
    choices = make_choices(learner={"quick": QuickLearner(), "bad": bad})
    found = compare_choices(study, choices, folder=tmp_path, random_state=0)
    table = found.to_dataframe()
    wrong = table["error"] != ""
    expected = (table["learner"] == "bad") & (table["encoder"] == "one")
    expected &= table["components"] == "raw"
    assert (wrong == expected).all()
    assert table.loc[wrong, ["estimate", "std_error", "ratio", "p_value"]].isna().all().all()
    assert table.loc[wrong, "error"].str.contains("FloatingPointError: no effect without").all()
    assert table.loc[wrong, "error"].str.contains("cross-predicting fold").all()
    assert found.n_failed == 2 * 4
    told = found.summary()
    assert "18 combinations of choices, 4 seeds: 72 cells, 8 failed" in told
    assert "image / one / raw / bad: 4 of 4 seeds, FloatingPointError: no effect" in told
    # the others are ranked, and the regression goes on without them
    assert found.ranking()["ratio"].isna().sum() == 2 * 2
    assert found.regression().n_cells == (72 - 8) * 2


def test_failures_stay_until_they_are_tried_again(study, tmp_path, monkeypatch):
    choices = make_choices(encoder={"one": make_table()}, data=("tabular",), n_seeds=2)
    good = QuickLearner._fit_features

    def broken(self, study, features):
        raise MemoryError("a bad day")

    # the class of the declaration, which is the one that the cells clone
    kind = type(choices.learner["quick"])
    monkeypatch.setattr(kind, "_fit_features", broken)
    first = compare_choices(study, choices, folder=tmp_path, random_state=0)
    assert first.n_failed == 2
    assert "No cell was finished" in first.summary()
    monkeypatch.setattr(kind, "_fit_features", good)
    kept = compare_choices(study, choices, folder=tmp_path, random_state=0)
    assert kept.to_dataframe().to_csv() == first.to_dataframe().to_csv()
    tried = compare_choices(study, choices, folder=tmp_path, random_state=0, retry_failed=True)
    assert tried.n_failed == 0


def test_an_encoder_that_fails_takes_only_its_own_cells(study):
    choices = make_choices(
        encoder={
            "s": BandStatisticsEncoder(normalized_differences=[("nir", "thermal")]),
            "table": make_table(),
        },
        data=("image",),
        components=(None,),
    )
    found = compare_choices(study, choices, chips=make_chips(), random_state=0)
    assert found.failed["encoder"].unique().tolist() == ["s"]
    assert found.failed["error"].str.contains("while encoding s / whole chip / last").all()
    assert found.n_failed == 4


def test_one_effect_for_all_ranks_nothing(study):
    choices = make_choices(data=("tabular",), learner={"constant": ConstantLearner()})
    table = compare_choices(study, choices, random_state=0).to_dataframe()
    assert (table[["estimate", "std_error", "ratio"]] == 0).all().all()
    assert (table["p_value"] == 1).all()


# -- resuming --------------------------------------------------------------------------------------


def test_a_declaration_can_grow(study, tmp_path, monkeypatch):
    small = make_choices(encoder={"one": make_table()}, n_seeds=2)
    first = compare_choices(study, small, folder=tmp_path, random_state=0).to_dataframe()
    n_files = len(list((tmp_path / "cells").iterdir()))
    assert n_files == 5 * 2
    grown = make_choices(n_seeds=3)
    second = compare_choices(study, grown, folder=tmp_path, random_state=0).to_dataframe()
    assert len(list((tmp_path / "cells").iterdir())) == 9 * 3
    same = second.merge(first, on=list(first.columns))
    assert len(same) == len(first)


def test_another_study_seed_or_setting_is_another_cell(study, tmp_path):
    choices = make_choices(data=("tabular",), n_seeds=1)

    def count(study, choices, random_state=0):
        compare_choices(study, choices, folder=tmp_path, random_state=random_state)
        return len(list((tmp_path / "cells").iterdir()))

    assert count(study, choices) == 1
    assert count(study, choices) == 1
    assert count(study, choices, 1) == 2
    assert count(study, make_choices(data=("tabular",), n_seeds=1, n_bootstrap=30)) == 3
    other = make_choices(data=("tabular",), n_seeds=1, learner={"quick": QuickLearner(noise=0.2)})
    assert count(study, other) == 4
    changed = study.table.assign(y=study.table["y"] + 1)
    assert count(Study(changed, **study.roles.arguments()), choices) == 5


def test_a_damaged_record_is_made_again(study, tmp_path):
    choices = make_choices(data=("tabular",), n_seeds=1)
    found = compare_choices(study, choices, folder=tmp_path, random_state=0)
    file = next((tmp_path / "cells").iterdir())
    file.write_bytes(file.read_bytes()[:40])
    again = compare_choices(study, choices, folder=tmp_path, random_state=0)
    assert again.to_dataframe().to_csv() == found.to_dataframe().to_csv()


SCRIPT = """
import runpy, sys
made = runpy.run_path(sys.argv[1], run_name="tiny")
from terracausal.workflows import compare_choices
found = compare_choices(
    made["make_study"](), made["make_choices"](n_seeds=23), folder=sys.argv[2], random_state=0
)
"""


def test_200_cells_killed_at_a_random_moment_resume_with_the_same_table(study, tmp_path):
    choices = make_choices(n_seeds=23)
    assert len(choices.combinations()) * choices.n_seeds == 207
    whole = compare_choices(study, choices, random_state=0)
    moment = random.SystemRandom().randrange(1, 200)
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, Path(__file__).with_name("conftest.py"), tmp_path],
        stderr=subprocess.PIPE,
    )
    cells, deadline = tmp_path / "cells", time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        if cells.is_dir() and len(os.listdir(cells)) >= moment:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.002)
    told = process.communicate()[1]
    assert process.returncode == -signal.SIGKILL, told
    finished = [path for path in cells.iterdir() if path.suffix == ".json"]
    assert moment - 1 <= len(finished) < 207
    before = {path: path.stat().st_mtime_ns for path in finished}
    resumed = compare_choices(study, choices, folder=tmp_path, random_state=0)
    assert resumed.to_dataframe().to_csv() == whole.to_dataframe().to_csv()
    np.testing.assert_array_equal(resumed.draws, whole.draws)
    # and nothing finished was fitted twice
    assert {path: path.stat().st_mtime_ns for path in finished} == before


def test_declaration_and_result_are_told(study):
    found = compare_choices(study, make_choices(), random_state=0)
    assert "no winner" in found.summary() or "winner:" in found.summary()
    assert "<table" in found._repr_html_()
    # scores of a study that is no trial adjust for no image
    known = study.propensity is not None
    assert ("stated propensity" if known else "for no image") in found.assumptions[0]
    assert found.assumptions[0] in found.summary()
    assert isinstance(make_choices(), Choices)
    assert found.plot().get_ylabel() == "RATE ratio, mean over seeds"
    assert len(found.seconds) == len(found.to_dataframe())
