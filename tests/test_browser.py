"""A slider moved in a browser redraws its picture: JupyterLab, Chromium and a kernel of ours.

Needs Debian's packages chromium and chromium-driver, and selenium; nothing is downloaded.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from sdml import files

PROGRAMS = {"chromium": ("chromium", "chromium-browser"), "chromedriver": ("chromedriver",)}
PATIENCE = 180.0
"""Seconds that a step may take on a busy machine."""
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu",
           "--window-size=1400,1000", "--no-first-run", "--disable-background-networking",
           "--disable-component-update", "--disable-sync")  # fmt: skip
EXPLORER = """\
from sdml import lattice, plotting, spins

plotting.use_style()
cases = {"tetrahedral": (lattice.triangular(6), spins.tetrahedral(lattice.triangular(6)))}
plotting.hamiltonian_explorer(plotting.spectrum_figure, cases)"""
PLAYER = """\
import numpy as np

from sdml import lattice, plotting, spins

frames = spins.random(600 * 36, seed=0)[:, 2].reshape(600, 36)  # minutes, on a busy machine too
plotting.map_player(plotting.correlation_map, lattice.square(6), frames, 2.5 * np.arange(600))"""
LIVE = """\
from dataclasses import replace

from sdml import dynamics, forcefield, plotting, spins

plotting.use_style()
field = forcefield.load("triangular")
course = plotting.begun(field, 12, seed=0)
order = spins.as_tensor(spins.tetrahedral(course.lattice), 144).to(field.dtype)


def draw(course):
    warm = course.energy[1:].size and course.energy[-1] > course.energy[1] + 0.01
    print(f"time {course.time[-1]:g}:", "heated" if warm else "at rest")
    return plotting.course_figure(course)


plotting.live_quench(
    draw, replace(course, spins=order), field, dynamics.LandauLifshitz(0.5, 0.1), n_frames=10000
)"""
"""From perfect order, which rests until heat moves it."""

pytestmark = pytest.mark.slow


def program(name: str) -> str:
    """Path of a program that the test needs; skips where it is not installed."""
    found = next(filter(None, map(shutil.which, PROGRAMS[name])), None)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: chromium, chromium-driver)")
    return found


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(url: str) -> bool:
    """Whether a server answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return reply.status == 200
    except (urllib.error.URLError, OSError):
        return False


def write_notebook(path: Path, source: str) -> None:
    """A notebook with one cell."""
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    cell = nbformat.v4.new_code_cell(source)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), path)


@pytest.fixture
def lab(tmp_path) -> Iterator[tuple[Path, str]]:
    """A folder and the address, with its token, of a JupyterLab that serves it."""
    folder, port, token = tmp_path / "served", free_port(), secrets.token_hex(16)
    folder.mkdir()
    home = {name: str(tmp_path / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")}
    environment = {k: v for k, v in os.environ.items() if k not in ("SDML_BATCH", "MPLBACKEND")}
    environment |= home | {"SDML_HOME": str(files.root()), "JUPYTER_PREFER_ENV_PATH": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(files.root()), *sys.path]))
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
               f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}",
               f"--ServerApp.root_dir={folder}",
               "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]  # fmt: skip
    with (tmp_path / "lab.log").open("wb") as log:
        server = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        base = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + PATIENCE
        while not answers(f"{base}/api/status?token={token}"):
            assert server.poll() is None, (tmp_path / "lab.log").read_text()
            assert time.monotonic() < deadline, "JupyterLab does not answer"
            time.sleep(0.5)
        yield folder, f"{base}/lab/tree/{{name}}?token={token}&reset"
    finally:
        stop(server)


def stop(server: subprocess.Popen[bytes]) -> None:
    """End a server, which ends its kernels, and whatever it left behind."""
    server.terminate()
    try:
        server.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.fixture
def browser(tmp_path) -> Iterator[Any]:
    """Chromium without a window, with a profile of its own."""
    chrome = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = chrome.ChromeOptions()
    options.binary_location, driver_path = program("chromium"), program("chromedriver")
    for option in (*OPTIONS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(option)
    # With the path given, selenium looks for no driver in the net.
    driver = chrome.Chrome(options=options, service=chrome.ChromeService(driver_path))
    try:
        driver.set_page_load_timeout(PATIENCE)
        yield driver
    finally:
        driver.quit()


def eventually(driver: Any, found: Any, what: str) -> Any:
    """The first true value of ``found(driver)``."""
    from selenium.common import exceptions
    from selenium.webdriver.support.ui import WebDriverWait

    # What is there while a page is being built may be covered, without a size, or gone again.
    passing = [
        exceptions.StaleElementReferenceException,
        exceptions.ElementNotInteractableException,
        exceptions.ElementClickInterceptedException,
    ]
    return WebDriverWait(driver, PATIENCE, 0.3, passing).until(found, f"no {what} appeared")


def pictures(driver: Any) -> list[str]:
    """Sources of the pictures in the outputs of a notebook."""
    # In one go: an element may be gone before its source is asked for.
    images = "document.querySelectorAll('.jp-OutputArea-output img')"
    return driver.execute_script(f"return Array.from({images}, image => image.src)")


def status_bar(driver: Any) -> str:
    """What JupyterLab says of the kernel."""
    bars = driver.find_elements("id", "jp-main-statusbar")
    return bars[0].text if bars else ""


def click_into_cell(driver: Any) -> bool:
    """Click into the first cell; false while there is none."""
    cells = driver.find_elements("css selector", ".jp-CodeCell .cm-content")
    for cell in cells[:1]:
        cell.click()
    return bool(cells)


def run_first_cell(driver: Any) -> None:
    """Click into the first cell and run it, as a reader does."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    # Before a kernel is chosen the page calls itself idle too, and would ask for one.
    eventually(driver, lambda d: "Python 3 (ipykernel) | Idle" in status_bar(d), "idle kernel")
    eventually(driver, click_into_cell, "cell")
    shift_enter = ActionChains(driver).key_down(Keys.SHIFT).send_keys(Keys.ENTER)
    shift_enter.key_up(Keys.SHIFT).perform()


def opened(lab: tuple[Path, str], driver: Any, source: str) -> str:
    """The picture of a widget, once a notebook with this cell is open and has run."""
    folder, address = lab
    write_notebook(folder / "widget.ipynb", source)
    driver.get(address.format(name="widget.ipynb"))
    run_first_cell(driver)
    (picture,) = eventually(driver, pictures, "picture")
    assert picture.startswith("data:image/png;base64,")
    return picture


def printed(driver: Any) -> str:
    """Text in the outputs of a notebook."""
    texts = "document.querySelectorAll('.jp-OutputArea-output pre')"
    return driver.execute_script(f"return Array.from({texts}, text => text.textContent).join('')")


def settled(look: Any, seconds: float) -> Any:
    """A condition: ``look(driver)`` has been the same for so many seconds."""
    seen: list[tuple[float, Any]] = []

    def unchanged(driver: Any) -> bool:
        now, found = time.monotonic(), look(driver)
        if not seen or seen[-1][1] != found:
            seen.append((now, found))
        return now - seen[-1][0] >= seconds

    return unchanged


def readout(driver: Any) -> str:
    """What stands beside the first slider."""
    return driver.find_elements("css selector", ".widget-readout")[0].text


def test_a_slider_changes_the_picture_in_jupyterlab(browser, lab):
    from selenium.webdriver.common.action_chains import ActionChains

    before = opened(lab, browser, EXPLORER)
    handles = browser.find_elements("css selector", ".widget-slider .noUi-handle")
    assert len(handles) == 2, "sliders of J and of the filling"
    ActionChains(browser).drag_and_drop_by_offset(handles[0], 40, 0).perform()
    after = eventually(browser, lambda d: [s for s in pictures(d) if s != before], "new picture")
    assert after[0].startswith("data:image/png;base64,")
    assert float(readout(browser)) > 3.0


def test_play_moves_the_time_and_the_picture_and_pause_stops_them(browser, lab):
    before = opened(lab, browser, PLAYER)
    assert readout(browser) == "0"
    play = browser.find_element("css selector", ".widget-play button")
    play.click()
    eventually(browser, lambda d: [s for s in pictures(d) if s != before], "new picture")
    play.click()  # the same button pauses
    eventually(browser, settled(readout, 2.0), "pause")
    assert float(readout(browser)) > 0


def test_a_live_quench_plays_feels_its_sliders_and_pauses(browser, lab):
    from selenium.webdriver.common.action_chains import ActionChains

    before = opened(lab, browser, LIVE)
    assert printed(browser) == "time 0: at rest\n"
    play = browser.find_element("css selector", ".widget-play button")
    restart = browser.find_element("css selector", ".widget-button")
    play.click()
    eventually(browser, lambda d: [s for s in pictures(d) if s != before], "new picture")
    heat = browser.find_elements("css selector", ".widget-slider .noUi-handle")[1]
    assert "heated" not in printed(browser)
    ActionChains(browser).drag_and_drop_by_offset(heat, 60, 0).perform()  # while it plays
    eventually(browser, lambda d: "heated" in printed(d), "heat")
    play.click()  # the same button pauses
    eventually(browser, settled(lambda d: (printed(d), pictures(d)), 4.0), "pause")
    assert "heated" in printed(browser)
    restart.click()
    eventually(browser, lambda d: printed(d) == "time 0: at rest\n", "restart")
