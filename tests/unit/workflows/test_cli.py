"""The command line, as a person would call it."""

import pytest
from typer.testing import CliRunner

import terracausal
from terracausal.cli import app
from terracausal.workflows import Check, checkup, demonstrate, demonstration

runner = CliRunner()


def test_version_is_the_package_version():
    result = runner.invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout.strip() == f"terracausal {terracausal.__version__}"


def test_doctor_passes_here():
    result = runner.invoke(app, ["doctor"])
    assert result.exit_code == 0, result.stdout
    assert "All checks passed." in result.stdout
    assert "torch" in result.stdout


def test_doctor_fails_and_names_what_failed(monkeypatch):
    def broken():
        raise RuntimeError("no weights")

    monkeypatch.setattr(checkup, "_check_encoders", broken)
    result = runner.invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "FAIL encoders      RuntimeError: no weights" in result.stdout


def test_doctor_names_a_missing_package(monkeypatch):
    monkeypatch.setattr(checkup, "_PACKAGES", ("no-such-package-at-all",))
    failed = [check for check in checkup.check_installation() if not check.passed]
    assert failed == [
        Check("no-such-package-at-all", False, "not installed: pip install no-such-package-at-all")
    ]


@pytest.fixture(scope="module")
def small():
    return demonstrate(n_sites=80, n_features=32, random_state=3)


def test_demonstration_shows_truth_beside_estimate(small):
    table = small.comparison()
    assert table["truth"].iloc[0] == pytest.approx(small.data.average_effect)
    assert table["estimate"].iloc[0] == pytest.approx(float(small.average.value[0]))
    assert f"{small.data.average_effect:.3f}" in small.summary()


def test_demonstration_is_reproducible(small):
    again = demonstrate(n_sites=80, n_features=32, random_state=3)
    assert again.comparison().equals(small.comparison())


def test_demo_writes_report_and_table(tmp_path, monkeypatch, small):
    monkeypatch.setattr(demonstration, "demonstrate", lambda random_state: small)
    result = runner.invoke(app, ["demo", "--out", str(tmp_path / "new"), "--seed", "3"])
    assert result.exit_code == 0, result.output
    assert "Truth beside estimate" in result.stdout
    page = (tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    assert "This study is simulated" in page
    assert (tmp_path / "new" / "truth_and_estimates.csv").stat().st_size > 50
