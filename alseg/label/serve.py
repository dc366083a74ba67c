"""Starts and stops the server, beside whatever else the process does."""

import contextlib
import getpass
import socket
import threading
import time
import webbrowser
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from alseg.core.errors import UserError

if TYPE_CHECKING:
    from alseg.label.server import Office

#: Seconds that open requests get when the server stops.
_GRACE = 2


def check_installed() -> None:
    """Look for the packages of the extra.

    Raises:
        UserError: If they are not there.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"answering in a browser needs {error.name}; install it with pip install 'alseg[label]'"
        ) from error


def annotator_names(given: Sequence[str]) -> list[str]:
    """Names of the annotators: as given, or that of the user.

    Raises:
        UserError: For a name that is empty, too long, or there twice.
    """
    names = [name.strip() for name in given]
    if not names:
        with contextlib.suppress(Exception):  # a user id without a name
            names = [getpass.getuser()]
        names = names or ["annotator"]
    if len(set(names)) < len(names) or not all(0 < len(name) <= 80 for name in names):
        raise UserError(f"annotators are {names}; give each a name of its own.")
    return names


class Server:
    """Serves the page from a thread, until it is closed.

    Args:
        office: What is asked; its desk may change.
        annotators: Their names; each gets a link.
        host: Address to listen on.
        port: Port to listen on, 0 = any that is free.
        browser: Open the first annotator's link in a browser.

    Raises:
        UserError: If the address or the port cannot be had.
    """

    def __init__(
        self,
        office: "Office",
        annotators: list[str],
        host: str = "127.0.0.1",
        port: int = 0,
        browser: bool = True,
    ) -> None:
        check_installed()
        import uvicorn

        from alseg.label.server import LOOPBACK, Door, make_app

        self.office = office
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
        except (OSError, OverflowError) as error:
            self._socket.close()
            raise UserError(
                f"cannot listen on {host} port {port} ({error}); give another port, or 0 for any."
            ) from error
        self.port = int(self._socket.getsockname()[1])
        shown = host if host not in ("0.0.0.0", "::") else socket.gethostname()
        self._base = f"http://{f'[{shown}]' if ':' in shown else shown}:{self.port}/"
        if host not in LOOPBACK:
            print(
                f"Warning: with host {host} other machines can reach the page, and everything goes "
                f"over the network unencrypted. Give links to nobody else."
            )
        self.door = Door(annotators, self._announce_next)
        config = uvicorn.Config(
            make_app(office, self.door, host),
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE,
            lifespan="off",
            ws="none",
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="label page", daemon=True
        )
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.01)
        for name in annotators:
            print(f"Answer as {name}: {self.link(name)}", flush=True)
        if browser:
            webbrowser.open(self.link(annotators[0]))

    def link(self, name: str) -> str:
        """The link that an annotator can use now."""
        return f"{self._base}?token={self.door.token(name)}"

    def _announce_next(self, name: str, token: str) -> None:
        print(f"The next link for {name}: {self._base}?token={token}", flush=True)

    def close(self) -> None:
        """Stop; requests that are under way are answered."""
        self._server.should_exit = True
        self._thread.join(timeout=_GRACE + 3)
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
