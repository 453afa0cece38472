from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from idim import hub, models
from idim.errors import RequestError

constants = pytest.importorskip("huggingface_hub.constants")


class Refusing(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(403)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    served = HTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    thread.join()
    served.server_close()


@pytest.fixture
def nobody() -> str:
    """Return an address at which nothing listens any more."""
    with HTTPServer(("127.0.0.1", 0), Refusing) as closed:
        return f"http://127.0.0.1:{closed.server_port}"


@pytest.fixture(autouse=True)
def unasked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub.answers.cache_clear()
    yield
    hub.answers.cache_clear()


def test_a_hub_that_answers_is_asked(monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", server)
    hub.prepare()
    assert not constants.HF_HUB_OFFLINE


def test_a_hub_that_does_not_answer_is_asked_once(
    monkeypatch: pytest.MonkeyPatch, nobody: str, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", nobody)
    with pytest.raises(RequestError, match=r"'nobody/nothing' cannot be had: .*give a folder"):
        models.resolve("nobody/nothing")
    assert constants.HF_HUB_OFFLINE
    assert not [record for record in caplog.records if "Retrying" in record.getMessage()]


def test_data_sets_go_off_line_when_they_are_named(monkeypatch: pytest.MonkeyPatch, nobody: str) -> None:
    config = pytest.importorskip("datasets.config")
    monkeypatch.setattr(config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", nobody)
    hub.prepare()
    assert not config.HF_HUB_OFFLINE
    hub.prepare("datasets")
    assert config.HF_HUB_OFFLINE


def test_who_asks_to_be_off_line_is(monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", server)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert not hub.answers()
