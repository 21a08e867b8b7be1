"""`terracausal run` with kind = "choices"."""

import re

import pandas as pd
import pytest
from typer.testing import CliRunner

import terracausal as tc
from terracausal.cli import app
from terracausal.workflows.configuration import ChoicesSection
from terracausal.workflows.running import template

runner = CliRunner()
ANALYSIS = """
[data]
units = "units.csv"
unit = "unit"
chips = "chips.zarr"
[study]
outcome = "outcome"
treatment = "treatment"
site = "site"
covariates = ["age"]
propensity = 0.5
[encoders.means]
name = "BandStatisticsEncoder"
quantiles = []
moments = ["mean"]
[analysis]
kind = "choices"
data = ["tabular", "image"]
components = ["raw", 2]
scale = ["whole", 4]
learners = ["TLearner"]
n_folds = 2
n_seeds = 2
n_bootstrap = 20
[output]
folder = "results"
"""


def call(*arguments):
    return runner.invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path):
    data = tc.simulate_study(n_sites=20, units_per_site=3, size_px=8, random_state=1)
    data.study.table.rename_axis("unit").to_csv(tmp_path / "units.csv")
    data.chips.write(tmp_path / "chips.zarr")
    (tmp_path / "analysis.toml").write_text(ANALYSIS)
    return tmp_path


def edit(folder, old, new):
    text = (folder / "analysis.toml").read_text()
    assert old in text
    (folder / "analysis.toml").write_text(text.replace(old, new))
    return folder / "analysis.toml"


def test_a_run_writes_tables_and_page_and_goes_on(folder):
    checked = call("run", folder / "analysis.toml", "--check")
    assert checked.exit_code == 0, checked.output
    assert "5 combinations of choices, 2 seeds each: 10 cells" in checked.output
    assert "image / means / 2 PCs / 4 px / TLearner" in checked.output
    assert not (folder / "results").exists()
    result = call("run", folder / "analysis.toml")
    assert result.exit_code == 0, result.output
    out = folder / "results"
    table = pd.read_csv(out / "choices.csv", keep_default_na=False)
    assert len(table) == 20
    assert (table["error"] == "").all()
    assert {"ranking.csv", "regression.csv", "report.html"} <= {p.name for p in out.iterdir()}
    assert "Would other choices" in (out / "report.html").read_text(encoding="utf-8")
    written = {path: path.stat().st_mtime_ns for path in (out / "kept" / "cells").iterdir()}
    assert len(written) == 10
    assert call("run", folder / "analysis.toml").exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in written} == written


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"TLearner"', '"TLerner"', "learners: there is no effect learner 'TLerner'.*'TLearner'"),
        ("[encoders.means]", "[encoder]", r"kind 'choices' takes \[encoders.NAME\]"),
        ('kind = "choices"', 'kind = "confounding"', r"\[analysis\] data: unknown key"),
        ('["raw", 2]', '["raw", "two"]', r"\[analysis\] components"),
        ('["tabular", "image"]', '["tabular", "picture"]', "got 'picture'"),
        ('"whole", 4', '"whole", 16', "16"),
        ("n_seeds = 2", "trim = 0.1", r"\[analysis\] trim: unknown key"),
    ],
)
def test_mistakes_are_told_before_anything_is_run(folder, old, new, told):
    result = call("run", edit(folder, old, new))
    assert result.exit_code == 2
    assert re.search(told, result.stderr.replace("\n", " ")), result.stderr
    assert not (folder / "results" / "choices.csv").exists()


def test_the_template_names_every_key():
    for key in ChoicesSection.model_fields:
        assert re.search(rf"^(# )?{key} = ", template(), re.MULTILINE), key
