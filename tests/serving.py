"""The label page as a command serves it, visited once."""

import re
import subprocess
import sys
from http.cookiejar import CookieJar
from urllib.parse import urljoin
from urllib.request import HTTPCookieProcessor, build_opener


def page_of(words, folder, env=None):
    """HTML of the page that ``python -m alseg.label`` serves, reached through its printed link."""
    server = subprocess.Popen(
        [sys.executable, "-m", "alseg.label", *words, "--no-browser", "--port", "0"],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = []
    try:
        for line in server.stdout:
            said.append(line)
            if link := re.search(r"http://\S+", line):
                visitor = build_opener(HTTPCookieProcessor(CookieJar()))
                visitor.open(link.group()).close()  # sets the cookie, and sends one on
                with visitor.open(urljoin(link.group(), "/")) as reply:
                    return reply.read().decode()
    finally:
        server.terminate()
        server.wait(30)
    raise AssertionError("".join(said)[-3000:])
