"""The doors that inputs come through, each opened as a user or a run opens it."""

import contextlib
import io
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from alseg.active.checkpoints import read_checkpoint
from alseg.active.driver import drive
from alseg.cli import command
from alseg.cli import compare as compare_command
from alseg.cli import report as report_command
from alseg.cli import run as run_command
from alseg.cli.compose import GROUPS, options
from alseg.core.errors import UserError
from alseg.data.masks import read_class_file
from alseg.inference.trained import load_segmenter
from alseg.labels.human import check_waiting, read_answers, write_questions
from alseg.labels.tables import Answers, Query
from alseg.regions.files import Files
from tests.fuzz import inputs
from tests.fuzz.inputs import SPECIALS, damaged, json_files, put
from tests.methods.test_contract import short
from tests.report.runs import write_config, write_pictures, write_run
from tests.toys import ToyImages, toy_pool, toy_run

SOUND = inputs  # the module of sound and crafted contents


@dataclass(frozen=True)
class Door:
    """A way in.

    Attributes:
        name: For the table.
        given: Inputs at random.
        crafted: Inputs that are always tried.
        enter: Takes an empty folder and an input.
        weight: Share of the inputs, as a factor.
    """

    name: str
    given: st.SearchStrategy[Any]
    enter: Callable[[Path, Any], None]
    crafted: list[Any] = field(default_factory=list)
    weight: float = 1.0


def as_command(main: Callable[[list[str]], int], words: list[str]) -> None:
    """A command whose status says that it answered by a sentence."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        status = main(words)
    if status == command.BAD_INPUT:
        if not said.getvalue().startswith("error: ") or "Traceback" in said.getvalue():
            raise RuntimeError(f"no sentence: {said.getvalue()[:300]}")
        raise UserError(said.getvalue())


# -- answers ------------------------------------------------------------------------------------


@cache
def asked(answer: str):
    images, pool = toy_pool(4)
    image, unit = np.arange(4), np.array([0, 3, 5, 7])
    query = Query(0, "region", answer, "blocks", image, unit, np.zeros(4, np.float32))
    return images, pool, query


def answer_table(folder: Path, given: tuple[str, Any]) -> None:
    kind, content = given
    images, pool, query = asked(kind)
    round_folder = folder / "round_000"
    round_folder.mkdir(parents=True)
    query.save(round_folder / "query.npz")
    write_questions(query, pool, images, round_folder)
    put(round_folder / "answers.csv", content)
    if not isinstance(content, inputs.Special) or content.kind != "gone":
        read_answers(round_folder / "answers.csv", query, pool, images)
        check_waiting(folder)


TABLES = [
    b"row,answer\n0,red\n1,green\n2,blue\n3,void\n",
    b"row,answer,seconds\n0,red;green,3.5\n1,blue,2\n2,unsure,1\n3,0,9\n",
    b"sep=;\r\nrow;answer\r\n0;red\r\n1;green\r\n",
    "row\tanswer\n0\tred\n1\tgreen\n".encode("utf-16"),
]
CRAFTED_TABLES = [
    b"row,answer\n0," + b"x" * 140_000 + b"\n", b"row,answer\n" + b"9" * 140_000 + b",red\n",
    b"row,answer\n0,\"" + b"red\n" * 50_000, b"row,answer\n" + b"0,red\n" * 200_000,
    b"row,answer\n" + b",".join([b"0"] * 200_000), b"row,answer\n0,red\0\n", b"\xff\xfe0",
    b"row,answer\n-1,red\n", b"row,answer\n" + "٣".encode() + b",red\n", b"row,answer\n0,red,nan\n",
    b"row,answer,seconds\n0,red,1e999\n1,red,-5\n2,red,nan\n", b"answer,row,row\n0,0,0\n",
    b"\n" * 9,
    b"row,answer\n" + b"99999999999999999999999,red\n", b"row,answer\n0," + b"red;" * 90_000,
    b"row,answer\n0,=cmd|' /C calc'!A0\n", b",".join([b"row"] * 90_000), b"", b"\xef\xbb\xbf",
    *SPECIALS,
]  # fmt: skip

tables = Door(
    "answer tables",
    st.tuples(
        st.sampled_from(["dominant", "class_set", "mask"]),
        damaged(*TABLES) | st.binary(max_size=200) | st.text(max_size=200).map(str.encode),
    ),
    answer_table,
    [(kind, one) for kind in ("dominant", "class_set") for one in CRAFTED_TABLES],
    2.0,
)


def mask_answer(folder: Path, given: tuple[str, Any]) -> None:
    name, content = given
    images, pool, query = asked("mask")
    with contextlib.suppress(OSError, ValueError):  # some names cannot be had at all
        put(folder / name, content)
    line = '0,"' + name.replace('"', '""') + '"\n'
    (folder / "answers.csv").write_text(f"row,answer\n{line}", "utf-8", errors="replace")
    read_answers(folder / "answers.csv", query, pool, images)


def _pictures() -> list[bytes]:
    from PIL import Image

    found = []
    labels = Image.fromarray(np.zeros((32, 48), np.uint8))
    for kind in ("PNG", "TIFF", "BMP", "GIF", "WEBP"):
        buffer = io.BytesIO()
        labels.save(buffer, kind, **({"lossless": True} if kind == "WEBP" else {}))
        found.append(buffer.getvalue())
    palette = labels.convert("P")
    buffer = io.BytesIO()
    palette.save(buffer, "PNG")
    return [*found, buffer.getvalue()]


NAMES = ["a.png", "a.tif", "a.webp", "a.bmp", "a", "a.npy"]
ODD_NAMES = ["n" * 240 + ".png", "n" * 300 + ".png", "../" * 2000, ".", "", "/dev/zero",
             "/dev/stdin", "/proc/self/mem", "\0.png", "a\nb.png", "~root/x.png"]  # fmt: skip
masks = Door(
    "masks as answers",
    st.tuples(st.sampled_from(NAMES), damaged(*_pictures()) | st.binary(max_size=100)),
    mask_answer,
    [("a.png", one) for one in [*inputs.CRAFTED_MASKS, *SPECIALS]]
    + [("a.tif", one) for one in [*inputs.CRAFTED_MASKS[13:20], *SPECIALS]]
    + [(name, b"") for name in ODD_NAMES],
    2.0,
)  # fmt: skip

# -- files of a run folder ----------------------------------------------------------------------


OWNER = {"method": "random", "seed": 0}


@cache
def finished(root: str) -> Path:
    """A finished run of two rounds."""
    folder = Path(root) / "finished"
    run = toy_run(folder, rounds=2, method=short("random"))
    run.ledger.claim(OWNER)
    drive(run)
    return folder


def resumed(name: str) -> Callable[[Path, Any], None]:
    """A run that goes on where one of its files was exchanged."""

    def enter(folder: Path, content: Any) -> None:
        source = finished(os.environ["ALSEG_FUZZ"])
        for path in source.rglob("*"):
            if path.is_file() and path.suffix != ".ckpt" and "log" not in path.parts:
                target = folder / path.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, target)
        put(folder / name, content)
        run = toy_run(folder, rounds=2, method=short("random"))
        run.ledger.check_owner(OWNER)
        shutil.copytree(source / "round_000" / "train", folder / "round_000" / "train",
                        dirs_exist_ok=True)  # fmt: skip
        drive(run)

    return enter


METRICS = {
    "miou": 0.5, "iou": [0.5, None, 0.5], "stages": {"train": 0.5}, "train_s": 1.5, "measures": {},
}  # fmt: skip
of_runs = [
    Door("run.json", json_files({"method": "random", "seed": 0}), resumed("run.json"),
         [*inputs.CRAFTED_JSON, *SPECIALS[:3]], 0.15),
    Door("metrics.json", json_files(METRICS), resumed("round_001/metrics.json"),
         [*inputs.CRAFTED_JSON, *SPECIALS[:3]], 0.15),
    Door("scoring.json", json_files({"score_s": 1.5, "select_s": 0.5}),
         resumed("round_000/scoring.json"), [*inputs.CRAFTED_JSON, *SPECIALS[:3]], 0.15),
]  # fmt: skip


def _archives() -> list[bytes]:
    _, _, query = asked("dominant")
    answers = Answers(0, "region", "dominant", "blocks", 3, query.image, query.unit,
                      label=np.zeros(4, np.uint8))  # fmt: skip
    found = []
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for number, one in enumerate((query, answers)):
            path = Path(folder) / f"{number}.npz"
            one.save(path)
            found.append(path.read_bytes())
    return found


def archive(folder: Path, content: Any) -> None:
    path = folder / "table.npz"
    put(path, content)
    refused = []
    for kind in (Query, Answers):
        try:
            kind.load(path)
        except (UserError, OSError) as error:
            refused.append(error)
    if len(refused) == 2:
        raise refused[0]


archives = Door(
    "query.npz, answers.npz",
    damaged(*_archives()) | st.binary(max_size=100),
    archive,
    [inputs.npz(meta=one) for one in inputs.CRAFTED_NPY]
    + [inputs.npz(meta=inputs.shaped("(2,)", "|u1", b"{}"), rows=one) for one in inputs.CRAFTED_NPY]
    + [inputs.bomb(1 << 28), inputs.npz(), *SPECIALS, *inputs.CRAFTED_NPY[:3]],
    2.0,
)


def region_map(folder: Path, content: Any) -> None:
    images = ToyImages(1)
    put(folder / f"{images.names[0]}.npy", content)
    source = Files(str(folder))
    source.check(images)
    source(images.image(0), images.names[0])


def _sound_npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((32, 48), np.int32))
    return buffer.getvalue()


region_maps = Door(
    "region maps (.npy)",
    damaged(_sound_npy(), _sound_npy()[:140]) | st.binary(max_size=100),
    region_map,
    [*inputs.CRAFTED_NPY, *SPECIALS],
)

# -- reports ------------------------------------------------------------------------------------


def reported(name: str, several: bool = False) -> Callable[[Path, Any], None]:
    """The page of a run folder of which one file was exchanged."""

    def enter(folder: Path, content: Any) -> None:
        runs = [folder / f"run_{n}" for n in range(2)]
        for run in runs:
            write_run(run, [0.3, 0.4], about=ABOUT)
            write_config(run)
            write_pictures(run, 1)
            (run / "run.json").write_text('{"method": "mulquery", "seed": 3}')
            log = run / "round_001" / "train" / "log" / "version_0"
            log.mkdir(parents=True)
            (log / "metrics.csv").write_bytes(LOG)
        (runs[0] / name).parent.mkdir(parents=True, exist_ok=True)
        put(runs[0] / name, content)
        if several:
            as_command(compare_command.main, [*map(str, runs), f"out={folder / 'study'}"])
        else:
            as_command(report_command.main, [str(runs[0])])

    return enter


ABOUT = {"title": "t", "classes": ["sky", "road"], "colors": [[1, 2, 3], [4, 5, 6]], "notes": ["n"],
         "unit": "region", "answer": "mask", "pool": {"images": 4}, "answered": [3, 4]}  # fmt: skip
LOG = b"epoch,step,share/a,loss\n0,1,0.5,1\n0,2,,1\n"
CONFIG = b"method:\n  name: mulquery\n  steps: 4\ndata: {name: camvid}\nseed: 3\n"
ROUNDS = (
    b"round,images,units,clicks,seconds,miou,iou_sky\n0,2,10,25,1800,0.3,0.3\n1,4,9,30,90,0.4,\n"
)
CRAFTED_CSV = [
    b"", b"round,miou\n", b"round,miou\nnan,inf\n", b"round,miou\n1e30,0.5\n", b"\0", b"\xff",
    b"round,miou\n-1,0.5\n", b"round,miou\n0,1e400\n", b"round,miou\n0," + b"1" * 140_000,
    b'round,miou\n0,"' + b"x\n" * 90_000, b"round,miou,miou\n0,1,1\n", b"round,miou\n0.5,0.5\n",
    b"round,miou\n" + b"0,0.5\n" * 3000, b"step,share/a\nx,y\n", b"step,share/a\n1e9,2\n",
    b"share/a\n0.5\n", b",".join([b"round"] * 100_000) + b"\n", b"step,share/a\n1\n", *SPECIALS[:3],
]  # fmt: skip
of_reports = [
    Door("rounds.csv", damaged(ROUNDS), reported("rounds.csv"), CRAFTED_CSV, 0.3),
    Door("metrics.csv of a stage", damaged(LOG),
         reported("round_001/train/log/version_0/metrics.csv"), CRAFTED_CSV, 0.3),
    Door("config.yaml", damaged(CONFIG), reported("config.yaml"),
         [*inputs.CRAFTED_YAML, *SPECIALS], 0.3),
    Door("report.json", json_files(ABOUT), reported("report.json"),
         [*inputs.CRAFTED_JSON, *SPECIALS], 0.2),
    Door("pictures/index.json",
         json_files({"image": "a", "caption": "b", "files": {"asked": "0_asked.jpg"}}),
         reported("round_001/pictures/index.json"), [*inputs.CRAFTED_JSON, *SPECIALS], 0.15),
    Door("metrics.json in reports", json_files(METRICS), reported("round_001/metrics.json"),
         [*inputs.CRAFTED_JSON, *SPECIALS], 0.15),
    Door("run.json in comparisons", json_files({"method": "mulquery", "seed": 3}),
         reported("run.json", several=True), [*inputs.CRAFTED_JSON, *SPECIALS], 0.15),
]  # fmt: skip

# -- checkpoints --------------------------------------------------------------------------------


@cache
def checkpoint(root: str) -> dict[str, Any]:
    path = Path(root) / "checkpoint"
    run = toy_run(path, rounds=1, method=short("random"))
    drive(run)
    (found,) = path.glob("round_000/*/last.ckpt")
    return torch.load(found, weights_only=True)


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def described(sound: dict[str, Any], part: str, key: str, value: Any) -> dict[str, Any]:
    about = {**sound["alseg"]}
    if part:
        about[part] = {**about[part], key: value}
    else:
        about[key] = value
    return {**sound, "alseg": about}


#: Part of a description, key and value.
LIES = [
    ("network", "outputs", 10**9), ("network", "outputs", -1), ("network", "outputs", "x"),
    ("network", "outputs", None), ("network", "in_channels", 10**9), ("network", "in_channels", 0),
    ("network", "architecture", "Nothing"), ("network", "architecture", 3),
    ("network", "encoder", "tu-vit_giant_patch14_dinov2"), ("network", "encoder", "resnet9"),
    ("network", "encoder", ["a"]), ("network", "encoder", "timm-efficientnet-l2"),
    ("network", "options", {"decoder_pyramid_channels": 10**9}), ("network", "options", [1]),
    ("network", "options", {"encoder_depth": 10**9}), ("network", "options", {"x" * 240: 1}),
    ("network", "options", {"decoder_pyramid_channels": 20_000}),
    ("network", "options", {"encoder_weights": "imagenet"}), ("network", "cosine", "x"),
    ("", "network", []), ("", "network", {}), ("", "network", "x"), ("", "num_classes", 10**12),
    ("", "num_classes", -1), ("", "num_classes", "x"), ("", "temperature", 0.0),
    ("", "temperature", "x"), ("", "temperature", float("nan")), ("", "network_at", 3),
    ("", "network_at", "x" * 240), ("", "images", []), ("", "images", {"mean": "x", "std": 3}),
    ("images", "classes", "x"), ("images", "classes", [1, 2]), ("images", "size", [10**9, 10**9]),
    ("images", "mean", [1]), ("images", "std", [0, 0, 0]), ("images", "bands", 3),
    ("images", "masks", [1]), ("images", "scale", "x"), ("images", "range", "x"),
    ("images", "colors", [[1]]),
]  # fmt: skip


def lied(folder: Path, given: Any) -> None:
    sound = checkpoint(os.environ["ALSEG_FUZZ"])
    path = folder / "last.ckpt"
    if isinstance(given, tuple):
        given = saved(described(sound, *given))
    elif callable(given):
        given = given(sound)
    put(path, given)
    refused = []
    for read in (read_checkpoint, lambda path: load_segmenter(path, "cpu")):
        try:
            read(path)
        except (UserError, OSError) as error:
            refused.append(error)
    if refused:
        raise refused[-1]


def strided(sound):
    """A weight of petabytes in four bytes."""
    state = {k: torch.zeros(1).expand(10**15) for k in sound["state_dict"]}
    return saved({**sound, "state_dict": state})


def cut(share):
    return lambda sound: saved(sound)[: int(share * len(saved(sound)))]


def hurt(where, new):
    def make(sound):
        data = bytearray(saved(sound))
        at = int(where * len(data))
        data[at : at + len(new)] = new
        return bytes(data)

    return make


checkpoints = Door(
    "checkpoints",
    st.builds(hurt, st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=12))
    | st.builds(cut, st.floats(0, 1))
    | st.builds(
        lambda lie, value: (lie[0], lie[1], value), st.sampled_from(LIES), inputs.JSON
    ),
    lied,
    [*LIES, strided, inputs.CODE, b"", b"PK\3\4", inputs.npz(meta=b""), saved([]), saved({}),
     saved({"state_dict": {}, "epoch": 0}), saved({"state_dict": [], "epoch": "x"}),
     lambda sound: saved({**sound, "alseg": 3}), lambda sound: saved({**sound, "loops": 3}),
     lambda sound: saved({**sound, "state_dict": {1: 2}}), *SPECIALS],
    0.15,
)  # fmt: skip

# -- options ------------------------------------------------------------------------------------


def words(folder: Path, given: list[str]) -> None:
    """A command that cannot begin: it asks for no round."""
    here = Path.cwd()
    os.chdir(folder)
    try:
        rest = ["data=synthetic", "data.train=1", "data.val=0", "network.weights=null"]
        base = [] if any(w.startswith("run_dir=") for w in given) else ["run_dir=runs"]
        as_command(run_command.main, [*rest, *base, "cache=cache", *given, "rounds=0"])
    finally:
        os.chdir(here)


KEYS = sorted([*GROUPS, "run_dir", "seed", "rounds", "query", "cache", "workers", "plugins",
               "method.steps", "method.lr", "budget.amount", "regions.region_size", "data.size",
               "network.options", "network.encoder", "trainer.devices", "augment.crop", "preset",
               "eval_batch_size", "keep_rounds", "trainer.precision", "augment.scale"])  # fmt: skip
ODD = ["[]", "{}", "null", "", " ", "[[[[", "{a: {b: {c: 1}}}", "nan", "inf", "-1", "1e309", "0x10",
       "9" * 400, "x" * 240, "../..", "~nobody", "*a", "&a [*a]", "!!python/name:os.system",
       "'", '"', "\0", "\udcff", "é", "true", "[1,2", "list:", "replay:", "list:/dev/zero",
       "replay:" + "x" * 300, "1_000", "[1, [2, [3]]]", "os", "[os.system]", "%s",
       "$(id)"]  # fmt: skip
ODD_PATHS = ["[]", "{}", "x" * 240, "x" * 300, "a" + "/a" * 2500, "", " ", "\0", "\udcff", "nul\n"]
lines = Door(
    "words of a command",
    st.lists(
        st.builds(
            lambda key, text: f"{key}={text}",
            st.sampled_from([key for key in KEYS if key not in ("run_dir", "cache", "plugins")])
            | st.text(max_size=12),
            st.sampled_from(ODD) | st.text(max_size=20),
        )
        | st.text(max_size=20),
        min_size=1,
        max_size=3,
    ),
    words,
    [[f"run_dir={text}"] for text in ODD_PATHS]
    + [[f"cache={text}"] for text in ODD_PATHS]
    + [[f"{key}={text}"] for key in ("method", "data.size", "preset", "query") for text in ODD],
    0.7,
)  # fmt: skip


def preset(folder: Path, content: Any) -> None:
    put(folder / "preset.yaml", content)
    options(f"preset={folder / 'preset.yaml'}")


PRESET = (
    b"method: random\nbudget: {amount: 30}\nmethod.steps: 4\nnetwork:\n  options: {a: [1, 2]}\n"
)
presets = Door(
    "presets",
    damaged(PRESET) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace")),
    preset,
    [*inputs.CRAFTED_YAML, *SPECIALS],
)


def classes(folder: Path, given: tuple[str, Any]) -> None:
    path = folder / f"classes.{given[0]}"
    put(path, given[1])
    read_class_file(path)


class_files = Door(
    "class files",
    st.sampled_from([
        ("json", b'{"1": "road", "2": "car"}'), ("json", b'["road", "car"]'),
        ("yaml", b"road: [1, 2, 3]\ncar: '#ffffff'\n"),
    ]).flatmap(lambda one: st.tuples(st.just(one[0]), damaged(one[1]))),
    classes,
    [("json", one) for one in [*inputs.CRAFTED_JSON, *SPECIALS]]
    + [("yaml", one) for one in [*inputs.CRAFTED_YAML, *SPECIALS]],
    0.5,
)  # fmt: skip

DOORS = [tables, masks, *of_runs, archives, region_maps, *of_reports, checkpoints, lines, presets,
         class_files]  # fmt: skip
