import base64
import json
import re

import numpy as np
import pytest
from PIL import Image

from alseg.core.errors import UserError
from alseg.report.folder import read_run
from alseg.report.page import write_comparison, write_report
from alseg.report.sections import advice

from .runs import Page, write_config, write_pictures, write_run

HOSTILE = "<script>alert('1')</script> & \"road\", wet"


def full_run(folder, miou=(0.2, 0.35, 0.5), **about):
    classes = ["sky", HOSTILE]
    defaults = {
        "classes": classes,
        "colors": [[10, 20, 30], [255, 0, 0]],
        "notes": ["One seed <only>."],
        "unit": "region",
        "answer": "class_set",
        "pool": {"images": 50, "units": 1000, "pixels": 90000},
    }
    write_run(folder, miou, classes=classes, companion=[0.1] * len(miou), about=defaults | about)
    write_config(folder)
    for number in range(len(miou)):
        write_pictures(folder, number)
    return folder


def percent(text):
    assert text.endswith("%")
    return float(text[:-1])


def axis_scale(page, svg, kind):
    """Slope and offset from a place in per cent to a value, read off the labelled ticks."""
    ticks = [e for e in page.find("text", within=svg) if e["classes"] == [kind]]
    factors = {"k": 1e3, "M": 1e6}
    values = [float(t["text"].rstrip("kM")) * factors.get(t["text"][-1], 1) for t in ticks]
    return np.polyfit([percent(t[kind]) for t in ticks], values, 1)


def drawn_points(page, svg):
    """Every line of a chart: its points as values, by the chart's own ticks."""
    to_x, to_y = axis_scale(page, svg, "x"), axis_scale(page, svg, "y")
    lines = []
    for group in (g for g in page.find("g", within=svg) if "points" in g["classes"]):
        dots = [c for c in page.find("circle", within=group) if "dot" in c["classes"]]
        places = np.array([[percent(c["cx"]), percent(c["cy"])] for c in dots]).reshape(-1, 2)
        x, y = np.polyval(to_x, places[:, 0]), np.polyval(to_y, places[:, 1])
        lines.append(np.stack([x, y], axis=1))
    return lines


def charts(page):
    return dict(
        zip(
            [e["text"] for e in page.find("label") if e["for"].startswith("axis-")],
            page.find("svg"),
            strict=True,
        )
    )


def test_page_parses_and_shows_everything(tmp_path):
    path = write_report(full_run(tmp_path / "run"))
    assert path == tmp_path / "run" / "report.html"
    page = Page(path.read_text("utf-8"))
    assert page.find("h1")[0]["text"] == "mulquery on camvid"
    rounds = [e["text"] for e in page.find("label") if e["for"].startswith("round-")]
    assert rounds == ["0", "1", "2"]
    assert len(page.find("img")) == 6 + 1  # two pictures a round and the viewer's empty one
    captions = [e["text"] for e in page.find("figcaption")]
    assert captions == ["Asked", "Answered"] * 3
    tiles = [e["text"] for e in page.find("strong")]
    assert [t.strip() for t in tiles] == ["50.0", "130", "3", "4.5"]
    notes = [e["text"] for e in page.find("span") if e["classes"] == ["note"]]
    assert notes == [
        "in round 2, +30.0 since round 0",
        "4.33 per region",
        "30 of 1,000 regions",
        "and 5 min of machine time",
    ]
    assert "One seed <only>." in [e["text"] for e in page.find("li")]
    assert "method:\n  name: mulquery" in page.find("pre")[0]["text"]


def test_costs_of_a_round_are_what_it_added(tmp_path):
    page = Page(write_report(full_run(tmp_path / "run")).read_text("utf-8"))
    panel = [e for e in page.find("div") if e["classes"] == ["panel"]][-1]
    facts = [e["text"] for e in page.find("li", within=panel)]
    assert facts == ["+10 regions", "+75 clicks", "+2 h", "mIoU 50.0 % (+15.0)"]


def test_curve_points_are_the_values_of_the_table(tmp_path):
    page = Page(write_report(full_run(tmp_path / "run")).read_text("utf-8"))
    costs = {
        "Clicks": [30, 55, 130],
        "Annotation time": [0.5, 2.5, 4.5],
        "Pixels": [900, 1900, 2900],
        "Regions": [10, 20, 30],
        "Images": [2, 4, 6],
        "Rounds": [0, 1, 2],
    }
    drawn = charts(page)
    assert list(drawn) == list(costs)
    for name, svg in drawn.items():
        companion, miou = drawn_points(page, svg)
        np.testing.assert_allclose(miou[:, 0], costs[name], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(miou[:, 1], [20, 35, 50], atol=1e-2)
        np.testing.assert_allclose(companion[:, 1], 10, atol=1e-2)
    checked = [e["id"] for e in page.find("input") if "checked" in e]
    assert checked == ["axis-1", "round-2"]


def test_lines_join_the_points(tmp_path):
    page = Page(write_report(write_run(tmp_path / "run", [0.2, 0.35, 0.5])).read_text("utf-8"))
    svg = page.find("svg")[0]
    (group,) = (g for g in page.find("g", within=svg) if "line" in g["classes"])
    ends = [tuple(e[k] for k in ("x1", "y1", "x2", "y2")) for e in page.find("line", within=group)]
    dots = [(c["cx"], c["cy"]) for c in page.find("circle", within=svg) if "dot" in c["classes"]]
    assert ends == [(*dots[0], *dots[1]), (*dots[1], *dots[2])]


def test_points_say_their_numbers(tmp_path):
    page = Page(write_report(full_run(tmp_path / "run")).read_text("utf-8"))
    titles = [e["text"] for e in page.find("title", within=charts(page)["Clicks"])]
    assert titles[-1] == "mIoU, round 2: 50.0 % at 130 clicks"
    titles = [e["text"] for e in page.find("title", within=charts(page)["Annotation time"])]
    assert titles[-1] == "mIoU, round 2: 50.0 % after 4.5 h"


def test_hostile_names_are_text(tmp_path):
    folder = full_run(tmp_path / "run", title=HOSTILE)
    write_pictures(folder, 0, image=HOSTILE)
    text = write_report(folder).read_text("utf-8")
    page = Page(text)
    assert "<script>alert" not in text
    assert page.find("h1")[0]["text"] == HOSTILE
    assert HOSTILE in [e["text"] for e in page.find("b")]  # image and class
    assert HOSTILE in [e.get("title") for e in page.find("th")]
    assert len(page.find("script")) == 1


def test_page_needs_nothing_from_outside(tmp_path):
    text = write_report(full_run(tmp_path / "run")).read_text("utf-8")
    page = Page(text)
    for element in page.elements:
        assert element["tag"] not in ("link", "iframe", "object", "base")
        assert element.get("href") is None
        assert element.get("src", "data:image/").startswith("data:image/")
    assert not re.search(r"@import|url\(|https?://", text)
    assert "default-src 'none'" in text


def test_embedded_pictures_are_the_files(tmp_path):
    folder = full_run(tmp_path / "run")
    page = Page(write_report(folder).read_text("utf-8"))
    image = page.find("img")[2]
    assert (image["width"], image["height"]) == ("8", "6")
    assert image["alt"] == "Asked, frame 1, round 1"
    content = base64.b64decode(image["src"].removeprefix("data:image/jpeg;base64,"))
    assert content == (folder / "round_001" / "pictures" / "0_asked.jpg").read_bytes()


def test_written_twice_it_is_the_same(tmp_path):
    folder = full_run(tmp_path / "run")
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first
    assert len(first) < 80_000
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == []


def test_bare_table_of_one_round_is_enough(tmp_path):
    page = Page(write_report(write_run(tmp_path / "my run", [0.25])).read_text("utf-8"))
    assert page.find("h1")[0]["text"] == "my run"
    ((point,),) = drawn_points(page, charts(page)["Clicks"])
    np.testing.assert_allclose(point, [30, 25], atol=1e-2)
    assert page.find("pre") == []
    assert len(page.find("img")) == 1


@pytest.mark.parametrize("miou", [[None, 0.3], [0.2, None, 0.4], [0.2, None]])
def test_rounds_without_a_value_do_not_break_the_page(tmp_path, miou):
    text = write_report(write_run(tmp_path / "run", miou)).read_text("utf-8")
    page = Page(text)
    (points,) = drawn_points(page, charts(page)["Clicks"])
    np.testing.assert_allclose(points[:, 1], [100 * v for v in miou if v is not None], atol=1e-2)
    assert "nan" not in text.split("</style>")[1].split("<script>")[0].lower()


@pytest.mark.parametrize("rounds", [1, 2])
def test_without_validation_images_a_sentence_stands_for_the_curve(tmp_path, rounds):
    page = Page(write_report(write_run(tmp_path / "run", [None] * rounds)).read_text("utf-8"))
    assert page.find("svg") == []
    (said,) = (e["text"] for e in page.find("p") if e["classes"] == ["empty"])
    assert said.startswith("No mIoU was measured")
    assert not any(e.get("id") in ("classes", "advice") for e in page.find("section"))
    other = write_run(tmp_path / "other", [None])
    both = Page(write_comparison([tmp_path / "run", other], tmp_path / "x.html").read_text("utf-8"))
    assert both.find("svg") == []


def advised(tmp_path, miou, clicks=None):
    folder = write_run(tmp_path / f"run{len(list(tmp_path.iterdir()))}", miou)
    if clicks:
        rows = [
            f"{r},{c},{'' if m is None else m}"
            for r, (c, m) in enumerate(zip(clicks, miou, strict=True))
        ]
        (folder / "rounds.csv").write_text("\n".join(["round,clicks,miou", *rows]) + "\n")
    return advice(read_run(folder))


def test_advice_goes_on_with_the_curve(tmp_path):
    clicks = [100, 200, 300, 400, 600]
    first, second, third = advised(tmp_path, [0.1 + 0.05 * np.log(c) for c in clicks], clicks)
    gain = 5 * np.log(700 / 600), 5 * np.log(800 / 600)  # points
    assert first == (
        f"Of 100 clicks more expect +{gain[0]:.1f} points of mIoU "
        f"(+{gain[0]:.1f} to +{gain[0]:.1f}, a 90 % interval)."
    )
    assert second.startswith(f"Of another round of 200 clicks expect +{gain[1]:.1f} points")
    assert "The run stops where you stop it" in third
    flat = advised(tmp_path, [0.30, 0.33, 0.31, 0.33, 0.31], clicks)
    assert "It may as well be nothing." in flat[0]
    equal = advised(tmp_path, [0.1, 0.2, 0.3, 0.35], [100, 200, 300, 400])
    assert len(equal) == 2, "the last round cost 100 clicks, too"


def test_advice_is_not_given_beyond_what_is_known(tmp_path):
    (sentence,) = advised(tmp_path, [0.1, None, 0.2])
    assert sentence == (
        "Whether more clicks pay cannot be said from 2 measured rounds: it takes at least 3."
    )
    assert len(advised(tmp_path, [0.1, 0.2, 0.3])) > 1
    assert "1 measured round:" in advised(tmp_path, [0.1])[0]
    first, second, _ = advised(tmp_path, [0.1, 0.2, 0.25, 0.3], [10, 20, 30, 40])
    assert first.startswith("Of 100 clicks more nothing can be said: they are more than the 40")
    assert second.startswith("Of another round of 10 clicks expect +")
    assert advised(tmp_path, [None, None]) == []
    assert advised(tmp_path, [0.1, 0.2], [0, 0]) == []


def test_pixels_that_are_units_are_offered_once_and_have_no_stripes(tmp_path):
    costs = "round,clicks,pixels,units,images,miou\n0,5,5,5,2,0.5\n1,9,9,9,2,0.6\n"
    for answer, unit, names, striped in (
        ("class", "pixel", ["Clicks", "Pixels", "Images", "Rounds"], False),
        ("class_set", "region", ["Clicks", "Pixels", "Regions", "Images", "Rounds"], True),
    ):
        folder = tmp_path / unit
        folder.mkdir()
        (folder / "rounds.csv").write_text(costs)
        about = {"unit": unit, "answer": answer, "classes": ["sky"], "colors": [[0, 0, 9]]}
        (folder / "report.json").write_text(json.dumps(about))
        write_pictures(folder, 0)
        page = write_report(folder).read_text("utf-8")
        assert list(charts(Page(page))) == names
        assert ("Stripes stand for several classes" in page) == striped


def test_free_rounds_offer_no_cost_axis_of_zeros(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "rounds.csv").write_text("round,clicks,pixels,miou\n0,0,0,0.5\n")
    assert list(charts(Page(write_report(folder).read_text("utf-8")))) == ["Rounds"]


def test_heat_cells_carry_the_iou(tmp_path):
    page = Page(write_report(full_run(tmp_path / "run", [0.2, 0.4])).read_text("utf-8"))
    (table,) = (t for t in page.find("table") if "heat" in t["classes"])
    body = [e for e in page.find("td", within=table) if "tbody" in e["path"]]
    assert [e["text"] for e in body] == ["20.0", "40.0", "+20.0", "–", "–", "–"]
    assert [e.get("style") for e in body][:4] == ["--iou:0.200", "--iou:0.400", None, None]
    swatches = [e["style"] for e in page.find("i", within=table)]
    assert swatches == ["background:#0a141e", "background:#ff0000"]


def test_machine_bars_are_shares_of_the_longest_round(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    table = "round,miou,train_s,score_s,select_s\n0,0.1,60,30,10\n1,0.2,150,40,10\n"
    (folder / "rounds.csv").write_text(table)
    page = Page(write_report(folder).read_text("utf-8"))
    parts = [e for e in page.find("i") if "title" in e]
    assert [percent(e["style"].removeprefix("width:")) for e in parts] == [30, 15, 5, 75, 20, 5]
    assert parts[0]["title"] == "Training: 60 s"


def test_parts_of_a_whole_are_bars_of_their_own(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    table = "round,miou,clicks_by_cluster/0,clicks_by_cluster/1\n0,0.1,0,0\n1,0.2,30,10\n2,0.3,5,\n"
    (folder / "rounds.csv").write_text(table)
    page = Page(write_report(folder).read_text("utf-8"))
    parts = [e for e in page.find("i") if "title" in e]
    assert [e["title"] for e in parts] == ["0: 30", "1: 10", "0: 5", "1: 0"]
    widths = [percent(e["style"].partition("width:")[2]) for e in parts]
    assert widths == [75, 25, 12.5, 0]
    colors = [e["style"].partition(";")[0] for e in parts]
    assert colors[0] == colors[2] != colors[1] == colors[3]
    assert "Clicks by cluster" in [e["text"] for e in page.find("h2")]
    assert not any("cluster" in e["text"].lower() for e in page.find("th"))


def test_many_classes_fold_the_legend_and_scroll_the_table(tmp_path):
    names = [f"class {i}" for i in range(150)]
    folder = write_run(tmp_path / "run", [0.5], classes=names)
    about = {"classes": names, "colors": [[1, 2, 3]] * 150}
    (folder / "report.json").write_text(json.dumps(about))
    write_pictures(folder, 0)
    page = Page(write_report(folder).read_text("utf-8"))
    (legend,) = (e for e in page.find("details") if "legend" in e["classes"])
    assert "open" not in legend
    assert len(page.find("li", within=legend)) == 151
    assert any("tall" in e["classes"] for e in page.find("div"))


def test_png_pictures_are_embedded_too(tmp_path):
    folder = write_run(tmp_path / "run", [0.5])
    pictures = folder / "round_000" / "pictures"
    pictures.mkdir(parents=True)
    Image.new("RGB", (5, 4)).save(pictures / "a.png")
    (pictures / "index.json").write_text('[{"image": "x", "files": {"edges": "a.png"}}]')
    page = Page(write_report(folder).read_text("utf-8"))
    assert page.find("img")[0]["src"].startswith("data:image/png;base64,")
    assert page.find("figcaption")[0]["text"] == "Edges"


def compared(tmp_path, *names, **options):
    folders = []
    for i, name in enumerate(names):
        folder = write_run(tmp_path / name, [0.1 + 0.1 * i, 0.3 + 0.1 * i])
        write_config(folder, method=name.split("-")[0], seed=i, **options)
        folders.append(folder)
    return folders


def test_comparison_draws_every_run_best_first(tmp_path):
    folders = compared(tmp_path, "random-0", "random-1", "madbal-0")
    out = write_comparison(folders, tmp_path / "pages" / "all.html")
    page = Page(out.read_text("utf-8"))
    lines = drawn_points(page, charts(page)["Clicks"])
    np.testing.assert_allclose([line[-1] for line in lines], [[55, 50], [55, 40], [55, 30]], 1e-3)
    rows = [e["text"] for e in page.find("th") if e.get("scope") == "row"]
    assert rows == ["madbal-0", "random-1", "random-0"]
    first = [e["text"] for e in page.find("td")][:4]
    assert first == ["50.0", "50.0", "madbal", "camvid"]
    assert out.read_bytes() == write_comparison(folders, out).read_bytes()


def test_runs_of_one_method_share_a_colour(tmp_path):
    folders = compared(tmp_path, "random-0", "random-1", "madbal-0")
    page = Page(write_comparison(folders, tmp_path / "all.html").read_text("utf-8"))
    looks = [e["classes"] for e in page.find("th") if e.get("scope") == "row"]
    assert looks == [["c0", "dash0"], ["c1", "dash0"], ["c1", "dash1"]]


def test_seeds_of_a_single_method_have_their_own_colours(tmp_path):
    folders = compared(tmp_path, "random-0", "random-1")
    page = Page(write_comparison(folders, tmp_path / "all.html").read_text("utf-8"))
    looks = [e["classes"] for e in page.find("th") if e.get("scope") == "row"]
    assert looks == [["c0", "dash0"], ["c1", "dash0"]]


def test_equal_folder_names_are_told_apart_by_their_parents(tmp_path):
    folders = compared(tmp_path, "a/run", "b/run")
    page = Page(write_comparison(folders, tmp_path / "all.html").read_text("utf-8"))
    assert [e["text"] for e in page.find("th") if e.get("scope") == "row"] == ["b/run", "a/run"]


def test_different_data_are_called_so(tmp_path):
    (one,) = compared(tmp_path, "random-0")
    other = write_run(tmp_path / "voc", [0.2])
    write_config(other, data="voc")
    page = Page(write_comparison([one, other], tmp_path / "all.html").read_text("utf-8"))
    assert any("different data ('camvid', 'voc')" in e["text"] for e in page.find("li"))


def test_axes_are_those_all_runs_have(tmp_path):
    (one,) = compared(tmp_path, "random-0")
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "rounds.csv").write_text("round,pixels,miou\n0,50,0.5\n")
    page = Page(write_comparison([one, bare], tmp_path / "all.html").read_text("utf-8"))
    assert list(charts(page)) == ["Pixels", "Rounds"]


def test_one_run_named_twice_is_refused(tmp_path):
    (one,) = compared(tmp_path, "random-0")
    with pytest.raises(UserError, match="twice"):
        write_comparison([one, one / ".." / one.name], tmp_path / "all.html")
