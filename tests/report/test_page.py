"""The report in a browser: the page stands alone, obeys filters and keys, and fits a phone."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright
from report_fixture import CLASS_NAMES, exported, write_reports

from pipeline.core.files import read_json, write_json
from pipeline.report.content import read_content
from pipeline.report.figures import charts
from pipeline.report.page import render_page
from stages import report

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_PATIENCE_MS = 20_000.0  # a machine may be busy


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(_BROWSERS)} is installed and CHROMIUM does not name one")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


def make_page(folder: Path, **options: Any) -> Path:
    """Returns the page alone, of a report with these options."""
    write_reports(folder, **options)
    return rendered(folder)


def rendered(folder: Path) -> Path:
    content = read_content(folder / "reports", folder / "data/explain", exported(folder))
    path = folder / "page.html"
    path.write_text(render_page(content, list(charts(content))), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the page that the stage makes."""
    folder = tmp_path_factory.mktemp("page")
    write_reports(folder)
    report.main(folder / "params.yaml", folder / "reports", folder / "data/explain")
    return folder / "reports/report.html"


@dataclass
class Watched:
    """A page, what it complained of and what it asked for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@dataclass
class Opener:
    browser: Browser
    opened: list[Watched] = field(default_factory=list)

    def __call__(self, file: Path, **options: Any) -> Page:
        page = self.browser.new_page(**options)
        page.set_default_timeout(_PATIENCE_MS)
        watched = Watched(page)
        self.opened.append(watched)
        page.on("console", lambda message: watched.complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: watched.complaints.append(str(error)))
        page.on("dialog", lambda dialog: watched.complaints.append(f"dialog: {dialog.message}"))

        def note(request: Request) -> None:
            watched.asked.append(request.url)

        page.on("request", note)
        page.goto(file.as_uri())
        return page


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opener]:
    """Opens pages; at the end none of them has logged an error or asked for another file."""
    opener = Opener(browser)
    yield opener
    for watched in opener.opened:
        own = watched.page.url.partition("#")[0]
        watched.page.close()
        assert watched.complaints == []
        assert [url for url in watched.asked if url.partition("#")[0] != own and not url.startswith("data:")] == []


def cards(page: Page) -> list[str]:
    """Returns the sample ids on show."""
    return page.locator(".sample h3").all_inner_texts()


def found(page: Page) -> str:
    return page.locator("#found").inner_text()


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_role("combobox", name=label, exact=True).select_option(label=option)


def fits(page: Page) -> bool:
    """Returns whether nothing makes the page wider than its window."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def test_the_answer_comes_first_and_every_figure_is_there(opened: Opener, file: Path) -> None:
    page = opened(file)
    expect(page.locator("h1")).to_have_text(
        "Distillation paid for 1 of 3 students in this run, not for 1, unclear for 1."
    )
    assert page.locator(".comparisons .badge").all_inner_texts() == ["? unclear", "✓ yes", "✗ no"]
    assert page.locator("figure svg[role=img][aria-label]").count() == 7
    for name in ("tiny", "tiny, int8", "medium_hard"):
        expect(page.locator("#answer table").first.get_by_role("rowheader", name=name, exact=True)).to_be_visible()
    assert "2 faults" in page.locator(".card", has_text="dense8").inner_text()
    assert "no faults, teacher not asked" in page.locator("#labels .card").last.inner_text()
    assert "Of 54,000 hard labels, about 12 are probably wrong" in page.locator("#samples").inner_text()
    assert page.locator("h1").count() == 1


def test_names_are_shown_as_they_are_and_never_run(opened: Opener, file: Path) -> None:
    page = opened(file)
    expect(page.locator(".sample").first).to_be_visible()
    headings = page.locator("#confusion-table thead th").all_text_contents()
    assert headings == CLASS_NAMES
    assert page.locator("b", has_text="Pullover").first.inner_text() == "<b>Pullover</b>"
    assert page.locator("#labels").inner_text().count("block <v0> is torn") == 1


def test_the_same_content_gives_the_same_page(file: Path, tmp_path: Path) -> None:
    assert make_page(tmp_path).read_bytes() == file.read_bytes()


def test_a_table_sorts_by_value_and_what_does_not_apply_comes_last(opened: Opener, file: Path) -> None:
    page = opened(file)
    table = page.locator("#answer table").first

    def order() -> list[str]:
        return table.locator("tbody th").all_inner_texts()

    before = order()
    heading = table.get_by_role("button", name="gain (points)")
    heading.click()
    assert order()[:3] == ["small", "tiny", "medium"]
    assert table.locator("th[aria-sort=descending]").inner_text().startswith("gain")
    heading.press("Enter")
    assert order()[:3] == ["medium", "tiny", "small"]
    table.get_by_role("button", name="parameters").click()
    assert order()[0] == "teacher"
    assert sorted(order()) == sorted(before)


def test_confusions_are_those_of_the_chosen_network(opened: Opener, file: Path) -> None:
    page = opened(file)
    first = page.locator("#confusion-largest").inner_text()
    counts = [int(text) for text in page.locator("#confusion-largest b").all_inner_texts()]
    assert counts == sorted(counts, reverse=True)
    page.locator("#confusion-network").select_option("small")
    assert page.locator("#confusion-largest").inner_text() != first
    assert page.locator("#confusion-table tbody td").count() == 100


def test_samples_are_filtered_and_the_number_found_is_told(opened: Opener, file: Path) -> None:
    page = opened(file)
    expect(page.locator("#found")).to_have_text("40 of 40 samples, page 1 of 4")
    assert cards(page)[0] == "abcdef0000000001"
    choose(page, "Split", "test")
    assert found(page) == "14 of 40 samples, page 1 of 2"
    choose(page, "Split", "all")
    choose(page, "Kind", "with maps")
    assert found(page).startswith("10 of 40")
    assert page.locator(".sample").first.locator(".maps canvas").count() == 7
    choose(page, "Kind", "all")
    choose(page, "Hard label", CLASS_NAMES[5])
    assert found(page).startswith("4 of 40")
    choose(page, "Hard label", "all")
    choose(page, "Wrong", "any student")
    wrong = int(found(page).split()[0])
    choose(page, "Wrong", "small")
    assert 0 < int(found(page).split()[0]) < wrong < 40
    choose(page, "Wrong", "whoever")
    page.get_by_label("Sample id").fill("0021")
    assert cards(page) == ["abcdef0000000021"]
    page.get_by_label("Sample id").fill("xyz")
    assert "No sample" in page.locator("#browser").inner_text()
    assert page.locator("#found[aria-live=polite]").count() == 1


def test_a_card_tells_who_says_what_and_marks_the_hard_label_with_a_sign(opened: Opener, file: Path) -> None:
    page = opened(file)
    card = page.locator(".sample", has_text="abcdef0000000001")
    assert card.locator(".says").first.locator("canvas").count() == 4
    assert card.locator(".says").last.locator(".who").all_inner_texts()[:3] == ["teacher", "tiny", "tiny_hard"]
    assert card.locator(".says").last.locator(".guess").count() == 21
    marked = card.locator(".guess.hard").all_inner_texts()
    assert marked
    assert all(text.startswith("● Trouser") for text in marked)
    page.get_by_label("Sample id").fill("0004")  # without a hard label
    assert "hard label: none" in page.locator(".sample").inner_text()


def test_an_image_is_the_tile_that_it_names(opened: Opener, file: Path) -> None:
    page = opened(file)
    expect(page.locator(".sample").first).to_be_visible()
    same = page.evaluate(
        """() => {
          const { samples, columns, tile_px: [height, width] } = JSON.parse(document.getElementById("data").textContent).browser;
          return [...document.querySelectorAll(".sample")].every((card) => {
            const n = samples.find((sample) => sample.id === card.querySelector("h3").textContent).image;
            const expected = Object.assign(document.createElement("canvas"), { width, height });
            const [x, y] = [-width * (n % columns), -height * Math.floor(n / columns)];
            expected.getContext("2d").drawImage(document.getElementById("tiles"), x, y);
            return card.querySelector("canvas").toDataURL() === expected.toDataURL();
          });
        }"""
    )
    assert same


def test_pages_turn_by_buttons_and_by_keys(opened: Opener, file: Path) -> None:
    page = opened(file)
    expect(page.locator(".sample").first).to_be_visible()
    seen = cards(page)
    assert len(seen) == 12
    page.get_by_role("button", name="Next page").first.click()
    assert found(page).endswith("page 2 of 4")
    assert not set(seen) & set(cards(page))
    for key, number in (("j", 3), ("ArrowRight", 4), ("j", 4), ("k", 3), ("ArrowLeft", 2)):
        page.keyboard.press(key)
        assert found(page).endswith(f"page {number} of 4")
    page.get_by_label("Sample id").press("j")  # is typed, turns nothing
    assert page.get_by_label("Sample id").input_value() == "j"
    page.get_by_label("Sample id").fill("")
    page.keyboard.press("Tab")
    choose(page, "Order", "most disagreed first")
    assert found(page).endswith("page 1 of 4")


def test_a_button_keeps_the_focus_where_it_can_turn_no_further(opened: Opener, file: Path) -> None:
    page = opened(file)
    forward = page.get_by_role("button", name="Next page").first
    for _ in range(4):
        forward.press("Enter")
    assert found(page).endswith("page 4 of 4")
    assert forward.get_attribute("aria-disabled") == "true"
    expect(forward).to_be_focused()
    back = page.get_by_role("button", name="Previous page").first
    back.press("Enter")
    assert found(page).endswith("page 3 of 4")
    assert forward.get_attribute("aria-disabled") == "false"


def test_everything_that_can_be_used_is_reached_by_tab_and_seen_there(opened: Opener, file: Path) -> None:
    page = opened(file)
    expect(page.locator(".sample").first).to_be_visible()
    wanted = page.locator("a[href], button, select, input, summary").count()
    reached = set()
    for _ in range(3 * wanted):
        page.keyboard.press("Tab")
        here = page.evaluate(
            """() => {
              const element = document.activeElement;
              if (element === document.body) return null;
              element.dataset.reached ??= String(performance.now());
              return [element.dataset.reached, element.tagName, getComputedStyle(element).outlineStyle];
            }"""
        )
        if here is None or here[0] in reached:
            break
        assert here[2] != "none", here
        reached.add(here[0])
    unreached = page.locator("a[href], button, select, input, summary").locator("visible=true")
    missed = unreached.evaluate_all("(all) => all.filter((one) => !one.dataset.reached).map((one) => one.outerHTML)")
    assert missed == []


@pytest.mark.parametrize("width", [360, 768])
def test_a_small_window_has_no_sideways_scrolling(opened: Opener, file: Path, width: int) -> None:
    page = opened(file, viewport={"width": width, "height": 740})
    expect(page.locator(".sample").first).to_be_visible()
    for summary in page.locator("summary").all():
        if summary.locator("..").get_attribute("open") is None:
            summary.click()
    assert fits(page)


def test_the_page_follows_light_and_dark_mode(opened: Opener, file: Path) -> None:
    looks = []
    for scheme in ("light", "dark"):
        page = opened(file, color_scheme=scheme)
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        ink = page.locator("svg.chart text").first.evaluate("(text) => getComputedStyle(text).fill")
        looks.append((paper, ink))
    (light_paper, light_ink), (dark_paper, dark_ink) = looks
    assert light_paper != dark_paper
    assert light_ink != dark_ink


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(opened: Opener, file: Path, scheme: Any) -> None:
    """At least 4.5 to 1, as WCAG 2.2 asks at level AA (1.4.3)."""
    page = opened(file, color_scheme=scheme)
    expect(page.locator(".sample").first).to_be_visible()
    faint = page.evaluate(
        """() => {
          const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
          const clear = (colour) => colour === "transparent" || numbers(colour)[3] === 0;
          const light = (colour) => numbers(colour).slice(0, 3)
            .map((part) => part / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
            .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0.05);
          const behind = (element) => {
            const colour = getComputedStyle(element).backgroundColor;
            return clear(colour) && element.parentElement ? behind(element.parentElement) : colour;
          };
          const chosen = "h1, p, a, td, th, dt, dd, small, figcaption, caption, summary, label, select, .badge, .who, .kind, kbd";
          return [...document.querySelectorAll(chosen)]
            .filter((one) => one.innerText && !one.closest("#confusion-table"))
            .map((one) => {
              const [a, b] = [light(getComputedStyle(one).color), light(behind(one))];
              return [one.outerHTML.slice(0, 80), Math.max(a, b) / Math.min(a, b)];
            })
            .filter(([, contrast]) => contrast < 4.5);
        }"""
    )
    assert faint == []


@pytest.mark.parametrize(
    "options",
    [
        {"twins": False, "exports": False, "explained": False},
        {"students": (), "num_samples": 3},
        {"class_names": [f"class {n}" for n in range(1000)], "exports": False},
        {"class_names": ["cat", "dog"], "num_samples": 0},
        {"students": [f"student_with_a_long_name_{n}" for n in range(60)], "num_samples": 13, "exports": False},
    ],
    ids=["bare", "teacher alone", "1000 classes", "2 classes, no samples", "121 networks"],
)
def test_a_page_of_little_or_of_much_stays_in_shape(opened: Opener, tmp_path: Path, options: dict[str, Any]) -> None:
    page = opened(make_page(tmp_path, **options), viewport={"width": 360, "height": 740})
    expect(page.locator("#confusion-table tbody tr").first).to_be_visible()
    assert page.locator("#confusion-table tbody tr").count() <= 30
    if options.get("num_samples", 40) and options.get("explained", True):
        expect(page.locator(".sample").first).to_be_visible()
    assert fits(page)


def test_of_many_networks_a_card_shows_the_first_and_the_others_on_demand(opened: Opener, tmp_path: Path) -> None:
    page = opened(make_page(tmp_path, students=[f"s{n}" for n in range(10)], num_samples=2, exports=False))
    card = page.locator(".sample", has_text="with maps")
    assert card.locator(".maps canvas").count() == 8
    assert page.locator("#samples > dl.bars dt").count() == 12
    card.get_by_text("13 more").last.click()
    expect(card.locator(".maps canvas")).to_have_count(21)
    page.locator("#samples > details summary", has_text="8 more").click()
    expect(page.locator(".bars dt").last).to_be_visible()
    assert page.locator(".bars dt").count() == 20


def test_a_bar_is_as_long_as_what_it_tells_on_a_phone_too(opened: Opener, file: Path) -> None:
    page = opened(file, viewport={"width": 360, "height": 740})
    lengths = page.locator(".bars i").evaluate_all("(all) => all.map((one) => one.getBoundingClientRect().width)")
    assert lengths[-1] / lengths[0] == pytest.approx(0.45 / 0.4, rel=0.01)


def test_a_sheet_that_cannot_be_read_is_told(opened: Opener, file: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    broken.write_text(file.read_text(encoding="utf-8").replace("base64,iVBOR", "base64,AAAAA"), encoding="utf-8")
    page = opened(broken)
    expect(page.get_by_role("alert")).to_contain_text("samples can't be shown")
    assert page.locator("#filters, .pager").count() == 0


def test_what_was_not_measured_is_not_shown(opened: Opener, tmp_path: Path) -> None:
    write_reports(tmp_path, num_samples=3)
    explanation = read_json(tmp_path / "reports/explain.json", made_by="")
    explanation |= {"num_maps": 1, "map_agreement_by_chance": {}, "num_suspects": 0}
    write_json(tmp_path / "reports/explain.json", explanation)
    told = read_json(tmp_path / "data/explain/samples.json", made_by="")
    for sample in told["samples"]:
        del sample["disagreement"]
    write_json(tmp_path / "data/explain/samples.json", told)
    page = opened(rendered(tmp_path))
    facts = page.locator(".sample .facts small").all_inner_texts()
    assert sorted(facts) == ["", "suspicion 0.33", "suspicion 0.67"]
    text = page.locator("#samples").inner_text()
    assert "none is probably wrong" in text
    assert "by chance" not in text


def test_samples_are_shown_where_the_teacher_runs_elsewhere(opened: Opener, tmp_path: Path) -> None:
    write_reports(tmp_path)
    evaluation = read_json(tmp_path / "reports/evaluate.json", made_by="")
    del evaluation["models"]["teacher"]
    write_json(tmp_path / "reports/evaluate.json", evaluation)
    told = read_json(tmp_path / "data/explain/samples.json", made_by="")
    told["networks"].remove("teacher")
    for sample in told["samples"]:
        del sample["disagreement"], sample["says"]["teacher"]
        sample.get("maps", {}).pop("teacher", None)
        sample.pop("map_agreement", None)
    write_json(tmp_path / "data/explain/samples.json", told)
    report.main(tmp_path / "params.yaml", tmp_path / "reports", tmp_path / "data/explain")
    page = opened(tmp_path / "reports/report.html")
    expect(page.locator(".sample").first).to_be_visible()


#: Parts of a text, two of which are what a view lacks or hides, and the cells of a row.
_TEXT = [{"text": "<img src=x onerror=alert(1)>"}, {"text": "gone", "change": "dropped"}, {"text": "tree"}]
_ROW = [{"name": "<i>age</i>", "text": "20 to 30"}, {"name": "place", "text": "<u>bay</u>", "change": "changed"}]


@pytest.mark.parametrize("parts", [_TEXT, _ROW], ids=["text", "row"])
def test_parts_are_shown_as_they_are_and_coloured_by_what_they_add(
    parts: list[dict[str, str]], opened: Opener, tmp_path: Path
) -> None:
    write_reports(tmp_path)
    evaluation = read_json(tmp_path / "reports/evaluate.json", made_by="")
    write_json(tmp_path / "reports/evaluate.json", evaluation | {"thing": "text", "robustness": None})
    told = read_json(tmp_path / "data/explain/samples.json", made_by="")
    nats = [0.5, -2.0, 1.0][: len(parts)]
    for sample in told["samples"]:
        sample["image"] = parts
        sample |= {"views": [parts] * 4} if "views" in sample else {}
        sample |= {"maps": dict.fromkeys(sample["maps"], nats)} if "maps" in sample else {}
    told |= {"tile_px": None, "map_px": None, "tiles_sheet": None, "maps_sheet": None}
    write_json(tmp_path / "data/explain/samples.json", told)
    page = opened(rendered(tmp_path), viewport={"width": 375, "height": 800})
    card = page.locator(".sample", has_text="abcdef0000000004")
    expect(card).to_be_visible()
    shown = [" ".join(filter(None, [part.get("name"), part["text"]])) for part in parts]
    assert card.locator("> header .part").all_inner_texts() == shown
    assert card.locator(".says .part").count() == 4 * len(parts)
    assert page.locator("canvas").count() == 0
    one = card.locator(".maps .parts").first.locator(".part")
    assert one.nth(0).get_attribute("title") == "+0.500 nats"
    assert one.nth(1).get_attribute("title") == "\N{MINUS SIGN}2.000 nats"
    colours = [one.nth(n).evaluate("e => getComputedStyle(e).backgroundColor") for n in range(len(parts))]
    assert len({*colours}) == len(parts)
    assert "70%" in (one.nth(1).get_attribute("style") or "")
    changed = next(part["change"] for part in parts if "change" in part)
    assert card.locator(f"> header .{changed}").count() == 1
    assert "Robustness" not in page.locator("body").inner_text()
    assert "test texts of" in page.locator(".lead").inner_text()
    assert fits(page)
