"""`terracausal run` and `terracausal init`, as a person at the shell would use them."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

import terracausal as tc
from terracausal.cli import app
from terracausal.workflows.configuration import (
    ConfigurationError,
    ConfoundingSection,
    HeterogeneitySection,
    parse_configuration,
)
from terracausal.workflows.configured_parts import build_encoder
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
covariates = ["x1", "x2"]
coords = ["lon", "lat"]
[encoder]
name = "BandStatisticsEncoder"
quantiles = []
moments = ["mean"]
[analysis]
kind = "confounding"
n_folds = 2
n_repeats = 1
[output]
folder = "results"
"""


def call(*arguments):
    return runner.invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def data():
    return tc.simulate_study("tutorial", n_sites=80, size_px=4, random_state=1)


@pytest.fixture
def folder(data, tmp_path):
    data.study.table.rename_axis("unit").to_csv(tmp_path / "units.csv")
    data.chips.write(tmp_path / "chips.zarr")
    (tmp_path / "analysis.toml").write_text(ANALYSIS)
    return tmp_path


def edit(folder, old, new):
    text = (folder / "analysis.toml").read_text()
    assert old in text
    (folder / "analysis.toml").write_text(text.replace(old, new))
    return folder / "analysis.toml"


@pytest.fixture
def no_page(monkeypatch):
    """Pages are drawn by the tests of the report; here an empty one will do."""
    monkeypatch.setattr(tc.Report, "_render", lambda self: "<!DOCTYPE html>")


# -- a run ---------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::terracausal._foundation.errors.OverlapWarning")
def test_a_run_writes_page_table_copy_and_log_and_goes_on(folder, data, monkeypatch):
    result = call("run", folder / "analysis.toml")
    assert result.exit_code == 0, result.output
    out = folder / "results"
    assert {path.name for path in out.iterdir()} == {
        *("report.html", "estimates.csv", "analysis.toml", "run.log", "kept"),
    }
    table = pd.read_csv(out / "estimates.csv")
    assert table["term"].tolist()[:2] == ["no adjustment", "covariates"]
    assert (out / "analysis.toml").read_text() == ANALYSIS
    assert re.search(r"terracausal \S+, numpy \S+.*seed 0", (out / "run.log").read_text())
    assert "What the images change" in (out / "report.html").read_text(encoding="utf-8")

    # the same by hand
    encoder = tc.BandStatisticsEncoder(quantiles=(), moments=("mean",))
    by_hand = tc.analyze_confounding(
        data.study, data.chips, encoder=encoder, n_folds=2, n_repeats=1, random_state=5
    )
    assert by_hand.estimates["estimate"].iloc[0] == pytest.approx(table["estimate"].iloc[0])

    # a second run computes nothing again
    def refuse(*arguments, **options):
        raise AssertionError("computed again")

    monkeypatch.setattr("terracausal.workflows.adjusting.cross_fit", refuse)
    monkeypatch.setattr(tc.BandStatisticsEncoder, "_rows", refuse)
    again = call("run", folder / "analysis.toml")
    assert again.exit_code == 0, again.output
    pd.testing.assert_frame_equal(pd.read_csv(out / "estimates.csv"), table)


@pytest.mark.usefixtures("no_page")
@pytest.mark.filterwarnings("ignore::terracausal._foundation.errors.OverlapWarning")
def test_a_killed_run_goes_on_where_it_stopped(folder, monkeypatch):
    real, calls = tc.cross_fit, []

    def die_at_the_third(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr("terracausal.workflows.adjusting.cross_fit", die_at_the_third)
    killed = call("run", folder / "analysis.toml")
    assert killed.exit_code != 0
    assert "stopped: KeyboardInterrupt" in (folder / "results" / "run.log").read_text()
    assert not (folder / "results" / "report.html").exists()
    assert call("run", folder / "analysis.toml").exit_code == 0
    assert len(calls) == 4  # two were kept, the third is done again


@pytest.mark.usefixtures("no_page")
@pytest.mark.filterwarnings("ignore::terracausal._foundation.errors.OverlapWarning")
def test_results_of_another_configuration_are_not_overwritten(folder):
    assert call("run", folder / "analysis.toml").exit_code == 0
    before = (folder / "results" / "estimates.csv").read_text()
    changed = edit(folder, "n_folds = 2", "n_folds = 3")
    result = call("run", changed)
    assert result.exit_code == 2
    assert "[analysis] n_folds (2 there, 3 here)" in result.stderr
    assert (folder / "results" / "estimates.csv").read_text() == before
    assert call("run", changed, "--overwrite").exit_code == 0
    assert (folder / "results" / "estimates.csv").read_text() != before
    # a comment is no other configuration
    changed.write_text("# the same\n" + changed.read_text())
    assert call("run", changed).exit_code == 0


def test_results_without_a_configuration_are_not_overwritten(folder):
    (folder / "results").mkdir()
    (folder / "results" / "report.html").write_text("precious")
    result = call("run", folder / "analysis.toml")
    assert result.exit_code == 2
    assert "'report.html' that no configuration there explains" in result.stderr
    assert (folder / "results" / "report.html").read_text() == "precious"


def test_a_check_tells_what_would_run_and_writes_nothing(folder, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("something was trained")

    monkeypatch.setattr("terracausal.workflows.adjusting.cross_fit", refuse)
    monkeypatch.setattr(tc.BandStatisticsEncoder, "_rows", refuse)
    result = call("run", folder / "analysis.toml", "--check")
    assert result.exit_code == 0, result.output
    assert "units       80:" in result.stdout
    assert "2 folds of whole clusters" in result.stdout
    assert not (folder / "results").exists()


@pytest.mark.usefixtures("no_page")
@pytest.mark.filterwarnings("ignore::terracausal._foundation.errors.OverlapWarning")
def test_heterogeneity_from_a_file(folder):
    changed = edit(folder, 'kind = "confounding"', 'kind = "heterogeneity"\nn_permutations = 0')
    changed = edit(folder, "[output]", '[analysis.learner]\nname = "TLearner"\n[output]')
    result = call("run", changed)
    assert result.exit_code == 0, result.output
    by_unit = pd.read_csv(folder / "results" / "effects.csv", index_col="unit")
    assert by_unit.shape == (80, 2)
    table = pd.read_csv(folder / "results" / "estimates.csv")
    assert "AUTOC" in set(table["quantity"])
    again = call("run", changed)
    assert again.exit_code == 0
    assert "computing" not in again.stderr
    pd.testing.assert_frame_equal(pd.read_csv(folder / "results" / "estimates.csv"), table)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('learner = "CausalForrest"', "did you mean 'CausalForest'"),
        ('learner = {name = "DRLearner", uses = "all"}', r"learner uses: .*did you mean 'use'"),
        ("learner = 3", r"\[analysis\] learner: .*found 3"),
        ("budget = 2.0", "`budget` must be a share from 0 to 1; got 2.0"),
        ("n_groups = 1", "`n_groups` must be an integer of at least 2; got 1"),
        ('target = "all"', r"\[analysis\] target: unknown key"),
    ],
)
def test_mistakes_about_heterogeneity(folder, line, expected):
    edit(folder, 'kind = "confounding"', f'kind = "heterogeneity"\n{line}')
    assert re.search(expected, told(folder))


# -- data ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_embeddings_and_units_as_tables(folder, data, suffix):
    embeddings = tc.BandStatisticsEncoder(quantiles=()).fit_transform(data.chips)
    embeddings.attrs = {}
    table = embeddings.rename_axis("site").reset_index()
    path = folder / f"embeddings.{suffix}"
    if suffix == "csv":
        table.to_csv(path, index=False)
    else:
        table.set_index("site").to_parquet(path)
    text = re.sub(r"\[encoder\].*(?=\[analysis\])", "", ANALYSIS, flags=re.DOTALL)
    text = text.replace('chips = "chips.zarr"', f'embeddings = "embeddings.{suffix}"')
    (folder / "analysis.toml").write_text(text)
    result = call("run", folder / "analysis.toml", "--check")
    assert result.exit_code == 0, result.output
    assert "6 columns of embeddings by site" in result.stdout


def test_chips_from_rasters(folder, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    import numpy as np

    sites = pd.DataFrame({"site": [f"s{k:04d}" for k in range(80)]})
    sites["lon"], sites["lat"] = 33.0 + np.arange(80) * 1e-4, 0.01
    sites.to_csv(folder / "sites.csv", index=False)
    place = rasterio.Affine(10, 0, 4.9e5, 0, -10, 1e4)
    profile = dict(driver="GTiff", height=1200, width=2400, count=3, dtype="uint8")
    (folder / "chips").mkdir()
    with rasterio.open(
        folder / "chips" / "all.tif", "w", crs="EPSG:32636", transform=place, **profile
    ) as file:
        file.write(np.ones((3, 1200, 2400), dtype="uint8"))
    changed = edit(
        folder,
        'chips = "chips.zarr"',
        'chips = "chips"\nsites = "sites.csv"\nsize_px = 1\nbands = ["r", "g", "b"]',
    )
    changed = edit(folder, 'coords = ["lon", "lat"]\n', "")
    result = call("run", changed, "--check")
    assert result.exit_code == 0, result.output
    sites.rename(columns={"site": "village"}).to_csv(folder / "sites.csv", index=False)
    result = call("run", changed, "--check")
    assert "no column 'site'; the table has 'village', 'lon', 'lat'" in " ".join(
        result.output.split()
    )


def test_a_known_dataset_with_other_roles(tmp_path, data_root):
    text = f'data = {{dataset = "uganda_yop", root = "{data_root}"}}\n' + (
        'study = {covariates = ["female"]}\nanalysis = {kind = "confounding"}\n'
    )
    (tmp_path / "analysis.toml").write_text(text)
    result = call("run", tmp_path / "analysis.toml", "--check")
    assert result.exit_code == 0, result.output
    assert "covariates  female\n" in result.stdout


# -- what is wrong is told in one paragraph ------------------------------------------------------


def told(folder, *arguments):
    result = call("run", folder / "analysis.toml", *arguments)
    assert result.exit_code == 2
    paragraph = result.stderr.strip().splitlines()[-1]
    assert "Traceback" not in result.output
    assert paragraph.startswith("Error (")
    return paragraph


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("n_folds = 2", "n_fold = 2", r"\[analysis\] n_fold: unknown key; did you mean 'n_folds'"),
        ("n_folds = 2", 'n_folds = "2"', r"\[analysis\] n_folds: .*valid integer; found '2'"),
        ("[output]", "[outputs]", r"unknown section \[outputs\]; did you mean 'output'"),
        ('kind = "confounding"', "", r"\[analysis\] kind is missing"),
        (
            'kind = "confounding"',
            'kind = "magic"',
            "one of 'confounding', 'heterogeneity'.*'magic'",
        ),
        ("n_folds = 2", 'std_error = "conley"', r"\[analysis\] `cutoff_m` \(metres\) goes with"),
        ("n_folds = 2", "trim = 0.9", "`trim` must lie strictly between 0 and 0.5; got 0.9"),
        ('treatment = "treatment"', "", r"\[study\] needs `treatment`"),
        ('outcome = "outcome"', 'outcom = "outcome"', r"\[study\] outcom: .*mean 'outcome'"),
        ('coords = ["lon", "lat"]', 'coords = ["lon"]', r"\[study\] coords: .*at least 2 items"),
        ('unit = "unit"', 'unit = "key"', r"\[data\] unit: there is no column 'key'"),
        ('units = "units.csv"', 'units = "unit.csv"', "there is no file or folder .*unit.csv"),
        ('chips = "chips.zarr"', "", r"\[data\] needs `chips` or `embeddings`"),
        ('chips = "chips.zarr"', 'chips = "x"', r"\[data\] needs `sites` and `size_px`"),
        ('units = "units.csv"', 'dataset = "x"\nunits = "u.csv"', "either `dataset` or `units`"),
        ('"BandStatisticsEncoder"', '"BandStatistics"', "did you mean 'BandStatisticsEncoder'"),
        ("quantiles = []", "quantile = []", "has no such setting; did you mean 'quantiles'"),
        ('covariates = ["x1", "x2"]', 'covariates = ["x3"]', "not in the table: 'x3'"),
        ('folder = "results"', "folder = 3", r"\[output\] folder: .*string; found 3"),
        ("[data]", "[data", "analysis.toml is no valid TOML"),
    ],
)
def test_mistakes_in_the_file(folder, old, new, expected):
    edit(folder, old, new)
    assert re.search(expected, told(folder))
    assert not (folder / "results" / "report.html").exists()


def test_a_missing_file_and_a_bug(folder, monkeypatch):
    result = call("run", folder / "nothing.toml")
    assert result.exit_code == 2
    assert "terracausal init" in result.stderr

    def bug(*arguments, **options):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("terracausal.workflows.running.load_data", bug)
    assert "Run again with --debug" in told(folder)
    assert isinstance(call("run", folder / "analysis.toml", "--debug").exception, ZeroDivisionError)


def test_all_mistakes_are_told_at_once(folder):
    edit(folder, "n_folds = 2", "n_fold = 2")
    edit(folder, 'folder = "results"', "folder = 3")
    paragraph = told(folder)
    assert "n_fold: unknown" in paragraph
    assert "[output] folder" in paragraph


# -- the template --------------------------------------------------------------------------------


def test_the_template_is_a_valid_configuration_that_names_every_key():
    printed = call("init").stdout
    assert printed == template()
    found = parse_configuration(printed, Path("a.toml"))
    sections = [found.data, found.study, found.analysis, found.output]
    for section in (*map(type, sections), HeterogeneitySection):
        for key in section.model_fields:
            assert re.search(rf"^(# )?(\.\.\. )?{key} = ", printed, re.MULTILINE), key


def test_what_the_template_shows_as_off_is_the_default():
    shown = tomllib.loads(template())["analysis"]
    bare = ConfoundingSection(kind="confounding").model_dump()
    assert {key: bare[key] for key in shown} == shown


def test_encoders_inside_encoders():
    inner = {"name": "BandStatisticsEncoder", "quantiles": [0.5]}
    encoder = build_encoder("SequenceEncoder", {"encoder": inner}, seed=3)
    assert isinstance(encoder.encoder, tc.BandStatisticsEncoder)
    assert encoder.encoder.quantiles == (0.5,)
    assert build_encoder("RandomConvEncoder", {}, seed=3).random_state == 3
    assert build_encoder("RandomConvEncoder", {"random_state": 7}, seed=3).random_state == 7
    with pytest.raises(ConfigurationError, match=r"\[encoder\] SequenceEncoder: .*'encoder'"):
        build_encoder("SequenceEncoder", {}, seed=3)


def test_image_learners_by_name():
    settings = {"network": "kernel_max", "training": {"n_epochs": 3}}
    learner = build_encoder("ImageNuisanceLearner", settings, seed=3)
    assert learner.training.n_epochs == 3
    assert learner.random_state == 3


def test_it_runs_as_a_program(folder):
    command = [sys.executable, "-m", "terracausal", "run", str(folder / "none.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
