import os
import pickle

from alseg.data.reading.known import KnownFiles


def put(path, text, time=None):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    if time is not None:
        os.utime(path, ns=(time, time))
    return path


def test_facts_are_kept_until_a_file_changes(tmp_path):
    a, b = put(tmp_path / "x/a", "one"), put(tmp_path / "y/b", "two")
    known = KnownFiles(tmp_path / "cache")
    known.put(a, "size", "1 2")
    known.put(b, "size", "3 4")
    known.put(b, "fine", "yes")
    known.put(tmp_path / "gone", "size", "5 6")
    known.save()
    again = KnownFiles(tmp_path / "cache")
    assert again.kept
    assert [again.get(path, "size") for path in (a, b, tmp_path / "gone")] == ["1 2", "3 4", None]
    assert [again.get(path, "fine") for path in (a, b)] == [None, "yes"]
    before = os.stat(b)
    put(b, "TWO", before.st_mtime_ns)  # of the same size, and set back to the same time
    assert os.stat(b).st_mtime_ns == before.st_mtime_ns
    later = KnownFiles(tmp_path / "cache")
    assert [later.get(b, fact) for fact in ("size", "fine")] == [None, None]
    later.put(b, "fine", "no")
    later.save()
    last = KnownFiles(tmp_path / "cache")
    assert [last.get(b, fact) for fact in ("size", "fine")] == [None, "no"]
    assert last.get(a, "size") == "1 2"


def test_two_processes_keep_what_both_found(tmp_path):
    a, b = put(tmp_path / "x/a", "one"), put(tmp_path / "x/b", "two")
    first, second = KnownFiles(tmp_path), KnownFiles(tmp_path)
    first.put(a, "size", "1 2")
    first.save()
    second.put(b, "size", "3 4")
    second.put(a, "fine", "yes")
    second.save()
    both = KnownFiles(tmp_path)
    assert [both.get(a, "size"), both.get(b, "size"), both.get(a, "fine")] == ["1 2", "3 4", "yes"]


def test_relative_paths_are_told_apart_by_their_folder(tmp_path, monkeypatch):
    for folder in ("x", "y"):
        put(tmp_path / folder / "a", folder)
        monkeypatch.chdir(tmp_path / folder)
        known = KnownFiles(tmp_path)
        assert known.get(type(tmp_path)("a"), "name") is None
        known.put(type(tmp_path)("a"), "name", folder)
        known.save()
    known = KnownFiles(tmp_path)
    assert [known.get(tmp_path / f / "a", "name") for f in ("x", "y")] == ["x", "y"]


def test_old_facts_go_first_and_workers_get_none(tmp_path):
    a = put(tmp_path / "x/a", "one")
    known = KnownFiles(tmp_path)
    for number in range(30):
        known.put(a, f"fact {number}", "yes")
    known.save()
    again = KnownFiles(tmp_path)
    assert again.get(a, "fact 0") is None
    assert again.get(a, "fact 29") == "yes"
    copy = pickle.loads(pickle.dumps(again))
    assert not copy.kept
    assert copy.get(a, "fact 29") is None


def test_a_folder_that_cannot_be_written_costs_time_alone(tmp_path):
    a = put(tmp_path / "x/a", "one")
    known = KnownFiles(a)  # a file
    known.put(a, "size", "1 2")
    known.save()
    assert known.get(a, "size") == "1 2"
