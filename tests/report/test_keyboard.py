"""Tests that a report is operable by keyboard alone, in Chromium."""

from report.keyboard import REACHABLE, needs_keyboard, tab
from report.test_parts import HOSTILE, example

from resdet.report.html import page

ROWS = '[...document.querySelectorAll(".sortable tbody tr")]'
FIRST = f"{ROWS}.map((row) => row.cells[0].textContent)"
SHOWN = f"{ROWS}.filter((row) => row.offsetHeight).length"
LAYERS = '[...document.querySelectorAll(".pictures g")].map((layer) => getComputedStyle(layer).display)'


@needs_keyboard
def test_a_report_is_operable_by_keyboard(tmp_path):
    (tmp_path / "report.html").write_text(page("title", example()), encoding="utf-8")
    with tab((tmp_path / "report.html").as_uri()) as report:
        stops = report.stops()
        order = [stop["order"] for stop in stops]
        assert order == sorted(order) and len(order) == report.value(REACHABLE) == 11
        report.go_to("AP")
        report.press("Enter")
        rising = report.value(FIRST)
        report.press("Space")
        falling = report.value(FIRST)
        numbers = [f"class {k}" for k in range(9) if k != 3]
        assert [name for name in rising if name != HOSTILE] == [*numbers, "class 3"]
        assert [name for name in falling if name != HOSTILE] == [*numbers[::-1], "class 3"]
        assert report.focus()["name"] == "AP"  # the next key sorts again
        report.press("Tab", shift=True)
        report.press("Tab", shift=True)
        report.press("Tab", shift=True)
        assert report.focus()["name"] == "Filter Classes"
        report.press("7")
        filtered = report.value(SHOWN)
        report.press("Escape")
        assert (filtered, report.value(SHOWN)) == (1, 10)
        report.go_to("■ truth")
        report.press("Space")
        assert report.value(LAYERS) == ["none", "inline"]
        report.go_to("Config", "summary")
        report.press("Enter")
        assert report.value('document.querySelector("details").open')
