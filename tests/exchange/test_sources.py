"""Files of unknown origin: what could make a parser expand, sink or run is refused."""

import random
import zipfile

import pytest

from alseg.core.errors import UserError
from alseg.exchange import sources
from alseg.exchange.sources import Source

LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>
<annotations>&b;</annotations>"""
OUTSIDE = (
    b"""<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotations>&a;</annotations>"""
)


@pytest.mark.parametrize("text", [LAUGHS, OUTSIDE, b"<!DOCTYPE a><a/>"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_document_types_are_refused(text, encoding, tmp_path):
    (tmp_path / "a.xml").write_bytes(
        text.replace(b'<?xml version="1.0"?>', b"").decode().encode(encoding)
    )
    with pytest.raises(UserError, match="declares a document type"):
        Source(tmp_path / "a.xml").xml("a.xml")


@pytest.mark.parametrize("text", [b"", b"<a>", b"\xff\xfe", b"<a>" * 100 + b"</a>" * 100, b"PK"])
def test_what_is_no_xml_is_refused(text, tmp_path):
    (tmp_path / "a.xml").write_bytes(text)
    with pytest.raises(UserError, match="is not the XML of annotations"):
        Source(tmp_path / "a.xml").xml("a.xml")


@pytest.mark.parametrize("text", [b"", b"[" * 100000, b"[NaN]", b"\xff", b"1" * 10000])
def test_what_is_no_json_is_refused(text, tmp_path):
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(UserError, match="is not JSON"):
        Source(tmp_path / "a.json").json("a.json")


def test_archives_and_folders(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../out/a.xml", "<a/>")  # never unpacked, so that it goes nowhere
        archive.writestr("zeros.bin", bytes(1 << 20))
    source = Source(tmp_path / "a.zip")
    assert source.xml(source.one(".xml")).tag == "a"
    monkeypatch.setattr(sources, "MOST_BYTES", 1 << 19)
    with pytest.raises(UserError, match="holds 2 files of 1 MiB together"):
        Source(tmp_path / "a.zip")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "b.json").write_text("{}")
    (folder / "link.json").symlink_to(tmp_path / "a.zip")
    assert Source(folder).names(".json") == ["b.json"]
    with pytest.raises(UserError, match=r"no file named \*.xml"):
        Source(folder).one(".xml")
    with pytest.raises(UserError, match="cannot read"):
        Source(tmp_path / "nowhere")


def test_a_damaged_archive_is_told(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.json", random.Random(0).randbytes(500))
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[40:50] = bytes(10)
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read a.json in .*a.zip"):
        Source(tmp_path / "a.zip").read("a.json")
