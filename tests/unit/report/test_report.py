"""The page: everything in one file, nothing unescaped, and the numbers of the results."""

import base64
import datetime
import io
import random
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.image import imread

from terracausal._foundation.errors import AlignmentError
from terracausal.effects import EffectOrigin
from terracausal.imagery import Chips
from terracausal.interpret.site_images import find_twins, latest_image
from terracausal.nuisance import Scores, cross_fit
from terracausal.plotting import pick_bands
from terracausal.report import Report
from terracausal.report.sections import label_rows
from terracausal.report.wording import Interval
from terracausal.study import Study

HOSTILE = "<script>alert('site')</script>"


class Page(HTMLParser):
    """What tests ask of a page: tags with attributes, and the text below each tag."""

    def __init__(self, html):
        super().__init__()
        self.tags = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def render(tmp_path, results, **options):
    return Report(results, **options).to_html(tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def html(results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return render(folder, results, title=f"Grants {HOSTILE}", notes=["True effect <i>0.8</i>"])


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


# -- the file ------------------------------------------------------------------------------------


def test_writes_the_file_and_makes_the_folder(world, tmp_path):
    target = tmp_path / "a" / "b" / "report.html"
    assert Report([world.study]).to_html(str(target)) == target
    assert target.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [path.name for path in target.parent.iterdir()] == ["report.html"]


def test_an_interrupted_write_leaves_the_old_page(world, tmp_path, monkeypatch):
    target = tmp_path / "report.html"
    target.write_text("old")

    def fill_disk(self, text, **options):
        with self.open("w") as file:
            file.write(text[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fill_disk)
    with pytest.raises(OSError, match="No space left"):
        Report([world.study]).to_html(target)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_folder_is_no_file(world, tmp_path):
    with pytest.raises(IsADirectoryError, match=re.escape(str(tmp_path))):
        Report([world.study]).to_html(tmp_path)


def test_nothing_is_loaded_from_elsewhere(html, page):
    addresses = [
        attributes[name]
        for _, attributes in page.tags
        for name in ("src", "href", "srcset", "action", "poster", "data")
        if name in attributes
    ]
    assert len(addresses) > 10
    assert not [a for a in addresses if not a.startswith(("data:", "#"))]
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert not page.all("script")


def test_links_within_the_page_arrive(page):
    targets = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    links = [a["href"].removeprefix("#") for a in page.all("a")]
    assert len(links) == 8
    assert set(links) <= targets


def test_every_figure_is_a_sharp_png_with_a_description(page):
    images = page.all("img")
    assert len(images) == 4 + 8
    for image in images:
        assert len(image["alt"]) > 20
        pixels = imread(io.BytesIO(base64.b64decode(image["src"].partition(",")[2])))
        assert pixels.shape[1] >= (300 if image["alt"].startswith("Image of") else 1200)


def test_names_from_data_are_escaped(html, page):
    assert "<script" not in html
    assert "<i>" not in html
    assert "<b>" not in html
    assert HOSTILE in page.text
    assert "<b>paid</b>" in page.text


def test_no_figure_stays_open(results, tmp_path):
    before = plt.get_fignums()
    render(tmp_path, results)
    assert plt.get_fignums() == before


def test_importing_the_room_does_not_import_matplotlib():
    code = "import sys, terracausal.report; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- what it says --------------------------------------------------------------------------------


def test_sections_stand_in_the_order_of_questions(html):
    titles = re.findall(r'<h2 id="[\w-]+">([^<]+)</h2>', html)
    assert titles == [
        "In short",
        "The study",
        "Average effect",
        "Who benefits most? (targeting)",
        "Map of effects",
        "Places with the highest and lowest effect",
        "Overlap",
        "The images",
        "How this was made",
    ]


def test_the_order_of_results_changes_nothing(results, tmp_path):
    shuffled = list(results)
    random.Random(1).shuffle(shuffled)
    # the first of several estimates leads, so these two keep their order
    first, second = results[3], results[4]
    places = [place for place, item in enumerate(shuffled) if item is first or item is second]
    shuffled[places[0]], shuffled[places[1]] = first, second
    pages = [
        render(tmp_path, items).partition('<section id="made"')[0] for items in (results, shuffled)
    ]
    assert [id(item) for item in shuffled] != [id(item) for item in results]
    assert pages[0] == pages[1]


@pytest.mark.parametrize("name", ["study", "chips", "scores", "estimate", "targeting"])
def test_each_kind_stands_alone(world, tmp_path, name):
    html = render(tmp_path, [getattr(world, name)])
    assert len(re.findall('<section id="s', html)) == 1


def test_nuisances_are_printed(world, tmp_path):
    nuisances = cross_fit(world.study, random_state=0)
    page = Page(render(tmp_path, [nuisances]))
    assert nuisances.summary() in page.text


def test_printed_summaries_are_in_the_page(world, page):
    for text in (
        world.study.describe(),
        world.chips.describe(),
        world.scores.summary(),
        world.estimate.summary(),
        world.targeting.summary(),
    ):
        assert text in page.text


def test_the_numbers_are_those_of_the_results(world, page):
    interval = Interval.from_row(world.estimate.to_dataframe().iloc[0])
    assert interval.sign == 1
    assert f"raised the outcome (income) by {interval.text}"[:-1] in page.text
    share = world.study.treatment.mean()
    assert f"400 units at 40 sites; {share:.0%} of them" in page.text
    assert world.other_estimate.confint()[0, 0] < 0 < world.other_estimate.confint()[0, 1]
    assert "1 is clearly above zero and 1 is not clearly different from zero" in page.text


def test_an_unsettled_effect_is_told_as_such(world, tmp_path):
    page = Page(render(tmp_path, [world.other_estimate]))
    assert "do not settle" in page.text
    assert "The programme raised" not in page.text


def test_rows_are_named_by_what_tells_them_apart(world):
    first, second = world.estimate, world.other_estimate
    third = replace(first, estimand="average effect on the treated")
    assert label_rows([first]) == ["Average effect on all units"]
    assert label_rows([first, second, third]) == [
        "Average effect on all units, regression",
        "Average effect on all units, difference in means",
        "Average effect on the treated",
    ]


def test_assumptions_and_notes_are_listed(html):
    for text in ("No unmeasured confounding", "Overlap", "3 propensities were clipped"):
        assert f"<li>{text}</li>" in html


def test_versions_and_date_are_stated(page):
    made = page.text[page.text.rindex("How this was made") :]
    assert np.__version__ in made
    assert pd.__version__ in made
    assert str(datetime.datetime.now(datetime.UTC).year) in made


def test_a_notebook_shows_the_page_in_a_frame(world):
    (frame,) = Page(Report([world.study])._repr_html_()).all("iframe")
    assert "The study follows 400 units" in frame["srcdoc"]


# -- overlap -------------------------------------------------------------------------------------


def test_scores_without_propensities_say_so(world, tmp_path):
    scores = Scores.from_dataframe(world.scores.to_dataframe()[["score"]])
    page = Page(render(tmp_path, [scores]))
    assert "cannot show" in page.text
    assert not page.all("img")


def test_one_chance_for_all_is_said_and_drawn(world, tmp_path):
    scores = Scores.from_dataframe(world.scores.to_dataframe().assign(propensity=0.5))
    page = Page(render(tmp_path, [scores]))
    assert "the same chance of treatment, 0.50" in page.text
    assert len(page.all("img")) == 1


# -- places --------------------------------------------------------------------------------------


def captions(html):
    found = re.findall(r"<h3>(\w+) predicted effect</h3>(.*?)</div>", html, re.S)
    return {
        which: re.findall(r"<figcaption>(.*?)</figcaption>", block, re.S) for which, block in found
    }


def test_exemplars_are_the_extreme_sites_without_twins(world, html):
    ranked = world.effect_by_site.sort_values(ascending=False)
    # the second from either end share their pixels, so neither image can be trusted
    expected = {
        "Highest": ranked.iloc[[0, 2, 3, 4]],
        "Lowest": ranked.iloc[[-1, -3, -4, -5]],
    }
    assert find_twins(world.chips) == {ranked.index[1], ranked.index[-2]}
    for which, shown in captions(html).items():
        told = [Page(caption).text for caption in shown]
        assert told == [
            f"{site}: {value:.2f}".replace("-", "−") for site, value in expected[which].items()
        ]


def test_the_map_averages_units_by_site(world, results, tmp_path, monkeypatch):
    drawn = {}

    def record(lon, lat, effect, ax, **options):
        drawn.update(lon=lon, lat=lat, effect=effect)

    monkeypatch.setattr("terracausal.report.places.plot_effect_map", record)
    noise = np.where(np.arange(len(world.cate)) < 200, 0.1, -0.1)
    render(tmp_path, [world.study, world.cate + noise, world.chips])
    assert drawn["effect"].to_dict() == pytest.approx(world.effect_by_site.to_dict())
    places = world.chips.sites.geometry
    assert drawn["lon"].to_dict() == pytest.approx(places.x.to_dict())
    assert drawn["lat"].to_dict() == pytest.approx(places.y.to_dict())


def test_without_chips_the_places_are_a_table(world, tmp_path):
    html = render(tmp_path, [world.study, world.cate])
    best = world.effect_by_site.idxmax()
    assert f'<th scope="row">{best}</th><td>1.75</td>' in html
    assert len(Page(html).all("img")) == 1


def test_without_coordinates_there_is_no_map(world, tmp_path):
    html = render(tmp_path, [world.study_without_coords, world.cate], chips=world.chips)
    assert "Map of effects" not in html
    assert len(captions(html)["Highest"]) == 4


def test_units_are_places_where_there_are_no_sites(tmp_path):
    table = pd.DataFrame({"y": [1.0, 2, 3, 4], "w": [0, 1, 0, 1]}, index=list("abcd"))
    study = Study(table, outcome="y", treatment="w")
    page = Page(render(tmp_path, [study, pd.Series([0.1, 0.4, 0.2, 0.3], index=table.index)]))
    assert "highest in b (0.400) and lowest in a (0.100)" in page.text


def test_missing_effects_are_counted(world, tmp_path):
    cate = world.cate.copy()
    cate.iloc[:7] = np.nan
    assert "7 units without a predicted effect" in render(tmp_path, [world.study, cate])


@pytest.mark.parametrize(
    ("bands", "shown"),
    [
        (["nir", "Red", "green", "BLUE"], (1, 2, 3)),
        (["B02", "B03", "B04"], (2, 1, 0)),
        (["green", "nir", "swir1"], (2, 1, 0)),
        (["one", "two", "three", "four"], (0, 1, 2)),
        (["one", "two"], (0,)),
    ],
)
def test_known_bands_are_shown_in_their_colours(bands, shown):
    assert pick_bands(bands) == shown


def test_the_learner_of_the_effects_is_named(world, tmp_path):
    cate = world.cate.copy()
    cate.attrs["terracausal_origin"] = EffectOrigin("Forest()", folds=pd.Series(0, cate.index))
    assert "predicted out of fold by Forest()" in render(tmp_path, [world.study, cate])
    cate.attrs["terracausal_origin"] = EffectOrigin("Forest()", trained_on=cate.index[:30])
    page = Page(render(tmp_path, [world.study, cate]))
    assert "Forest() was fitted on 30 of these 400 units" in page.text


def test_the_latest_image_with_pixels_is_shown():
    pixels = np.stack(
        [np.full((1, 2, 2), 1.0), np.full((1, 2, 2), 2.0), np.full((1, 2, 2), np.nan)]
    )
    chips = Chips.from_arrays(pixels[None], sites=["a"], bands=["red"])
    assert latest_image(chips, "a").tolist() == [[[2.0, 2.0], [2.0, 2.0]]]


# -- bad input -----------------------------------------------------------------------------------


def test_unknown_kinds_are_named_with_the_known_ones(world, tmp_path):
    with pytest.raises(TypeError, match=r"Study, Chips, .* item 1 is a dict"):
        Report([world.study, {"ate": 1.0}]).to_html(tmp_path / "page.html")


def test_a_single_result_wants_brackets(world):
    with pytest.raises(TypeError, match=r"single Study.*Report\(\[result\]\)"):
        Report(world.study)


def test_an_empty_list_is_refused():
    with pytest.raises(ValueError, match="at least one result"):
        Report([])


def test_two_studies_are_refused(world):
    with pytest.raises(ValueError, match=r"one Study; got two .* position 1"):
        Report([world.study, world.study_without_coords])


def test_the_same_chips_twice_are_one(world):
    assert "chips" in repr(Report([world.chips], chips=world.chips))


def test_effects_need_a_study(world):
    with pytest.raises(ValueError, match=r"needs a Study .* beside 'cate'"):
        Report([world.cate])


def test_effects_of_unknown_units_are_refused(world):
    strange = world.cate.rename({"person 0": "nobody"})
    with pytest.raises(AlignmentError, match=r"1 are unknown \('nobody'\)"):
        Report([world.study, strange])


def test_effects_without_a_number_are_refused(world, tmp_path):
    with pytest.raises(ValueError, match="all 400 values are NaN"):
        render(tmp_path, [world.study, world.cate * np.nan])


def test_notes_are_a_list(world):
    with pytest.raises(TypeError, match="got the text 'careful'"):
        Report([world.study], notes="careful")
