import csv
import io
import re

import numpy as np
import pytest
from scipy import stats

from alseg.compare import main
from alseg.core.errors import UserError
from alseg.report.comparison import compare
from alseg.report.findings import findings, limits, methods_paragraph
from alseg.report.groups import check_comparable, find_group, group_names, read_groups
from alseg.report.plots import curves
from alseg.report.study import PAGE, check_study, files, write_study
from alseg.report.tables import latex_text, tables

from .runs import Page
from .studies import write_study as write_runs
from .studies import write_trial

RANDOM = [0.30, 0.40, 0.50]
MARGIN = [0.40, 0.50, 0.56]


def compared(root, methods=None, against="random", full="supervised", **options):
    groups = read_groups(
        write_runs(root, methods or {"random": RANDOM, "margin": MARGIN}), "clicks"
    )
    return compare(groups, "clicks", against=against, full=full, **options)


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def one_figure(monkeypatch):
    """Drawing takes long, and one figure is enough for what is done with the files."""
    monkeypatch.setattr("alseg.report.study.figures", lambda found: {"curves": curves(found)})


def test_known_curves_give_known_numbers(tmp_path):
    found = compared(tmp_path)
    assert [group.name for group in found.groups] == ["random", "margin"]
    assert found.full.name == "supervised"
    assert found.grid.tolist() == [100, 200, 300]
    assert found.rare == ["sign"]  # 2 % of the answers; car has 8 %, over a fifth of a third
    random, margin, full = rows(tables(found)[0].csv())
    assert float(full["final_miou_mean"]) == pytest.approx(0.6)
    assert float(full["rare_iou_mean"]) == pytest.approx(0.3)
    assert rows(tables(found)[2].csv())[2]["sign_mean"] == "0.3"
    # seeds lie 0, 0.01 and 0.02 above the curve: mean 0.01, deviation 0.01
    assert float(random["final_miou_mean"]) == pytest.approx(0.51)
    assert float(random["final_miou_sd"]) == pytest.approx(0.01)
    assert float(random["area_miou_mean"]) == pytest.approx(0.41)
    assert float(margin["area_miou_mean"]) == pytest.approx((0.45 + 0.53) / 2 + 0.01)
    assert float(margin["final_share_of_full"]) == pytest.approx(0.57 / 0.6)
    assert float(margin["rare_iou_mean"]) == pytest.approx(0.5 * 0.57)
    # 90 % of 0.6 is 0.54: from 0.51 at 200 to 0.57 at 300 clicks
    assert float(margin["clicks_to_90"]) == pytest.approx(250)
    assert float(margin["clicks_to_95"]) == pytest.approx(300)
    assert random["clicks_to_90"] == "inf"
    # of the seeds alone, from highest to lowest: 0.54 of 0.58 and of 0.56
    assert float(margin["clicks_to_90_low"]) == pytest.approx(200 + 100 * 2 / 6, rel=1e-5)
    assert float(margin["clicks_to_90_high"]) == pytest.approx(200 + 100 * 4 / 6, rel=1e-5)


def test_pairs_of_equal_seeds_are_tested(tmp_path):
    rng = np.random.default_rng(0)
    values = {name: rng.uniform(0.2, 0.6, (5, 3)) for name in ("random", "margin", "bald")}
    folders = [
        write_trial(tmp_path / f"{name}{seed}", name, seed, curve)
        for name, curves in values.items()
        for seed, curve in reversed(list(enumerate(curves)))
        if (name, seed) != ("bald", 3)
    ]
    found = compare(read_groups(folders, "clicks"), "clicks", against="random")
    by_name = {contest.ours: contest for contest in found.contests}
    area = {name: np.trapezoid(v, dx=1, axis=1) / 2 for name, v in values.items()}
    seeds = {"margin": [0, 1, 2, 3, 4], "bald": [0, 1, 2, 4]}
    expected = {}
    for name, kept in seeds.items():
        pair = area[name][kept], area["random"][kept]
        expected[name] = stats.ttest_rel(*pair).pvalue
        assert by_name[name].seeds == kept
        assert by_name[name].differences == pytest.approx(pair[0] - pair[1])
        assert by_name[name].p_t == pytest.approx(expected[name])
        wins = int((pair[0] > pair[1]).sum())
        assert by_name[name].score == (wins, 0, len(kept) - wins)
    low, high = sorted(expected, key=expected.get)
    assert by_name[low].holm_t == pytest.approx(min(1, 2 * expected[low]))
    assert by_name[high].holm_t == pytest.approx(max(min(1, 2 * expected[low]), expected[high]))
    said = " ".join(limits(found))
    assert "4 seeds can at best give p = 0.125" in said
    assert "5 seeds can at best give p = 0.0625" in said
    assert "After Holm over 2 tests that becomes p = 0.125 at best" in said
    every = compare(read_groups(folders, "clicks"), "clicks", against=None, family="all")
    assert len(every.contests) == 3
    assert found.common_seeds == [0, 1, 2, 4]
    assert found.ranks.shape == (5, 3)
    assert found.left_out == ["none", "0", "1", "2", "4"]


def test_ends_are_tested_where_asked(tmp_path):
    (contest,) = compared(tmp_path, measure="final").contests
    assert contest.differences == pytest.approx([0.06] * 3)
    assert contest.p_flip == 0.25
    assert np.isnan(contest.p_t)  # all differences are the same
    assert contest.score == (3, 0, 0)
    (sentence,) = findings(compared(tmp_path / "b", measure="final"))
    assert sentence.startswith("margin is 6.0 points above random at the last shared cost")
    assert "higher in 3 of 3 seeds; after Holm sign flips p = 0.25" in sentence


def test_nothing_is_guessed_beyond_a_curve(tmp_path):
    long = write_trial(tmp_path / "long", "random", 0, [0.1, 0.2, 0.4], [100, 200, 400])
    short = write_trial(tmp_path / "short", "margin", 0, [0.3, 0.5], [150, 300])
    found = compare(read_groups([long, short], "clicks"), "clicks", against="random")
    assert found.grid.tolist() == [150, 200, 300]
    assert found.measured(found.against, "final") == pytest.approx([0.3])
    assert any("ends at 300 clicks, where short (margin) ends" in said for said in limits(found))
    late = write_trial(tmp_path / "late", "bald", 0, [0.3], [500])
    with pytest.raises(UserError, match="late begins at 500, short ends at 300"):
        compare(read_groups([long, short, late], "clicks"), "clicks")


@pytest.mark.parametrize(
    ("other", "allow", "sentence"),
    [
        ({"train": "d9"}, (), r"differ in train \(d1 and d9\)"),
        ({"network__encoder": "resnet50"}, (), r"network.encoder \(resnet18 and resnet50\)"),
        ({"budget__prices": {"mask": 2}}, (), r"differ in budget.prices \(\{\} and None\)"),
        (
            {"budget__amount": 20.0},
            (),
            r"budget.amount \(10.0 and 20.0\).* allow=\[budget.amount\]",
        ),
        ({"budget__amount": 20.0}, ("budget.am",), "differ in budget.amount"),
        ({"budget__amount": 20.0, "val": "x"}, ("budget",), r"a and b differ in val \(d2 and x\)"),
        ({"budget__amount": 20.0, "val": "x"}, (), r"budget.amount .*; leave one out\.$"),
        ({"budget__amount": 20.0}, ("budget",), None),
        ({"method__lr": 0.1, "regions": "grid"}, (), None),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, other, allow, sentence):
    one = write_trial(tmp_path / "a", "random", 0, RANDOM)
    two = write_trial(tmp_path / "b", "margin", 0, MARGIN, **other)
    groups = read_groups([one, two], "clicks")
    if sentence:
        with pytest.raises(UserError, match=sentence):
            check_comparable(groups, None, allow)
    else:
        assert check_comparable(groups, None, allow) == (["budget.amount"] if allow else [])


def test_full_supervision_may_spend_what_it_likes_on_the_same_task(tmp_path):
    assert compared(tmp_path).excused == []  # its budget is another
    write_trial(tmp_path / "other", "supervised", 9, [0.7], [9e4], val="x", budget__amount=1e9)
    groups = read_groups([*sorted(tmp_path.glob("random_*")), tmp_path / "other"], "clicks")
    with pytest.raises(UserError, match=r"differ in val \(d2 and x\)"):
        compare(groups, "clicks", full="supervised")


def test_folders_that_are_no_runs(tmp_path):
    run = write_trial(tmp_path / "a", "random", 0, RANDOM)
    again = write_trial(tmp_path / "b", "random", 0, RANDOM)
    empty = write_trial(tmp_path / "c", "random", 1, [None, None])
    free = write_trial(tmp_path / "d", "random", 1, [0.1, 0.2], [0, 0])
    falling = write_trial(tmp_path / "e", "random", 1, [0.1, 0.2], [200, 100])
    bare = write_trial(tmp_path / "f", "random", 1, RANDOM)
    (bare / "run.json").unlink()
    for folders, sentence in [
        ([], "no run folder is given"),
        ([tmp_path], "is no run folder"),
        ([run, run], "is named twice"),
        ([run, again], "a and .*b are the same run, with seed 0"),
        ([empty], "no round with a measured mIoU"),
        ([free], "spent nothing on axis=clicks; give axis=images or axis=round"),
        ([falling], "clicks fall from one round to the next"),
        ([bare], "has no run.json"),
    ]:
        with pytest.raises(UserError, match=sentence):
            read_groups(folders, "clicks")
    with pytest.raises(UserError, match="unknown axis 'click'; did you mean 'clicks'"):
        read_groups([run], "click")


def test_of_rounds_that_cost_nothing_the_last_counts(tmp_path):
    run = write_trial(tmp_path / "a", "random", 0, [0.1, 0.2, None, 0.4], [10, 10, 20, 30])
    ((trial,),) = (group.trials for group in read_groups([run], "clicks"))
    assert trial.costs.tolist() == [10, 30]
    assert trial.miou.tolist() == [0.2, 0.4]
    assert trial.class_at("car", 20) == pytest.approx(0.3)
    assert np.isnan(trial.class_at("car", 31))
    assert np.isnan(trial.class_at("moon", 20))


def test_groups_are_named_by_what_sets_them_apart(tmp_path):
    base = {"method": "margin", "regions": "pixels", "method.lr": 0.1, "method.steps": 5}
    other = base | {"regions": "grid", "grid.size": 8, "method.lr": 0.2}
    assert group_names([base]) == ["margin"]
    assert group_names([base, other]) == ["margin (regions=pixels)", "margin (regions=grid)"]
    three = [base, base | {"method.lr": 0.3}, other]
    assert group_names(three)[:2] == ["margin (lr=0.1)", "margin (lr=0.3)"]
    names = {"random": RANDOM}
    folders = write_runs(tmp_path / "p", names, full=None)
    folders += write_runs(tmp_path / "g", names, full=None, regions="grid")
    groups = read_groups(folders, "clicks")
    with pytest.raises(UserError, match="against=random fits 2 groups; give against='random "):
        find_group(groups, "random", "against")
    assert find_group(groups, "random (regions=grid)", "against") is groups[1]
    with pytest.raises(UserError, match="unknown group in against= 'radom'; Known"):
        find_group(groups, "radom", "against")


def test_one_seed_is_shown_and_not_tested_for_more_than_it_is(tmp_path):
    groups = read_groups(
        write_runs(tmp_path, {"random": RANDOM, "margin": MARGIN}, seeds=[4]), "clicks"
    )
    found = compare(groups, "clicks", against="random", full="supervised")
    (contest,) = found.contests
    assert np.isnan([contest.p_flip, contest.p_t, contest.holm_flip, contest.holm_t]).all()
    assert "We test" not in methods_paragraph(found)
    assert found.ranks is None
    assert np.isnan(found.penalties).all()
    assert "1 seed can at best give p = 1" in limits(found)[0]
    assert any("single run has no spread" in said for said in limits(found))
    reach = found.reaches(found.groups[1])[0]
    assert np.isnan(reach.cost.low)
    written = files(found)
    assert "ranks.svg" not in written
    assert "penalties.svg" not in written
    assert "±" not in written["summary.md"].decode()
    assert "nan" not in written["summary.csv"].decode() + written["summary.md"].decode()


def test_a_row_of_one_seed_costs_the_others_nothing(tmp_path):
    """The family has the tests that are made: of two methods here, of which one has three seeds."""
    write_runs(tmp_path, {"random": RANDOM, "margin": MARGIN})
    write_runs(tmp_path / "lone", {"entropy": MARGIN}, seeds=[1], full=None)
    folders = [path.parent for path in sorted(tmp_path.rglob("rounds.csv"))]
    found = compare(read_groups(folders, "clicks"), "clicks", against="random", full="supervised")
    tests = {contest.ours: contest for contest in found.contests}
    assert tests["margin"].holm_flip == tests["margin"].p_flip == 0.25
    assert np.isnan(tests["entropy"].p_flip)
    # differences that are all the same leave no t test
    assert "over the family of the 0 and 1 tests that could be made," in methods_paragraph(found)
    assert not any("After Holm over" in said for said in limits(found))


def test_a_group_by_itself(tmp_path):
    groups = read_groups(write_runs(tmp_path, {"random": RANDOM}, full=None), "clicks")
    found = compare(groups, "clicks", against="random")
    assert found.contests == []
    assert found.level is None
    assert set(files(found)) >= {"curves.svg", "summary.csv", "methods.txt", PAGE}
    assert any("Nothing is tested" in said for said in limits(found))
    assert any("no run of full supervision" in said for said in limits(found))
    assert any("rare is not known" in said for said in limits(found))
    with pytest.raises(UserError, match="all runs are of full supervision"):
        compare(groups, "clicks", full="random")


def test_seeds_without_a_partner(tmp_path):
    folders = write_runs(tmp_path, {"random": RANDOM}, seeds=[0, 1], full=None)
    folders += write_runs(tmp_path, {"margin": MARGIN}, seeds=[2, 3], full=None)
    found = compare(read_groups(folders, "clicks"), "clicks", against="random")
    assert found.contests[0].seeds == []
    assert "no seed is common to both" in findings(found)[0]
    assert any("have no seed in common" in said for said in limits(found))
    assert rows(files(found)["tests.csv"].decode())[0]["p_t"] == ""


def test_files_are_the_same_every_time_and_say_the_same(tmp_path):
    found = compared(tmp_path / "runs")
    written = files(found)
    assert written == files(compared(tmp_path / "again"))
    for name in ("curves", "differences", "penalties", "ranks"):
        assert written[f"{name}.svg"].startswith(b"<?xml")
        assert written[f"{name}.pdf"].startswith(b"%PDF")
    page = Page(written[PAGE].decode())
    sources = [image["src"] for image in page.find("img")]
    assert len(sources) == 4
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert not re.search(r'(?:src|href)="(?!data:)', written[PAGE].decode())
    assert str(tmp_path) not in written[PAGE].decode()
    cells = [e["text"] for e in page.find("td")]
    assert "51.0 ± 1.0" in cells
    assert "3/0/0" in cells
    markdown = written["summary.md"].decode().splitlines()
    assert markdown[0].count("|") == markdown[2].count("|") > 8
    assert r"51.0 $\pm$ 1.0" in written["summary.tex"].decode()
    assert rows(written["penalties.csv"].decode())[1] == (
        {"method": "margin", "random": "0", "margin": ""}  # differences without spread
    )
    assert written["ranks.csv"].decode().splitlines()[:2] == ["seed left out,random,margin",
                                                              "none,2,1"]  # fmt: skip
    rounds = rows(written["curves.csv"].decode())
    assert len(rounds) == 2 * 3 * 3 + 3 * 2
    assert rounds[0] == {"method": "random", "seed": "0", "run": "random_0", "clicks": "100",
                         "miou": "0.3"}  # fmt: skip
    assert latex_text(r"a_b & 5 % \x") == r"a\_b \& 5 \% \textbackslash{}x"


def test_the_paragraph_says_what_was_done(tmp_path):
    text = methods_paragraph(compared(tmp_path, allowed=("budget",)))
    for said in (
        "We compare random and margin with 3 seeds each",
        "(100 clicks to 300 clicks); nothing is extrapolated",
        "Full supervision (3 seeds) reaches 60.0 % mIoU",
        "Rare classes are sign",
        "every method against random, in pairs of runs with the same seed, two-sided",
        "Holm's method over the family of the 0 and 1 tests that could be made",
        "at which share of 3 budgets",
    ):
        assert said in text, said


@pytest.mark.usefixtures("one_figure")
def test_check_finds_what_differs(tmp_path):
    found, out = compared(tmp_path / "runs"), tmp_path / "out"
    write_study(found, out)
    assert set(check_study(found, out)) == {path.name for path in out.iterdir()}
    table = out / "tests.csv"
    table.write_text(table.read_text().replace("margin", "mergin"))
    (out / "classes.tex").unlink()
    page = out / PAGE
    page.write_text(page.read_text().replace("51.0", "52.0"))
    with pytest.raises(UserError) as caught:
        check_study(found, out)
    assert "tests.csv differs" in str(caught.value)
    assert "classes.tex is missing" in str(caught.value)
    assert f"{PAGE} differs" in str(caught.value)
    assert "curves" not in str(caught.value)
    write_study(found, out)
    (out / "ranks.pdf").touch()
    with pytest.raises(UserError, match=r"give: ranks.pdf is left from other runs; write"):
        check_study(found, out)
    (out / "notes.md").touch()
    own = tmp_path / "own"
    own.mkdir()
    (own / "ranks.pdf").touch()
    write_study(found, own)
    assert (own / "ranks.pdf").exists(), "nobody knows whose it is"
    write_study(found, out)  # the advice holds, and what is somebody else's stays
    assert not (out / "ranks.pdf").exists()
    assert (out / "notes.md").exists()
    check_study(found, out)
    # figures of another release are not compared, and the page only without them
    write_study(found, out)
    figure = out / "curves.svg"
    figure.write_bytes(re.sub(rb"Matplotlib v[\d.]+", b"Matplotlib v3.8.0", figure.read_bytes()))
    page.write_text(re.sub(r"base64,\w{40}", "base64,AAAA", page.read_text()))
    assert "curves.svg" not in check_study(found, out)
    figure.write_bytes(figure.read_bytes() + b" ")
    assert "curves.svg" not in check_study(found, out)


@pytest.mark.usefixtures("one_figure")
def test_the_command(tmp_path, capsys):
    folders = write_runs(tmp_path / "seed=0,1,2", {"random": RANDOM, "margin": MARGIN})
    words, out = [*map(str, folders), "--axis", "clicks", "measure=final"], tmp_path / "out"
    assert main([*words, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "| margin | 3 | 57.0 ± 1.0 |" in printed
    assert printed.endswith(f"{out / PAGE}\n")
    assert main([*words, f"--out={out}", "--check"]) == 0
    assert "are what these runs give" in capsys.readouterr().out
    bare = tmp_path / "bare"
    assert main([*words, f"out={bare}", "plots=false"]) == 0
    assert not list(bare.glob("*.svg"))
    assert {"penalties.csv", "ranks.csv", PAGE} < {path.name for path in bare.iterdir()}
    capsys.readouterr()
    assert main([*words, f"out={out}", "--check", "rare=[car]"]) == 2
    assert "summary.csv differs" in capsys.readouterr().err
    for more, sentence in [
        (["--agianst", "margin"], "unknown option '--agianst'; did you mean '--against'"),
        (["--against"], "--against stands without a value"),
        (["-x"], "cannot read '-x'"),
        (["rare=[moon]"], "unknown class in rare= 'moon'"),
        (["measure=end"], "unknown measure 'end'"),
        (["out=nowhere", "--check"], "nowhere is no folder"),
    ]:
        assert main([*words, *more]) == 2
        assert sentence in capsys.readouterr().err
    assert main(["--help"]) == 0
    assert "against = random" in capsys.readouterr().out
