"""app.py: the page as its visitors meet it, in a real server and, where there is one, in a real Chromium."""

import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from gradio_client import Client, handle_file

import app
from dataset_scripts import load_corpus
from dataset_scripts.schema import read_audio

ROOT = Path(__file__).parent.parent
RATE = 16000
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
STARTS_S = 120


def spoken(row: int) -> np.ndarray:
    return read_audio(load_corpus("demo")[row]["audio"])[0]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> dict[str, Path]:
    """Uploads: a short clip, one of 12 s with a pause, an MP3, no audio at all, silence, music."""
    folder = tmp_path_factory.mktemp("recordings")
    time_s = np.arange(4 * RATE) / RATE
    sounds = {
        "short.wav": spoken(0),
        "long.wav": np.concatenate([spoken(0), spoken(60), np.zeros(6 * RATE), spoken(130), spoken(300)]),
        "clip.mp3": spoken(7),
        "silence.wav": np.zeros(RATE),
        "music.wav": np.exp(-3 * (2 * time_s % 1)) * sum(0.2 * np.sin(6.283 * f * time_s) for f in (220, 277, 330)),
    }
    for name, sound in sounds.items():
        soundfile.write(folder / name, sound, RATE, format="MP3" if name.endswith(".mp3") else None)
    (folder / "broken.wav").write_bytes(b"RIFF no audio" * 99)
    return {path.name: path for path in folder.iterdir()}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def serving(command: list, folder: Path, cwd: Path = ROOT, **environment: str):
    """A server's process and address; its uploads go to a folder of its own."""
    port = free_port()
    variables = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(folder / "uploads"),
        **environment,
    }
    log = folder / "log.txt"
    with open(log, "w") as output:
        process = subprocess.Popen(
            [sys.executable, *map(str, command)], cwd=cwd, env=variables, stdout=output, stderr=2
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + STARTS_S
        while True:
            try:
                urllib.request.urlopen(url, timeout=5).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(0.2)
        yield process, url
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def server(finished_run, tmp_path_factory):
    """Address of the page with two checkpoints and their run."""
    models = [finished_run / "final", finished_run / "fold_00"]
    with serving(["app.py", "--model", *models, "--runs", finished_run], tmp_path_factory.mktemp("page")) as (_, url):
        yield url


@pytest.fixture(scope="module")
def browser(recordings):
    """Chromium, whose microphone hears one of the recordings."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    from playwright.sync_api import sync_playwright

    microphone = ["use-fake-device-for-media-stream", "use-fake-ui-for-media-stream"]
    microphone.append(f"use-file-for-fake-audio-capture={recordings['short.wav']}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", *(f"--{flag}" for flag in microphone)]
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, server):
    """Opens the page; the test fails if a script in it does."""
    pages, failures = [], []

    def opened(tab: str = "Listen", width: int = 1200, **options):
        page = browser.new_page(viewport={"width": width, "height": 900}, **options)
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.goto(server)
        page.get_by_role("tab", name=tab).click()
        pages.append(page)
        return page

    yield opened
    for page in pages:
        page.close()
    assert not failures


def upload(page, path: Path, place: int = 0) -> None:
    page.locator("input[type=file]").nth(place).set_input_files(path)


def audio(page, name: str, of: str = ".hearing"):
    return page.evaluate(f"document.querySelector('{of} audio').{name}")


def test_a_long_recording_is_watched_and_its_segments_play(visit, recordings):
    page = visit()
    upload(page, recordings["long.wav"])
    page.wait_for_selector(".hearing .band button")
    assert page.locator(".recording svg").is_visible() and page.locator(".bars").first.is_visible()
    segment = page.locator(".band button").last
    start_s, end_s = (float(segment.get_attribute(f"data-{edge}")) for edge in ("start", "end"))
    assert start_s > 0
    segment.click()
    page.wait_for_function("document.querySelector('.hearing audio').currentTime > 0")
    assert start_s <= audio(page, "currentTime") <= end_s and not audio(page, "paused")
    assert page.locator(".playhead").is_visible()
    # By keyboard: the first segment plays from its start and stops at its end.
    first = page.locator(".band button").first
    first.evaluate("button => { button.dataset.end = '0.5'; button.focus(); }")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('.hearing audio').paused")
    assert 0.5 <= audio(page, "currentTime") < 1.5


def test_what_cannot_be_heard_is_said(visit, recordings):
    page = visit()
    upload(page, recordings["clip.mp3"])
    page.wait_for_selector(".hearing .verdict strong")
    for name, said in (
        ("broken.wav", "broken.wav: the audio cannot be decoded"),
        ("silence.wav", "silence.wav: The audio is silent"),
        ("music.wav", "No speech was found, so no emotion is named. Music or noise, perhaps?"),
    ):
        page.get_by_label("Clear").first.click()
        page.wait_for_selector("text=Record or upload a clip of speech")
        upload(page, recordings[name])
        page.wait_for_selector(f"text={said}")
        assert "Traceback" not in page.content() and "uploads" not in page.inner_text("body")
    page.get_by_label("Clear").first.click()
    upload(page, recordings["short.wav"])  # the server is still there
    page.wait_for_selector(".hearing .verdict strong")


def test_a_voice_is_recorded(visit):
    page = visit(permissions=["microphone"])
    page.get_by_role("button", name="Record audio").first.click()
    page.get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(2500)
    page.get_by_role("button", name="Stop", exact=True).click()
    page.wait_for_selector(".hearing .verdict strong")
    assert audio(page, "duration") > 1


def test_an_example(visit):
    page = visit()
    page.get_by_text("anger", exact=False).filter(has_text=".flac").first.click()
    page.wait_for_selector(".hearing .verdict")
    assert page.inner_text(".hearing .verdict").strip()


def test_a_run_is_explored(visit, finished_run):
    page = visit("Explore")
    cells = page.locator(".matrix button")
    cells.first.wait_for()
    counts = [int(text) for text in cells.all_inner_texts()]
    assert sum(counts) == 48
    place = int(np.argmax(counts))
    truth, predicted = (cells.nth(place).get_attribute(f"data-{name}") for name in ("truth", "predicted"))
    cells.nth(place).click()
    page.wait_for_selector(f"text=/^{counts[place]} of 48 clips/")
    page.locator("[role=gridcell]", has_text="ravdess/").first.click()
    page.wait_for_selector(".clip audio")
    told = page.inner_text(".clip p")
    assert f"{truth} heard as {predicted}" in told
    page.wait_for_function("document.querySelector('.clip audio').currentTime > 0")
    # A speaker's name narrows the choice further.
    page.locator("button[data-speaker='ravdess/01']").click()
    page.wait_for_function(f"!document.body.innerText.includes('{counts[place]} of 48 clips')")
    page.get_by_role("button", name="Draw the fold's map").click()
    dots = page.locator(".map g")
    dots.first.wait_for()
    assert dots.count() == 16
    name = dots.nth(3).get_attribute("data-clip")
    dots.nth(3).dispatch_event("click")  # the dots of so small a model lie upon one another
    page.wait_for_function(f"document.querySelector('.clip p').innerText.startsWith('{name}')")


def test_two_checkpoints_are_compared(visit, recordings, finished_run):
    page = visit("Compare")
    upload(page, recordings["short.wav"], place=-1)
    page.wait_for_function("document.querySelectorAll('.hearing .verdict').length == 2")
    models = page.locator(".hearing .model code").all_inner_texts()
    assert models == [str(finished_run / "final"), str(finished_run / "fold_00")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_telephone_and_everything_has_a_name(visit, recordings, scheme):
    page = visit(width=400, color_scheme=scheme)
    upload(page, recordings["long.wav"])
    page.wait_for_selector(".hearing .band button")
    for tab in ("Listen", "Explore", "Compare"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        nameless = page.evaluate(
            """() => [...document.querySelectorAll('button, input, select, textarea, audio, [role=img]')]
                .filter(part => part.checkVisibility() && part.type != 'file' && !part.closest('[aria-hidden=true]'))
                .filter(part => !(part.ariaLabel || part.title || part.innerText?.trim() || part.labels?.length
                                  || part.getAttribute('aria-labelledby') || part.placeholder))
                .map(part => part.outerHTML.slice(0, 150))"""
        )
        assert nameless == []


def test_twenty_visitors_at_once_get_their_own(server, finished_run, tmp_path):
    paths = []
    for number in range(20):
        paths.append(tmp_path / f"visitor{number}.wav")
        soundfile.write(paths[-1], spoken(19 * number), RATE)
    model = str(finished_run / "final")

    def ask(path: Path) -> str:
        return Client(server, verbose=False).predict(handle_file(str(path)), model, api_name="/listen")

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, paths))
    expected = app.Page([model], [], [])
    assert answers == [expected.heard(str(path), model) for path in paths]
    assert len(set(answers)) == 20


def test_a_large_upload_is_refused_before_it_is_read(server):
    """100 MB are announced; the server answers, or hangs up, long before they are sent."""
    host, port = server.removeprefix("http://").split(":")
    head = (
        'POST /gradio_api/upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary="b"\r\n'
        f"Content-Length: {100 * 10**6}\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="files"; filename="a.wav"\r\n\r\n'
    )
    sent = 0
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode())
        try:
            while sent < 90 * 10**6:
                connection.sendall(bytes(10**6))
                sent += 10**6
                connection.setblocking(False)
                try:
                    answer = connection.recv(1000)
                    break
                except BlockingIOError:
                    pass
                finally:
                    connection.settimeout(30)
        except OSError:
            answer = b"hung up"
    assert sent < 60 * 10**6 and answer
    assert b"200 OK" not in answer


def test_files_of_the_server_are_not_read(server, finished_run):
    """An upload is named by its path; one that was not uploaded is none."""
    secret = finished_run / "results.json"
    data = {"data": [{"path": str(secret), "meta": {"_type": "gradio.FileData"}}, str(finished_run / "final")]}
    request = urllib.request.Request(
        f"{server}/gradio_api/call/listen", json.dumps(data).encode(), {"Content-Type": "application/json"}
    )
    event = json.load(urllib.request.urlopen(request, timeout=30))["event_id"]
    answer = urllib.request.urlopen(f"{server}/gradio_api/call/listen/{event}", timeout=60).read().decode()
    assert "event: error" in answer and "results.json: " not in answer


def test_a_model_that_is_not_offered_is_refused(server, recordings):
    with pytest.raises(Exception, match="not in the list of choices"):
        Client(server, verbose=False).predict(handle_file(str(recordings["short.wav"])), "me/evil", api_name="/listen")


def test_uploads_are_deleted(finished_run, recordings, tmp_path):
    program = (
        f"import app; page = app.Page([{str(finished_run / 'final')!r}], [], []); "
        "app.interface(page, keep_s=4, sweep_s=1).launch(footer_links=[])"
    )
    with serving(["-c", program], tmp_path) as (_, url):
        client = Client(url, verbose=False)
        client.predict(handle_file(str(recordings["short.wav"])), str(finished_run / "final"), api_name="/listen")

        def kept() -> list[Path]:
            return list((tmp_path / "uploads").rglob("short.wav"))

        assert kept()
        deadline = time.monotonic() + 4 + 1  # a second for a busy machine
        while kept():
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_uploads_stay_for_half_an_hour_at_most(finished_run):
    """At the worst a file is a moment too young when it is looked for, and stays until the next time."""
    every_s, age_s = app.interface(app.Page([str(finished_run / "final")], [], [])).delete_cache
    assert every_s + age_s == 30 * 60 and every_s <= 60


def test_it_runs_as_a_space(finished_run, tmp_path):
    """The files that spaces/README.md names, in a folder by themselves, under a Space's variables."""
    readme = (ROOT / "spaces" / "README.md").read_text()
    command = re.search(r"^mkdir space && (cp .* space)$", readme, re.M)[1]
    space = tmp_path / "space"
    space.mkdir()
    *sources, _ = command.removeprefix("cp -r ").split()
    for source in (path for pattern in sources for path in ROOT.glob(pattern)):
        (shutil.copytree if source.is_dir() else shutil.copy)(source, space / source.name)
    front = readme.split("---")[1]
    assert "sdk: gradio" in front and "app_file: app.py" in front and "license: apache-2.0" in front
    variables = {"SPACE_ID": "me/camulenet", "SYSTEM": "spaces", "GRADIO_SERVER_NAME": "0.0.0.0"}
    variables["CAMULENET_MODEL"] = str(finished_run / "final")
    with serving(["app.py"], tmp_path, cwd=space, **variables) as (_, url):
        config = json.load(urllib.request.urlopen(f"{url}/config", timeout=30))
    assert config["title"] == app.TITLE
    assert str(finished_run / "final") in json.dumps(config["components"])


def test_the_space_installs_what_the_page_needs():
    """requirements.txt holds what setup.py asks for, and its front matter the Gradio of the constraints."""
    source = (ROOT / "setup.py").read_text()
    captured = {}
    program = source.replace("from setuptools import setup", "setup = lambda **fields: captured.update(fields)")
    exec(compile(program, str(ROOT / "setup.py"), "exec"), {"captured": captured, "__file__": str(ROOT / "setup.py")})
    needed = {*captured["install_requires"], *captured["extras_require"]["app"]}
    assert needed == {*(ROOT / "spaces" / "requirements.txt").read_text().split()}
    pinned = re.search(r"^gradio==(.*)$", (ROOT / "constraints.txt").read_text(), re.M)[1]
    assert f"sdk_version: {pinned}\n" in (ROOT / "spaces" / "README.md").read_text()


def test_what_is_wrong_with_a_model_is_said_at_the_start(tmp_path):
    done = subprocess.run(
        [sys.executable, "app.py", "--model", str(tmp_path / "none")],
        cwd=ROOT, capture_output=True, text=True, timeout=120, env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 1 and "app: " in done.stderr and "Traceback" not in done.stderr


def test_what_nobody_foresaw_stays_in_the_log(finished_run, recordings, monkeypatch, caplog):
    def broken(self, recording):
        raise TypeError("secret")

    monkeypatch.setattr("ser_protocol.listening.Listener.listen", broken)
    model = str(finished_run / "final")
    told = app.Page([model], [], []).heard(str(recordings["short.wav"]), model)
    assert "Something went wrong here (TypeError)" in told and "secret" not in told and "secret" in caplog.text


@pytest.mark.slow
def test_memory_is_flat_over_500_requests(finished_run, recordings, tmp_path):
    model = str(finished_run / "final")
    with serving(["app.py", "--model", model, "--runs", finished_run], tmp_path) as (process, url):
        client, resident = Client(url, verbose=False), []
        for _ in range(500):
            client.predict(handle_file(str(recordings["long.wav"])), model, api_name="/listen")
            status = Path(f"/proc/{process.pid}/status").read_text()
            resident.append(int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024)
    medians = [statistics.median(resident[start : start + 100]) for start in range(0, 500, 100)]
    print("resident, median of each 100 requests, MB:", [round(value) for value in medians])
    assert medians[-1] < medians[1] + 30  # what a request may leave behind is under 0.1 MB
