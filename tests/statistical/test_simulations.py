"""The archives in simulations/ still run, resume, and say what their tables say."""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

pytestmark = pytest.mark.statistical

FOLDER = Path(__file__).parents[2] / "simulations"
CLAIMS = (
    "rate_size", "clustered_coverage", "spatial_coverage", "dose_response", "label_smoothing",
    "out_of_bag",
)  # fmt: skip
# estimators whose rates are claimed to be nominal
NOMINAL = {
    "rate_size": {
        "covariate",
        "covariate of the site",
        "DR-learner within folds",
        "DR-learner with a forest, within folds",
    },
    "clustered_coverage": {
        "difference_in_means cluster",
        "difference_in_means hc",  # nominal for 55 %
        "aipw cluster",
        "aipw hc",
    },
    "spatial_coverage": {"conley 40 km", "conley 80 km"},
    "dose_response": {"default", "clustered"},
    "label_smoothing": {"hajek, fitted propensity", "aipw, fitted propensity"},
    "out_of_bag": {"RATE, out of fold", "calibration, out of fold"},
}
# and those that are shown not to be
WRONG = {
    "rate_size": set(),
    "clustered_coverage": set(),
    "spatial_coverage": {"hc", "conley 20 km"},
    "dose_response": set(),
    "label_smoothing": {"hajek, true propensity, smoothed"},
    "out_of_bag": {"RATE, out of bag", "calibration, out of bag"},
}
HARNESS = runpy.run_path(str(FOLDER / "harness.py"))


def call(claim, script, *arguments):
    done = subprocess.run(
        [sys.executable, str(FOLDER / claim / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def committed(claim):
    return pd.read_csv(FOLDER / claim / "results.csv")


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_run_resumes_and_is_tabulated(claim, tmp_path):
    out = tmp_path / "results.csv"
    assert "1 were added" in call(claim, "run.py", "--replications", 1, "--out", out)
    first = out.read_text()
    told = call(claim, "run.py", "--replications", 2, "--out", out)
    assert told.startswith("1 replications were there, 1 were added")
    assert out.read_text().startswith(first)
    rows, archive = pd.read_csv(out), committed(claim)
    assert list(rows.columns) == list(HARNESS["COLUMNS"])
    same = ["replication", "seed", "setting", "estimator", "term", "truth"]
    assert rows[same].equals(archive.loc[archive["replication"] < 2, same])
    table = call(claim, "tables.py", "--results", out)
    assert len(table.splitlines()) == 2 + len(rows) / 2


@pytest.mark.parametrize("claim", CLAIMS)
def test_the_archive_is_complete_and_of_this_code(claim, tmp_path):
    out = tmp_path / "results.csv"
    shutil.copy(FOLDER / claim / "results.csv", out)
    n_replications = committed(claim)["replication"].nunique()
    told = call(claim, "run.py", "--replications", n_replications, "--out", out)
    assert told.startswith(f"{n_replications} replications were there, 0 were added")


def test_rows_of_another_entropy_are_refused(tmp_path):
    out = tmp_path / "results.csv"
    pd.DataFrame({"replication": [0], "seed": [7]}).to_csv(out, index=False)
    with pytest.raises(ValueError, match=r"Replication 0 of .* must have the seed 11; it has 7"):
        HARNESS["check_rows"](out, [11])


@pytest.mark.parametrize("claim", CLAIMS)
def test_the_committed_table_follows_from_the_archive(claim):
    table = call(claim, "tables.py")
    assert table == (FOLDER / claim / "table.md").read_text()
    assert table.strip() in (FOLDER / claim / "README.md").read_text()
    lines = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    verdicts = {}
    for cells in lines:
        verdicts.setdefault(cells[1], []).append(" ".join(cells[3:]))
    assert NOMINAL[claim] | WRONG[claim] <= set(verdicts)
    for estimator in NOMINAL[claim]:
        texts = verdicts[estimator]
        assert all("inside" in text and "outside" not in text for text in texts), estimator
    for estimator in WRONG[claim]:
        assert all("outside" in text for text in verdicts[estimator]), estimator


def test_smoothed_labels_bias_a_perfect_fit_and_ours_does_not():
    rows = committed("label_smoothing")
    error = (rows["estimate"] - rows["truth"]).groupby(rows["estimator"])
    mean, spread = error.mean(), error.std() / error.count() ** 0.5
    # 4.4 Monte Carlo errors: a false alarm in 100,000
    assert abs(mean["hajek, true propensity, smoothed"] - 0.34) < 4.4 * spread.max()
    assert mean["hajek, true propensity, smoothed"] > 4.4 * spread.max()
    for method in ("hajek", "aipw"):
        name = f"{method}, fitted propensity"
        assert abs(mean[name]) < 4.4 * spread[name]


def test_the_derived_interval_holds_all_but_the_false_alarms():
    from scipy import stats

    low, high = HARNESS["derived_interval"](500, 0.05)
    binomial = stats.binom(500, 0.05)
    missed = binomial.cdf(round(500 * low) - 1) + binomial.sf(round(500 * high))
    assert missed <= HARNESS["FALSE_ALARM"]
    # and not one number wider on either side
    assert binomial.cdf(round(500 * low)) > HARNESS["FALSE_ALARM"] / 2
    assert binomial.sf(round(500 * high) - 1) > HARNESS["FALSE_ALARM"] / 2
