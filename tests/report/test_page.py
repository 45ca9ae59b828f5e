"""A page is one sound file that says what the report says, whatever the report holds."""

import base64
import hashlib
import itertools
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from diffusionmtl.report.content import (
    TRAINING_IMAGE,
    UNSEEN_IMAGE,
    Curve,
    Example,
    Finding,
    Legend,
    Ranked,
    Report,
    Series,
    Table,
    TaskPanel,
)
from diffusionmtl.report.page import render, write
from diffusionmtl.tasks.charts import ClassCounts
from tests.report.test_reliability import AFTER, BEFORE, measured

HOSTILE = "\"'><script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>&amp;$title ${style}"
VOID = {"meta", "img", "input", "br", "link"}


class Page(HTMLParser):
    """Every start tag with its attributes, the text, and whether tags close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"an attribute of {tag} stands twice"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.tags if name == tag)

    @property
    def text(self) -> str:
        return "".join(self.words)


def picture(seed: int, size: tuple[int, int] = (24, 32)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def full_report(word: str) -> Report:
    panel = TaskPanel(
        task=word,
        kind=f"{word} kind",
        refined=picture(0),
        seen=None,
        truth=picture(1),
        initial=picture(2),
        spread=picture(3),
        spread_note=word,
        caption=word,
        others={word: picture(4)},
        steps=(picture(9), picture(10)),
    )
    other = TaskPanel(task="depth", kind="depth", refined=picture(5), seen=picture(6))
    return Report(
        title=word,
        lead=word,
        highlights=((word, word),),
        tables=(Table(word, (word, "b"), ((f"{word}\n{word}", "1.25"),), frozenset({(0, 1)})),),
        curves=(Curve(word, word, {word: Series((0.0, 1.0), (1.0, 2.0))}),),
        examples=(
            Example(word, UNSEEN_IMAGE, picture(7), (panel,)),
            Example("image 2", TRAINING_IMAGE, picture(8), (panel, other)),
        ),
        ranked=(Ranked(word, word, {"best": Example(word, UNSEEN_IMAGE, picture(11), (panel,))}),),
        findings=(
            Finding(
                word,
                f"{word} kind",
                word,
                (ClassCounts(np.array([[2, 1], [0, 3]]), (f"{word}!"[-18:], "other")),),
                measured(word, True, BEFORE, AFTER),
                word,
            ),
        ),
        legends=(Legend(word, word, word, ((word, (1, 2, 3)),)),),
        coverage=Table(word, ("task", word), ((word, word),), collapsed=True),
        provenance={word: word},
        settings=Table(word, (word,), ((word,),), collapsed=True),
        command=word,
        notes=(word,),
    )


@pytest.fixture(scope="module")
def hostile() -> Page:
    return Page(render(full_report(HOSTILE)))


@pytest.fixture(scope="module")
def plain() -> Page:
    return Page(render(full_report("semseg")))


def test_hostile_words_stay_words(hostile: Page, plain: Page) -> None:
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    for tag, attributes in hostile.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
    assert hostile.text.count("<script>alert(1)</script>") > 15
    assert len(list(hostile.all("script"))) == 1


def test_nothing_is_fetched(hostile: Page) -> None:
    for tag, attributes in hostile.tags:
        for name in ("src", "srcset", "poster", "data", "action"):
            assert (attributes.get(name) or "data:").startswith("data:image/" if name in attributes else "data:"), tag
        assert (attributes.get("href") or "#").startswith("#")
    style = render(full_report("x")).split("<style>")[1].split("</style>")[0]
    assert "@import" not in style
    assert "url(" not in style
    policy = next(a["content"] for a in hostile.all("meta") if "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_the_policy_lets_the_pages_own_script_run(plain: Page) -> None:
    text = render(full_report("x"))
    script = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text


def test_it_can_be_read_without_eyes_or_mouse(plain: Page) -> None:
    for image in plain.all("img"):
        assert image["alt"]
        assert image["src"]
    assert next(plain.all("html"))["lang"] == "en"
    for cell in plain.all("th"):
        assert cell["scope"] in ("row", "col")
    for control in plain.all("input"):
        assert control["type"] == "radio" or control["aria-label"]
    for diagram in plain.all("svg"):
        assert diagram.get("aria-label") or diagram.get("aria-hidden") == "true"
    levels = [int(tag[1]) for tag, _ in plain.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels)), "no heading level skipped"


def test_ids_are_unique_and_links_and_sliders_find_them(plain: Page) -> None:
    ids = [attributes["id"] for _, attributes in plain.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for link in plain.all("a"):
        assert (link["href"] or "").removeprefix("#") in ids
    stacks = [attributes["data-before"] for _, attributes in plain.tags if "data-before" in attributes]
    assert len(stacks) == 3
    assert set(stacks) <= set(ids)


def test_each_column_stands_where_something_fills_it(plain: Page) -> None:
    labels = [
        word for word in plain.words if word in ("training saw", "ground truth", "initial", "refined", "prediction")
    ]
    first, second = labels[:4], labels[4:12]
    assert first == ["ground truth", "initial", "refined", "initial"], "nobody saw labels of an unseen image"
    assert second == [
        "training saw",
        "ground truth",
        "initial",
        "refined",
        "initial",  # before the denoising steps
        "training saw",
        "ground truth",
        "prediction",
    ]
    assert "not labelled" in plain.words
    assert "not annotated" in plain.words


def test_numbers_are_aligned_and_the_best_stands_out(plain: Page) -> None:
    assert any(cell.get("class") == "number strong" for cell in plain.all("td"))
    assert "1.25" in plain.words


def test_an_empty_report_is_a_page() -> None:
    page = Page(render(Report("Nothing yet", "Nothing.")))
    assert not list(page.all("section"))
    assert "Nothing yet" in page.text


def test_an_image_of_six_tasks_weighs_under_a_megabyte() -> None:
    grain = np.random.default_rng(0).integers(0, 5, (96, 128, 3))
    drawn = (np.linspace(0, 250, 128)[:, None] + grain).astype(np.uint8)
    panels = tuple(
        TaskPanel(f"task {i}", "depth", drawn, None, drawn, drawn, drawn, "0 to 1 m", "caption") for i in range(6)
    )
    empty = len(render(Report("t", "l")))
    one = len(render(Report("t", "l", examples=(Example("image", UNSEEN_IMAGE, drawn, panels),))))
    assert empty < 30_000
    assert one - empty < 1_000_000, "so six of them stay under 6 MB, grainy as they are"


def test_written_whole(tmp_path: Path) -> None:
    report = full_report("semseg")
    path = write(report, tmp_path / "deep" / "report.html")
    assert path.read_text("utf-8") == render(report)
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_a_ragged_table_is_refused() -> None:
    with pytest.raises(ValueError, match="2 cells under 1 columns"):
        Table("t", ("a",), (("1", "2"),))


def test_the_steps_of_the_first_image_are_unfolded(plain: Page) -> None:
    folds = [fold for fold in plain.all("details") if fold.get("class") == "steps"]
    assert ["open" in fold for fold in folds] == [True, False, False]
    assert plain.words.count("step 2") == 3


def test_confusion_and_reliability_have_a_section_of_their_own(plain: Page) -> None:
    assert "errors" in [section["id"] for section in plain.all("section")]
    assert {"Confusion matrix", "Reliability", "Whether doubt finds errors"} <= set(plain.words)
    assert any(
        "Calibration error 0.25 before, 0.0125 after" in (svg.get("aria-label") or "") for svg in plain.all("svg")
    )
