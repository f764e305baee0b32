"""In a real browser the page loads silently, requests nothing, fits a phone, and shows scores on hover and by key."""

import json

import pytest

import chromium
from report_parts import GEOMETRY
from toy_runs import QUIET, copied, finished
from vgs_mlx.commands import report

pytestmark = pytest.mark.skipif(chromium.find() is None, reason="no Chromium on this machine")

MIDDLE = """(() => {{ const t = document.querySelectorAll('.t')[{place}]; t.scrollIntoView({{block: 'center'}});
const box = t.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; }})()"""
TIP = "getComputedStyle(document.querySelectorAll('.t')[{place}], '::after').content"
PAPER = "getComputedStyle(document.documentElement).backgroundColor"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    run = copied(finished(), tmp_path_factory.mktemp("report") / "run")
    (run / "geometry.json").write_text(json.dumps(GEOMETRY))
    return report.run(run, None, examples=2, screen=QUIET)


@pytest.fixture(scope="module")
def tab():
    with chromium.opened() as found:
        yield found


def test_it_loads_silently_and_requests_nothing(tab, written):
    tab.open(written)
    assert tab.complaints() == []
    asked = [each for each in tab.requests() if not each.startswith("data:image/")]
    assert asked == [written.absolute().as_uri()]
    assert tab.value("[...document.images].every(each => each.complete && each.naturalWidth > 0 && each.alt)")


def test_a_page_that_tried_would_be_caught(tab, tmp_path):
    """The three checks above can fail."""
    tab_page = tmp_path / "bad.html"
    tab_page.write_text("<script>console.error('x')</script><img src='missing.png'>")
    tab.open(tab_page)
    assert tab.complaints() and len(tab.requests()) == 2


def test_every_token_has_a_score_that_shows_on_hover(tab, written):
    tab.open(written)
    count = tab.value("document.querySelectorAll('.t').length")
    assert count > 12
    assert tab.value(
        "[...document.querySelectorAll('.t')].every(t => t.title && /^\\d+\\.\\d\\d$/.test(t.dataset.vds))"
    )
    assert tab.value(TIP.format(place=1)) == "none"
    tab.point_at(*tab.value(MIDDLE.format(place=1)))
    told = tab.value("document.querySelectorAll('.t')[1].dataset.vds")
    assert tab.value(TIP.format(place=1)) == f'"{told}"'


def test_arrow_keys_go_from_token_to_token_and_an_answer_is_one_stop(tab, written):
    tab.open(written)
    answers = tab.value("document.querySelectorAll('.answer').length")
    assert tab.value("document.querySelectorAll('.t[tabindex=\"0\"]').length") == answers == 2 * 3
    tab.value("document.querySelector('.t').focus()")
    tab.press("ArrowRight")
    assert tab.value("document.activeElement === document.querySelectorAll('.t')[1]")
    assert tab.value(TIP.format(place=1)) != "none"
    assert tab.value("document.querySelectorAll('.t[tabindex=\"0\"]').length") == answers


@pytest.mark.parametrize("width", [360, 390, 1200])
def test_nothing_is_wider_than_the_screen(tab, written, width):
    tab.open(written, width=width)
    assert tab.value("document.scrollingElement.scrollWidth") <= width


def test_dark_is_dark_and_paper_is_light(tab, written):
    tab.open(written, dark=True)
    assert tab.value(PAPER) == "rgb(22, 23, 26)"
    tab.call(
        "Emulation.setEmulatedMedia",
        media="print",
        features=[{"name": "prefers-color-scheme", "value": "dark"}],
    )
    assert tab.value(PAPER) == "rgb(252, 251, 248)"


def test_no_id_is_used_twice_and_every_label_points_somewhere(tab, written):
    tab.open(written)
    ids = tab.value("[...document.querySelectorAll('[id]')].map(each => each.id)")
    assert len(ids) == len(set(ids)) > 20
    labels = tab.value(
        "[...document.querySelectorAll('[aria-labelledby]')].map(e => e.getAttribute('aria-labelledby'))"
    )
    assert {each for label in labels for each in label.split()} <= set(ids)
