"""The page in a real browser, before a real server: from a dropped file to its evidence."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browsing import (
    FPS,
    NUM_FRAMES,
    WITHOUT,
    Watched,
    chromium,
    chromium_is_missing,
    patient,
    served,
    write_talk,
)
from tests.support.cases import METHOD_CASES
from tests.support.runs import write_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.skipif(bool(chromium_is_missing()), reason=chromium_is_missing())

HOSTILE = '<img src=x onerror=alert(1)>\u202egpj.mp4"&amp;'
LAPTOP: dict[str, Any] = {"viewport": {"width": 1366, "height": 900}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "is_mobile": True,
    "has_touch": True,
}
#: Far more than any of these tests takes on a loaded machine.
PATIENCE_S = 240
_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_talk(tmp_path_factory.mktemp("talk") / "talk.mp4").read_bytes()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    state = tmp_path_factory.mktemp("server") / "state"
    program = ["tests.support.page_server", "toy"]
    with served(program, state, MAX_UPLOAD_MB="1") as url:
        yield url


@pytest.fixture(autouse=True)
def limited() -> Iterator[None]:
    with patient(PATIENCE_S):
        yield


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Watched]]:
    contexts = []

    def opened(url: str, part: str = "#send-form", **kind: Any) -> Watched:
        context = browser.new_context(**(LAPTOP | kind))
        context.set_default_timeout(60_000)
        contexts.append(context)
        watched = Watched(context.new_page())
        watched.page.goto(url)
        watched.page.wait_for_selector(f"{part}:visible")
        return watched

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def dropped(browser: Browser, url: str, talk: bytes) -> Iterator[Watched]:
    """Drop a video of a hostile name, and wait for its result."""
    context = browser.new_context(**LAPTOP)
    watched = Watched(context.new_page())
    with patient(PATIENCE_S):
        drop(watched.page, url, talk)
    yield watched
    context.close()


def drop(page: Page, url: str, talk: bytes) -> None:
    page.goto(url)
    page.wait_for_selector("#send-form:visible")
    files = page.evaluate_handle(
        """([bytes, name]) => {
            const files = new DataTransfer();
            files.items.add(new File([new Uint8Array(bytes)], name, { type: "video/mp4" }));
            return files;
        }""",
        [list(talk), HOSTILE],
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": files})
    assert page.inner_text("#chosen").startswith("<img src=x onerror=alert(1)>\u25a1gpj")
    page.keyboard.press("Enter")
    page.wait_for_selector("#work:visible")
    shown(page)


@pytest.fixture(scope="module")
def result(dropped: Watched) -> str:
    """Give the address of a result."""
    return dropped.page.url


def send(page: Page, content: bytes, name: str = "talk.mp4") -> None:
    page.wait_for_selector("#send-form:visible")
    page.set_input_files("#file", {"name": name, "mimeType": "video/mp4", "buffer": content})
    page.get_by_role("button", name="Analyse the video").click()


def shown(page: Page) -> None:
    """Wait for a result with its chart and its video."""
    page.wait_for_selector("#chart .main-svg", timeout=120_000)
    until(page, "document.getElementById('video').readyState >= 2")


def until(page: Page, expression: str) -> None:
    """Wait until something holds; the page's own policy keeps the driver from polling in it."""
    deadline = time.monotonic() + 60
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(20)


def playing_time(page: Page) -> float:
    until(page, "!document.getElementById('video').seeking")
    return float(page.evaluate("document.getElementById('video').currentTime"))


def click_chart(page: Page, time_s: float) -> None:
    """Click a moment."""
    area = page.locator("#chart .nsewdrag").first
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    assert box
    share = time_s / (NUM_FRAMES / FPS)
    page.mouse.click(box["x"] + share * box["width"], box["y"] + 0.5 * box["height"])


def violations(page: Page) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, options={"runOnly": _TAGS}).response["violations"]
    return [f"{v['id']}: {v['nodes'][0]['html']} {v['nodes'][0]['failureSummary']}" for v in found]


def test_a_browser_that_hangs_is_ended() -> None:
    # a program of its own: the driver allows one in a process
    program = """
from tests.support.browsing import chromium, patient
with chromium() as browser:
    page = browser.new_page()
    with patient(2):
        page.evaluate("while (true) {}")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120
    )
    assert "TimeoutError: the browser hung for 2 s" in done.stderr
    assert "--type=renderer" in done.stderr


def test_a_dropped_video_becomes_evidence(dropped: Watched, url: str) -> None:
    page = dropped.page
    assert "1.0 MiB" in (page.text_content("#told") or "")
    assert page.inner_text("#verdict-title") == "Decision: real"
    assert "stays below the threshold of 0.500" in page.inner_text("#verdict-why")
    assert page.evaluate("document.activeElement.id") == "verdict-title"
    assert page.inner_text("#status").startswith("Decision: real")
    assert "<img src=x" in page.inner_text("#result-name")
    assert page.title().startswith("Result")
    report = page.request.get(f"{page.url.replace('#job=', 'jobs/')}/report").json()
    assert page.locator("#limits li").count() == len(report["limits"]) >= 4
    assert dropped.said == []
    assert {address.split("/")[2] for address in dropped.asked} == {url.split("/")[2]}


def test_the_timeline_leads_the_video(visit: Callable[..., Watched], result: str) -> None:
    page = visit(result, "#result").page
    shown(page)
    for time_s in (0.3, 1.7):
        click_chart(page, time_s)
        until(page, f"Math.abs(document.getElementById('video').currentTime - {time_s}) < 0.1")
        frame = int(page.inner_text("#moment-text").rpartition(" ")[2])
        assert abs(frame - time_s * FPS) <= 2
        assert page.locator("#faces .face").count() == 1
        assert "Person" in page.inner_text("#status")
    assert page.inner_text("#faces .face-name").strip() == "Person 2"
    assert "above the line" in page.inner_text("#faces")
    click_chart(page, (WITHOUT.start + WITHOUT.stop) / 2 / FPS)
    page.wait_for_selector("#faces .face", state="detached")
    assert "nothing was judged here" in page.inner_text("#moment-text")


def test_the_keyboard_leads_the_video(visit: Callable[..., Watched], result: str) -> None:
    page = visit(result, "#result").page
    shown(page)
    page.focus("#moment")
    page.keyboard.press("Home")
    until(page, "document.getElementById('video').currentTime < 0.03")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert playing_time(page) == pytest.approx(3.25 / FPS, abs=0.005)
    assert page.inner_text("#moment-text").endswith("frame 3")
    assert re.match(
        r"0:00\.1\. Person 1: 0\.\d{3}", page.get_attribute("#moment", "aria-valuetext") or ""
    )
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.inner_text("#moment-text").endswith("frame 4")
    page.get_by_role("button", name="up to").press("Enter")
    assert playing_time(page) > WITHOUT.stop / FPS


def test_curves_have_gaps_and_can_be_hidden(visit: Callable[..., Watched], result: str) -> None:
    page = visit(result, "#result").page
    shown(page)
    curves = (
        "document.getElementById('chart').data.map((c) => [c.name, c.x.length, Math.max(...c.x)])"
    )
    assert [name for name, *_ in page.evaluate(curves)] == ["Person 1", "Person 2"]
    assert page.evaluate(curves)[0][2] < WITHOUT.start / FPS
    page.get_by_label("Person 1").uncheck()
    until(page, "document.getElementById('chart').data.length === 1")
    assert page.evaluate(curves)[0][0] == "Person 2"
    area = page.locator("#chart .nsewdrag").first
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    assert box
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 40, steps=4)
    page.mouse.up()
    page.get_by_role("button", name="Show the whole video").click()
    page.wait_for_selector("#whole", state="hidden")


def test_the_heat_map_nearest_to_the_moment_is_shown(
    visit: Callable[..., Watched], result: str
) -> None:
    page = visit(result, "#result").page
    shown(page)
    page.wait_for_selector("#heat:visible")
    buttons = page.locator("#heat-strip button")
    assert buttons.count() >= 3
    seen = set()
    for button in (buttons.first, buttons.last):
        button.click()
        assert button.get_attribute("aria-current") == "true"
        assert page.inner_text("#heat-text").endswith("It is this moment.")
        until(page, "document.getElementById('heat-image').naturalWidth > 200")
        seen.add((page.get_attribute("#heat-image", "src"), playing_time(page)))
    assert len(seen) == 2
    click_chart(page, (WITHOUT.start + WITHOUT.stop) / 2 / FPS)
    assert "nearest to this one" in page.inner_text("#heat-text")
    assert page.locator("#heat-limits li").count() >= 3


def test_downloads_are_the_results(
    visit: Callable[..., Watched], result: str, tmp_path: Path
) -> None:
    page = visit(result, "#result").page
    shown(page)
    names = page.locator("#downloads a").all_inner_texts()
    assert names[:4] == ["report.json", "segments.csv", "segments.vtt", "annotated.mp4"]
    with page.expect_download() as download:
        page.get_by_role("link", name="report.json").click()
    download.value.save_as(tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["persons"][0]["person"] == 1


@pytest.mark.parametrize("kind", [LAPTOP, LAPTOP | {"color_scheme": "dark"}, PHONE])
def test_nobody_is_shut_out(
    visit: Callable[..., Watched], url: str, result: str, kind: dict[str, Any]
) -> None:
    assert violations(visit(url, **kind).page) == []
    watched = visit(result, "#result", **kind)
    shown(watched.page)
    assert violations(watched.page) == []
    wide, seen = watched.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= seen
    assert watched.said == []


def test_what_goes_wrong_is_said(visit: Callable[..., Watched], url: str) -> None:
    page = visit(url).page
    page.get_by_role("button", name="Analyse the video").click()
    assert "Choose a video" in page.inner_text("#file-wrong")
    large = {"name": "l.mp4", "mimeType": "video/mp4", "buffer": bytes(2**20 + 1)}
    page.set_input_files("#file", large)  # type: ignore[arg-type]
    assert "1.0 MiB are the most" in page.inner_text("#file-wrong")
    page.get_by_role("button", name="Analyse the video").click()
    assert page.locator("#work").is_hidden()
    send(page, b"no video at all" * 100)
    page.wait_for_selector("#trouble:visible")
    assert page.inner_text("#trouble-title") == "The analysis failed"
    assert len(page.inner_text("#trouble-text")) > 20
    assert page.evaluate("document.activeElement.id") == "trouble-title"
    assert violations(page) == []
    page.goto(f"{url}/#job={'0' * 32}")
    until(page, "document.getElementById('trouble-title').textContent.includes('no such')")


@pytest.mark.slow
def test_results_are_deleted_on_demand(
    visit: Callable[..., Watched], url: str, talk: bytes
) -> None:
    page = visit(url).page
    send(page, talk)
    page.get_by_role("button", name="Cancel").click()
    page.wait_for_selector("#send-form:visible")
    send(page, talk)
    shown(page)
    address = page.url
    page.get_by_role("button", name="Delete the results").click()
    page.get_by_role("button", name="Keep them").click()
    assert page.locator("#result").is_visible()
    page.get_by_role("button", name="Delete the results").click()
    assert violations(page) == []
    page.get_by_role("button", name="Delete them").click()
    page.wait_for_selector("#send-form:visible")
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_selector("#trouble:visible")
    assert page.inner_text("#trouble-title") == "The results are gone"


@pytest.mark.slow
def test_a_key_is_asked_for_and_kept_in_the_tab(
    visit: Callable[..., Watched], tmp_path: Path, talk: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    from experiments import serve

    state = tmp_path / "state"
    assert serve.main(["--state-dir", str(state), "--new-key", "alice"]) == 0
    key = capsys.readouterr().out.strip()
    program = ["tests.support.page_server", "one", "another"]
    with served(program, state, KEYS="true") as url:
        watched = visit(url, "#key-form")
        page = watched.page
        assert violations(page) == []
        page.fill("#key", "wrong")
        page.keyboard.press("Enter")
        until(page, "document.getElementById('key-wrong').textContent")
        page.fill("#key", key)
        page.keyboard.press("Enter")
        send(page, talk)
        shown(page)
        assert page.evaluate("document.getElementById('video').src").startswith("blob:")
        assert all(key not in address for address in watched.asked)
        assert page.inner_text("#verdict-title") == "No decision: score only"
        assert page.locator("#models tbody tr").count() == 3
        page.select_option("#curve", "another")
        assert "one: 0." in page.inner_text("#faces")
        with page.expect_download():
            page.get_by_role("link", name="segments.csv").click()
        page.reload()
        shown(page)
        assert violations(page) == []
        page.get_by_role("button", name="Forget the API key").click()
        assert page.evaluate("sessionStorage.getItem('forgery-api-key')") is None


@pytest.mark.slow
def test_a_run_is_served(visit: Callable[..., Watched], tmp_path: Path, talk: bytes) -> None:
    case = next(case for case in METHOD_CASES if case.name == "hff")
    run = write_run(tmp_path / "run", case)
    with served(["experiments.serve", "--run", str(run)], tmp_path / "state") as url:
        watched = visit(url)
        send(watched.page, talk)
        shown(watched.page)
        assert watched.page.inner_text("#verdict-title") == "No decision: score only"
        assert watched.said == []
