import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from selenium import webdriver

from tests.browser import Page, browser
from tests.transformer_core.inspection.test_attention_maps import example
from tests.transformer_core.inspection.test_curves import step_record, validation_record, write_run
from transformer_core.config import AttentionKind
from transformer_core.errors import ConfigError
from transformer_core.inspection import html_page
from transformer_core.inspection.attention_maps import SentenceAttention
from transformer_core.inspection.curves import read_runs
from transformer_core.inspection.html_page import attention_page, curves_page, embedded_json

pytestmark = pytest.mark.slow

HOSTILE = (
    "</script><script>window.isBroken = true</script><!-- <b>{{data}}</b> &amp; \\u003c \u2028 'x' \"y\" ${1} {{title}}"
)


@pytest.fixture(scope="module")
def driver() -> Iterator[webdriver.Chrome]:
    with browser() as started:
        yield started


@pytest.fixture
def page(driver: webdriver.Chrome, tmp_path: Path) -> Page:
    return attention_in(driver, tmp_path, example())


def attention_in(driver: webdriver.Chrome, folder: Path, attention: SentenceAttention, model: str = "en-de") -> Page:
    path = folder / "attention.html"
    path.write_text(attention_page(attention, attention.select("cross", 2, 1)[0], model), encoding="utf-8")
    return Page(driver, path)


def percent(weight: float) -> str:
    """As the page writes a weight, which it has in thousandths."""
    return f"{weight:.1%}".replace("%", " %")


def test_json_in_a_page_is_the_same_and_cannot_leave_its_element() -> None:
    data = {"text": HOSTILE, "numbers": [1, 2.5, None], "שלום": "\x00\t\u2029"}
    text = embedded_json(data)
    assert json.loads(text) == data
    assert not set(text) & set("<>&\u2028\u2029")
    with pytest.raises(ValueError):
        embedded_json([math.nan])


def test_a_page_asks_for_nothing_outside_itself() -> None:
    attention = example()
    for text in (attention_page(attention, attention.select("cross")[0], "m"), curves_page([], [], "step")):
        assert "http:" not in text.replace('"http://www.w3.org/2000/svg"', "") and "https:" not in text
        assert "default-src 'none'" in text
        assert " src=" not in text and "@import" not in text and "url(" not in text


def test_a_page_that_no_browser_could_show_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    attention = example()
    monkeypatch.setattr(html_page, "MAX_WEIGHTS", 221)
    with pytest.raises(ConfigError, match="a page of 222 weights is more than a browser shows; take a shorter"):
        attention_page(attention, attention.select("cross")[0], "m")


def test_it_shows_first_what_was_asked_for(page: Page) -> None:
    attention = example()
    assert page.text("h1") == page.driver.title == "What en-de attends to"
    assert (page.text("#source"), page.text("#target")) == (attention.source, attention.target)
    assert page.text("#target-name") == "target, decoded"
    assert page.text("#map-name") == "cross-attention, layer 2, head 1"
    assert page.texts("#map thead th") == page.texts("#columns bdi") == list(attention.source_tokens)
    assert page.texts("#map tbody th") == page.texts("#rows bdi") == list(attention.target_tokens)
    assert page.faults() == []


def test_every_kind_layer_and_head_can_be_chosen_and_has_its_weights(page: Page) -> None:
    attention = example()
    for kind, weights in attention.weights.items():
        page.click(f'#kinds input[value="{kind}"]')
        assert page.texts("#map tbody th") == list(attention.rows(kind))
        assert page.texts("#map thead th") == list(attention.columns(kind))
        for layer in range(1, weights.shape[0] + 1):
            page.select("#layer", layer)
            for head in ("mean", 1, 2):
                page.select("#head", head)
                (expected,) = attention.select(kind, layer, head)
                assert page.text("#map-name") == str(expected)
                shown = [100 * weight for weight in expected.weights.ravel().tolist()]
                found = [float(text or 0) for text in page.texts("#map tbody td")]
                assert found == pytest.approx(shown, abs=0.56)  # rounded twice, to thousandths and to per cent
    assert page.faults() == []


def test_the_map_is_darker_where_the_weight_is_larger(page: Page) -> None:
    (expected,) = example().select("cross", 2, 1)
    read = (
        "return [...document.querySelectorAll('#map tbody td')].map((cell) => getComputedStyle(cell).backgroundColor)"
    )
    colors = page.run(read)
    assert isinstance(colors, list)
    # "rgba(24, 82, 158, 0.3)", and without the last number where it is 1
    alphas = [float(color.rpartition(",")[2].strip(" )")) if color.startswith("rgba") else 1.0 for color in colors]
    weights = expected.weights.ravel()
    assert numpy.argsort(alphas, kind="stable").tolist() == numpy.argsort(weights, kind="stable").tolist()
    assert max(alphas) == 1.0
    page.click("#relative")  # against a weight of 1
    assert page.run(read) != colors


def test_hovering_over_a_token_shows_by_what_weights_it_looks_and_is_looked_at(page: Page) -> None:
    attention = example()
    weights = attention.weights["cross"][1, 0]
    page.hover('#rows [data-row="1"]')
    assert page.texts("#columns small") == [percent(weight) for weight in weights[1]]
    assert page.texts("#rows small") == [""] * 3
    assert page.texts("#rows .chosen bdi") == page.texts("#map th.chosen") == ["▁y"]
    first = int(weights[1].argmax())
    assert page.text("#readout").startswith(
        f"“▁y” looks at “{attention.source_tokens[first]}” {percent(weights[1, first])}, "
    )
    page.hover('#columns [data-column="2"]')
    assert page.texts("#rows small") == [percent(weight) for weight in weights[:, 2]]
    assert page.text("#readout").startswith("“▁<b>” is looked at by “")
    page.hover('#map td[data-row="2"][data-column="0"]')
    assert page.text("#readout") == f"“<eos>” looks at “▁a” by {percent(weights[2, 0])}"
    page.hover("h1")
    assert page.text("#readout") == "No token is chosen."
    assert page.texts("#columns small") == [""] * 4
    assert page.faults() == []


def test_a_token_that_was_clicked_stays(page: Page) -> None:
    weights = example().weights["cross"]
    page.click('#rows [data-row="0"]')
    page.hover("h1")
    assert page.texts("#columns small") == [percent(weight) for weight in weights[1, 0, 0]]
    page.select("#layer", 3)  # and shows the weights of what is chosen now
    assert page.texts("#columns small") == [percent(weight) for weight in weights[2, 0, 0]]
    page.click('#rows [data-row="0"]')
    page.hover("h1")
    assert page.text("#readout") == "No token is chosen."


def test_the_overview_has_a_picture_of_every_head_that_chooses_it(page: Page) -> None:
    assert len(page.texts("#overview button")) == 3 * 3  # two heads and their mean
    page.click('#overview button[data-layer="3"][data-head="2"]')
    assert page.text("#map-name") == "cross-attention, layer 3, head 2"
    assert page.run("return [document.getElementById('layer').value, document.getElementById('head').value]") == [
        "3",
        "2",
    ]
    page.click('#overview button[data-layer="1"][data-head="mean"]')
    assert page.text("#map-name") == "cross-attention, layer 1, mean of the heads"


def test_a_kind_that_the_model_has_not_is_not_offered(driver: webdriver.Chrome, tmp_path: Path) -> None:
    page = attention_in(driver, tmp_path, example({"encoder": "gru", "decoder": "ssru"}))
    assert [text.strip() for text in page.texts("#kinds label")] == ["cross-attention"]
    assert page.faults() == []


def test_nothing_in_a_sentence_breaks_out(driver: webdriver.Chrome, tmp_path: Path) -> None:
    attention = replace(
        example(),
        source=HOSTILE,
        target=f"שלום {HOSTILE}",
        source_tokens=(HOSTILE, "</td>", "<img src=x onerror='window.isBroken = true'>", "<eos>"),
        target_tokens=("שלום", "'\"", "<eos>"),
    )
    page = attention_in(driver, tmp_path, attention, "<script>window.isBroken = true</script>{{data}}")
    assert page.run("return window.isBroken ?? null") is None
    assert page.text("#source") == HOSTILE
    assert page.texts("#map thead th") == list(attention.source_tokens)
    assert page.driver.title == "What <script>window.isBroken = true</script>{{data}} attends to"
    page.hover('#columns [data-column="2"]')
    assert "“<img src=x" in page.text("#readout")
    assert page.run("return document.querySelectorAll('b, img').length") == 0
    assert page.faults() == []


def test_a_long_sentence_is_a_picture_that_can_be_pointed_at(driver: webdriver.Chrome, tmp_path: Path) -> None:
    rows, columns = 5, 60
    weights = numpy.random.default_rng(0).dirichlet(numpy.ones(columns), size=(1, 1, rows)).astype(numpy.float32)
    kinds: dict[AttentionKind, str] = {"encoder": "conv", "decoder": "conv"}
    attention = SentenceAttention(
        source="long",
        target="short",
        is_decoded=False,
        source_tokens=tuple(f"s{number}" for number in range(columns)),
        target_tokens=tuple(f"t{number}" for number in range(rows)),
        begin_token="<bos>",
        weights={"cross": weights},
        missing=kinds,
    )
    path = tmp_path / "long.html"
    path.write_text(attention_page(attention, attention.select("cross")[0], "m"), encoding="utf-8")
    page = Page(driver, path)
    assert page.texts("#map thead th") == list(attention.source_tokens)
    page.hover("#map canvas", x=3)
    assert page.text("#readout") == f"“t2” looks at “s30” by {percent(weights[0, 0, 2, 30])}"
    # each row of the picture stands beside its label
    tops = page.run(
        "return [...document.querySelectorAll('#map tbody th')].map((cell) => cell.getBoundingClientRect().top"
        " - document.querySelector('#map canvas').getBoundingClientRect().top)"
    )
    height = page.run("return document.querySelector('#map canvas').getBoundingClientRect().height")
    assert isinstance(tops, list) and isinstance(height, float | int)
    assert tops == pytest.approx([row * height / rows for row in range(rows)], abs=2)
    assert page.faults() == []


@pytest.fixture
def curves(driver: webdriver.Chrome, tmp_path: Path) -> Page:
    runs = read_runs(
        [
            write_run(
                tmp_path / "<b>&amp;one",
                [step_record(10), step_record(20, loss=None), step_record(30), step_record(40), validation_record(40)],
            ),
            write_run(tmp_path / "two", [step_record(20, loss=7.5)]),
        ]
    )
    path = tmp_path / "curves.html"
    path.write_text(curves_page(runs, ["loss", "learning_rate", "bleu"], "step"), encoding="utf-8")
    return Page(driver, path)


def test_curves_have_a_panel_per_metric(curves: Page) -> None:
    assert curves.driver.title == "Training curves of <b>&amp;one, two"
    assert curves.texts(".panel h2") == ["loss", "learning rate", "bleu"]
    assert curves.text(".panel:nth-child(3) p") == "no numbers"
    paths = curves.run(
        "return [...document.querySelectorAll('#panel-loss path')].map((path) => path.getAttribute('d'))"
    )
    assert isinstance(paths, list)
    assert [path.count("M") for path in paths] == [2, 1, 1]  # broken where there is no number
    assert [path.count("L") for path in paths] == [1, 0, 0]
    assert curves.run("return document.querySelectorAll('#panel-loss circle').length") == 2  # where there is no line
    assert curves.texts("#panel-loss .told bdi") == ["<b>&amp;one training", "<b>&amp;one validation", "two training"]
    assert curves.run("return document.querySelectorAll('b').length") == 0
    assert curves.faults() == []


def test_runs_and_axis_are_chosen(curves: Page) -> None:
    curves.click('#axes input[value="time"]')
    assert "time (seconds)" in curves.texts("#panel-loss text")
    curves.click('#axes input[value="epoch"]')
    assert "epoch" in curves.texts("#panel-loss text")
    curves.click("#runs label:nth-child(1) input")
    assert curves.texts("#panel-loss .told bdi") == ["two training"]
    curves.click("#runs label:nth-child(2) input")
    assert curves.texts(".panel p") == ["no numbers"] * 3
    curves.click("#runs label:nth-child(1) input")
    assert curves.texts("#panel-loss .told bdi") == ["<b>&amp;one training", "<b>&amp;one validation"]
    assert curves.faults() == []


def test_hovering_tells_the_numbers_of_a_place(curves: Page) -> None:
    last = ["<b>&amp;one training 25", "<b>&amp;one validation 2", "two training 7.5"]
    assert [text.strip() for text in curves.texts("#panel-loss .told span")] == last
    curves.hover("#panel-loss svg", x=-200)
    place, *values = [text.strip() for text in curves.texts("#panel-loss .told span")]
    assert place.startswith("step 1")
    assert values == ["<b>&amp;one training 100", *last[1:]]
    curves.hover("h1")
    assert [text.strip() for text in curves.texts("#panel-loss .told span")] == last
    assert curves.faults() == []
