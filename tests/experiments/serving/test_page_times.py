"""What the page makes of frames that do not last equally long, asked in Chromium."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from experiments.serving import front
from tests.support.browsing import chromium, chromium_is_missing, patient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

pytestmark = pytest.mark.skipif(bool(chromium_is_missing()), reason=chromium_is_missing())
_PAGE = Path(front.__file__).with_name("page")
#: Frames 0 to 3 and 5 to 6 of a video of 25 frames a second; frames 1 and 6 last long.
_TIMES, _RANGES = [0.8, 0.84, 1.5, 1.54, 1.62, 1.66], [[0.8, 1.58], [1.62, 2.6]]
_TRACK: dict[str, Any] = {
    "track": 0,
    "time_ranges_s": _RANGES,
    "frames": {
        "frame": [0, 1, 2, 3, 5, 6],
        "time_s": _TIMES,
        "box": [[0, 0, 1, 1]] * 6,
        "score": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
    },
    "models": [{"name": "toy"}],
}


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with chromium() as browser, patient(60):
        page = browser.new_page()
        page.route(
            "http://page.test/*",
            lambda route: route.fulfill(
                path=_PAGE / route.request.url.rpartition("/")[2], content_type="text/javascript"
            ),
        )
        page.goto("http://page.test/report.js")
        yield page


def ask(page: Page, expression: str) -> Any:
    people = [{"person": 1, "tracks": [_TRACK]}]
    program = f"async (people) => {{ const m = await import('/report.js'); return {expression}; }}"
    return page.evaluate(program, people)


def test_a_face_is_shown_as_long_as_its_frame(page: Page) -> None:
    for time_s, frame in ((0.8, 0), (0.9, 1), (1.45, 1), (1.5, 2), (1.57, 3), (2.5, 6)):
        (face,) = ask(page, f"m.facesAt(people, {time_s}, null)")
        assert (time_s, face["frame"]) == (time_s, frame)
    for time_s in (0.0, 0.5, 1.6, 2.6):
        assert ask(page, f"m.facesAt(people, {time_s}, null)") == []


def test_steps_go_from_frame_to_frame_both_ways(page: Page) -> None:
    program = """((times) => {
        for (let i = 0; i < 7; i++) {
          const [step, last] = [0.04, times.at(-1)];
          times.push(m.frameAt(people, m.frameBeside(people, last, step, AFTER), step));
        }
        return times;
    })([START])"""
    forth = ask(page, program.replace("AFTER", "true").replace("START", "0.8"))
    assert forth[:4] == _TIMES[:4]
    assert forth == sorted(set(forth))
    assert set(_TIMES) <= set(forth)
    back = ask(page, program.replace("AFTER", "false").replace("START", "1.66"))
    assert back == sorted(set(back), reverse=True)
    assert set(_TIMES) <= set(back)
