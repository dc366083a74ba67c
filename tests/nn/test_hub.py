"""Weights from the network: who does not answer is given up within seconds."""

import logging
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import torch
from huggingface_hub import constants

from alseg.core.errors import UserError
from alseg.nn import hub
from alseg.nn.hub import asking_hub, require_download, unreachable
from alseg.nn.segmenter import build_segmenter


class Refusing(BaseHTTPRequestHandler):
    """Answers that there is nothing."""

    def do_HEAD(self):
        self.send_error(404)

    def log_message(self, *args):
        """Say nothing."""


@contextmanager
def silent():
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/weights/vgg.pth"


def refused():
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def test_who_answers_is_there_even_with_a_refusal():
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert unreachable(f"http://127.0.0.1:{server.server_port}/x") is None
        thread.join()
    assert "refused" in unreachable(refused())
    assert unreachable("http://nobody.invalid/x") is not None
    assert "unknown url type" in unreachable("mirror.example")


def test_who_answers_in_another_language_is_not_there():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet():
            with server.accept()[0] as connection:
                connection.sendall(b"SSH-2.0-other\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        assert "SSH-2.0" in unreachable(f"http://127.0.0.1:{server.getsockname()[1]}/x")
        thread.join()


def test_many_addresses_of_a_name_are_waited_for_together(monkeypatch):
    monkeypatch.setattr(hub, "WAIT", 0.2)
    told = threading.Event()

    def ask(*_, **__):
        told.wait(30)
        raise OSError("nobody answered")

    monkeypatch.setattr(hub, "urlopen", ask)
    assert unreachable("http://many.example/x") == "timed out after 0.2 s"
    told.set()


def test_silence_is_waited_for_a_while(monkeypatch, caplog, tmp_path):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(hub, "WAIT", 0.3)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with silent() as url:
        with pytest.raises(OSError, match=r"no answer from 127.0.0.1:\d+: .*timed out"):
            require_download(url)
        assert "looking for weights on 127.0.0.1" in caplog.text
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints" / "vgg.pth").touch()
        require_download(url)  # torch takes the file that is there


def test_the_hub_is_asked_if_it_answers(monkeypatch):
    monkeypatch.setattr(hub, "unreachable", lambda url: None)
    with asking_hub():
        assert not constants.HF_HUB_OFFLINE
    monkeypatch.setattr(hub, "unreachable", lambda url: "no route")
    with asking_hub():  # what is in its cache is found
        assert constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE
    with pytest.raises(OSError, match=r"no answer from http.*: no route"), asking_hub():
        raise OSError("offline mode is enabled")
    assert not constants.HF_HUB_OFFLINE
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="the client's own"), asking_hub():
        raise OSError("the client's own")


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet18"])
def test_a_hub_that_is_not_there_is_told_at_once(monkeypatch, tmp_path, encoder):
    monkeypatch.setattr(constants, "ENDPOINT", refused())
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("alseg.nn.segmenter.cached_weights", lambda encoder: None)
    with pytest.raises(UserError, match=r"ImageNet weights .* no answer from http://127.*refused"):
        build_segmenter("Unet", encoder, "imagenet", 3)
