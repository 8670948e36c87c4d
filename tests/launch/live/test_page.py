"""The live page: what it holds, and how a browser shows it from a file."""

import re
import time
from dataclasses import replace

import pytest

from l2t_ray.launch.live.page import page, write_page
from l2t_ray.launch.live.view import CellView
from tests.launch.live.test_table import VIEW
from tests.support.browser import CHROMIUM, DRIVER, chromium
from tests.support.waiting import wait_for

browsing = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium or chromedriver is not installed")
WIDE_CELL = "animals/" + "/".join(["a_method_with_a_long_name"] * 4)


def text_of(html):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html.partition("<body>")[2].partition("<script>")[0]))


def test_the_page_of_a_running_launch_reads_itself_again():
    found = page(VIEW)
    assert '<meta http-equiv="refresh" content="5">' in found
    text = text_of(found)
    assert "15 of 32 runs finished , 61 s left (45 to 83 s)" in text
    assert "This launch: 16 of 32 runs ended (15 finished, 1 diverged), 2 running, after 42 s." in text
    assert "digits/2/ufm 6/8 1 1 78.25 1.50" in text
    assert "gpu 0 97 3.0 141.0" in text
    assert "NVIDIA H200 digits/1/ufm pack of 4 runs, epoch 12 of 60, 20 s so far, 41 s left" in text
    assert "pages: l2t ui quickstart" in text


def test_the_page_of_a_launch_that_has_ended_stays():
    found = page(replace(VIEW, ended_s=1_100.0, packs=()))
    assert "refresh" not in found
    assert "<script>" not in found
    assert "and ended at " in found
    assert "left (" not in found
    assert "Packs" not in found


def test_a_name_is_no_markup_and_only_addresses_are_links():
    cell = CellView("<script>alert(1)</script>", 1, 0, 0, 0)
    links = {"pages": "http://127.0.0.1:5000/#/x", "result": "l2t report x", "odd": "javascript:alert(1)"}
    found = page(replace(VIEW, cells=(cell,), links=links, notes=("<b>",)))
    assert "alert(1)</script>" not in found
    assert "<b>" not in found
    assert re.findall(r'href="([^"]*)"', found) == ["data:,", "http://127.0.0.1:5000/#/x"]


@browsing
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_from_a_file_without_a_network(tmp_path, width):
    cells = (*VIEW.cells, CellView(WIDE_CELL, 8, 1, 1, 0, 50.0))
    write_page(replace(VIEW, cells=cells, updated_s=time.time()), tmp_path / "live.html")
    with chromium(tmp_path / "profile", width) as browser:
        browser.open((tmp_path / "live.html").as_uri())
        assert browser.run("return document.documentElement.scrollWidth") <= width
        assert "updated at" in browser.run("return document.getElementById('age').textContent")
        assert browser.run("return document.querySelectorAll('table').length") == 3
        write_page(replace(VIEW, updated_s=time.time() - 60), tmp_path / "live.html")
        age = "return document.getElementById('age')?.textContent ?? ''"
        wait_for(lambda: "not updated since" in browser.run(age))  # it has read itself again
        assert not browser.run("return document.getElementById('left').offsetWidth")
        assert browser.console() == []
        assert {address.partition(":")[0] for address in browser.requests()} <= {"file", "data", "chrome"}
