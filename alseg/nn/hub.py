"""Weights that are looked for on the network: within seconds, instead of the minutes of clients."""

import logging
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from threading import Thread
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import torch

log = logging.getLogger(__name__)

#: Seconds after which no answer is expected any more.
WAIT = 10.0


@contextmanager
def asking_hub() -> Iterator[None]:
    """Inside, the Hugging Face hub is asked if it answers within `WAIT` seconds.

    Else its cache alone is read. Its client tries again and again before it does that: for a minute
    where connections are refused, for several where nothing comes back.

    Raises:
        OSError: Why it did not answer, where the cache does not have what is asked for.
    """
    from huggingface_hub import constants

    missing = None if constants.HF_HUB_OFFLINE else unreachable(constants.ENDPOINT)
    if missing is None:
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    except OSError as error:
        raise OSError(f"no answer from {constants.ENDPOINT}: {missing}") from error
    finally:
        constants.HF_HUB_OFFLINE = False


def require_download(url: str) -> None:
    """Find out within `WAIT` seconds whether torch can load a file, which it would wait for.

    Args:
        url: Of the file; one that is in torch's cache is not looked for.

    Raises:
        OSError: Why not.
    """
    if (Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name).exists():
        return
    missing = unreachable(url)
    if missing is not None:
        raise OSError(f"no answer from {urlsplit(url).netloc}: {missing}")


def unreachable(url: str) -> str | None:
    """Why nobody answers at an address; None if somebody does, be it with a refusal."""
    log.info("looking for weights on %s", urlsplit(url).netloc or url)
    said: list[str | None] = []
    # a name may have many addresses, each of which is waited for, and be long in being found
    asking = Thread(target=lambda: said.append(_missing(url)), daemon=True)
    asking.start()
    asking.join(WAIT)
    return said[0] if said else f"timed out after {WAIT:g} s"


def _missing(url: str) -> str | None:
    try:
        with urlopen(Request(url, method="HEAD"), timeout=WAIT):
            return None
    except HTTPError:
        return None
    except URLError as error:
        # certificates are the business of the client, which may have others
        return None if isinstance(error.reason, ssl.SSLError) else str(error.reason)
    except (OSError, HTTPException, ValueError) as error:  # no HTTP, or no address
        return str(error) or type(error).__name__
