import pytest
from starlette.testclient import TestClient

from alseg.label.desk import Desk
from alseg.label.server import COOKIE, STATIC, Door, Office, is_own_name, make_app
from tests.label.rounds import Asked

BASE = "http://127.0.0.1:8000"
JSON = {"origin": BASE, "content-type": "application/json"}


@pytest.fixture
def served(tmp_path):
    asked = Asked(tmp_path, "superpixel")
    desk = Desk(asked.read())
    links = []
    door = Door(["ann", "ben"], lambda name, token: links.append((name, token)))
    app = make_app(Office(desk), door)
    yield app, door, desk, links
    desk.close()


def client_of(app, door, name="ann"):
    client = TestClient(app, base_url=BASE)
    assert client.get(f"/?token={door.token(name)}").status_code == 200
    return client


def answer(row, nonce="nonce-of-it"):
    return {
        "round": 0, "rows": [row], "value": 1, "seconds": 1, "clicks": 1, "nonce": nonce
    }  # fmt: skip


def test_a_link_is_good_for_one_visit_and_the_next_one_is_announced(served):
    app, door, _, links = served
    token = door.token("ann")
    client = TestClient(app, base_url=BASE)
    assert client.head(f"/?token={token}").status_code == 401  # a preview does not use it up
    reply = client.get(f"/?token={token}")
    cookie = reply.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert token not in reply.text
    assert client.get("/").status_code == 200
    assert client.get("/api/state").json()["annotator"] == "ann"
    assert TestClient(app, base_url=BASE).get(f"/?token={token}").status_code == 401
    assert links == [("ann", door.token("ann"))]
    assert door.token("ann") != token
    elsewhere = TestClient(app, base_url="http://127.0.0.1:8001", cookies=client.cookies)
    assert elsewhere.get("/").status_code == 401  # the cookie of another port
    assert client_of(app, door, "ben").get("/api/state").json()["annotator"] == "ben"


@pytest.mark.parametrize(
    "path",
    ["/", "/?token=wrong", "/api/about", "/api/state", "/api/grid", "/crop/0/0", "/overview/0/0"],
)
def test_nobody_comes_in_without_a_cookie(served, path):
    client = TestClient(served[0], base_url=BASE, cookies={COOKIE.format(port=8000): "guessed"})
    assert client.get(path).status_code == 401


def test_writes_are_taken_from_the_page_alone(served):
    app, door, desk, _ = served
    client = client_of(app, door)
    row = client.get("/api/state").json()["questions"][0]["row"]
    for headers, status in (
        ({"content-type": "application/json"}, 403),  # no origin
        ({**JSON, "origin": "http://evil.example"}, 403),
        ({**JSON, "origin": "null"}, 403),
        ({**JSON, "origin": "http://localhost:8000"}, 403),  # another name of ours, not this page
        ({**JSON, "content-type": "text/plain"}, 415),
        ({**JSON, "content-type": "application/x-www-form-urlencoded"}, 415),
        ({**JSON, "host": "evil.example:8000"}, 421),
        ({**JSON, "host": "evil.example:8000", "origin": "http://evil.example:8000"}, 421),
    ):
        reply = client.post("/api/answer", json=answer(row), headers=headers)
        assert reply.status_code == status, headers
    stranger = TestClient(app, base_url=BASE)
    assert stranger.post("/api/answer", json=answer(row), headers=JSON).status_code == 401
    assert not desk.board.given
    assert client.get("/api/state", headers={"host": "evil.example"}).status_code == 421
    reply = client.post("/api/answer", json=answer(row), headers=JSON)
    assert reply.status_code == 200
    assert reply.json()["answered"] == 1
    assert reply.json()["questions"][0]["row"] != row


@pytest.mark.parametrize(
    ("content", "status"),
    [("no json", 400), ("[1]", 400), ('{"round": NaN}', 400), ("[" * 10**5, 400), ("{}", 409)],
)
def test_requests_that_are_no_requests(served, content, status):
    app, door, _, _ = served
    reply = client_of(app, door).post("/api/answer", content=content, headers=JSON)
    assert reply.status_code == status


def test_long_requests_are_cut_off(served, monkeypatch):
    app, door, _, _ = served
    monkeypatch.setattr("alseg.label.server.MOST_BYTES", 1000)
    reply = client_of(app, door).post("/api/answer", content="x" * 1001, headers=JSON)
    assert reply.status_code == 413


def test_pictures_go_by_numbers_and_files_by_a_list(served):
    app, door, desk, _ = served
    client = client_of(app, door)
    (question, *_) = client.get("/api/state").json()["questions"]
    for path in (question["crop"], question["overview"]):
        assert client.get(path).headers["content-type"] == "image/png"
    secret = desk.session.folder / "session.json"
    for path in (
        "/crop/0/20", "/crop/0/-1", "/crop/1/0", "/overview/0/4", "/superpixels/0/0",
        "/crop/0/..%2f..%2fsession.json", "/static/page.js", "/..%2fdesk.py", "/desk.py",
        f"/{secret}", "//etc/passwd",
    ):  # fmt: skip
        assert client.get(path).status_code == 404, path
    for name in STATIC:
        assert client.get(f"/{name}").content


def test_every_reply_has_the_headers_and_the_page_names_nothing_elsewhere(served):
    app, door, _, _ = served
    client = client_of(app, door)
    for path in ("/", "/api/state", "/nowhere", "/page.js", "/crop/0/0"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
    for name in STATIC:
        text = client.get(f"/{name}").text.replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text
        assert "innerHTML" not in text
        assert " style=" not in text  # which the policy forbids
        assert "onclick=" not in text


@pytest.mark.parametrize(
    ("host", "listens", "own"),
    [
        ("127.0.0.1:8000", "127.0.0.1", True),
        ("localhost", "127.0.0.1", True),
        ("[::1]:8000", "127.0.0.1", True),
        ("127.0.0.1.evil.example", "127.0.0.1", False),
        ("localhost.evil.example", "127.0.0.1", False),
        ("192.168.1.7:8000", "127.0.0.1", False),
        ("", "127.0.0.1", False),
        ("[", "127.0.0.1", False),
        ("192.168.1.7:8000", "0.0.0.0", True),
        ("evil.example", "0.0.0.0", False),
    ],
)
def test_names_of_this_server(host, listens, own):
    assert is_own_name(host, listens) is own


def test_a_disk_that_is_full_is_said_and_nothing_is_taken(served, monkeypatch):
    app, door, desk, _ = served
    client = client_of(app, door)
    row = client.get("/api/state").json()["questions"][0]["row"]

    def full(line):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(desk._journal, "append", full)
    reply = client.post("/api/answer", json=answer(row), headers=JSON)
    assert reply.status_code == 507
    assert "No space left" in reply.json()["error"]
    assert not desk.board.given


def test_between_rounds_the_page_is_told_what_happens(served):
    _, door, _, _ = served
    waiting = client_of(make_app(Office(None, "The run trains."), door), door)
    reply = waiting.get("/api/state").json()
    assert reply["round"] is None
    assert reply["message"] == "The run trains."
    assert waiting.post("/api/answer", json=answer(0), headers=JSON).status_code == 404
