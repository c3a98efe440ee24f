"""Debian's Chromium without a window, and a playground of its own process to open in it."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
MISSING = "needs Chromium and its driver: apt-get install chromium chromium-driver"
#: For `sitecustomize`: a server that reaches for anything but this machine fails, and says so.
LOOPBACK_ONLY = """
import socket
plain = socket.socket.connect
def connect(self, address):
    if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
        print("reached for", address, flush=True)
        raise OSError("no network")
    return plain(self, address)
socket.socket.connect = connect
"""


@contextmanager
def served(folder: Path, *arguments: object) -> Iterator[tuple[str, Path]]:
    """The address of `diffusion-guidance play ARGUMENTS`, and the file of what it prints."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(LOOPBACK_ONLY)
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONUNBUFFERED": "1", "TMPDIR": str(folder)}
    log = folder / "log"
    command = [sys.executable, "-m", "diffusion_guidance", "play", *map(str, arguments)]
    with open(log, "w") as out, subprocess.Popen(command, env=environment, stdout=out, stderr=out) as process:
        try:
            for _ in range(240):
                if found := re.search(r"http://\S+", log.read_text()):
                    break
                assert process.poll() is None, log.read_text()
                try:
                    process.wait(0.5)
                except subprocess.TimeoutExpired:
                    continue
            assert found, log.read_text()
            yield found[0], log
        finally:
            process.terminate()


@contextmanager
def browser(width: int = 1280, height: int = 1700) -> Iterator[Any]:
    """Selenium's driver of a Chromium that finds no other host than this machine."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in (
        *("headless=new", "no-sandbox", "disable-dev-shm-usage", "hide-scrollbars", f"window-size={width},{height}"),
        "host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()
