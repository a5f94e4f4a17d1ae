from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import pytest

from actors.http.egress import MOST_BYTES, Answer, Egress, EgressRefused
from actors.pipeline import CallKey, ToolDeclarationError, ToolError, tool
from actors.retrieval import Index
from actors.runtime.settings import Settings
from actors.toolbox import Toolbox
from actors.tools import TOOLS, calculator, http_get, numbers_in, search, urls_in

KEY = CallKey("job-1-0")
HTML = {"content-type": "text/html; charset=utf-8"}


@pytest.mark.parametrize(
    ("expression", "value"), [("7 * 45", "315"), ("(1 + 2) / 4", "0.75"), ("2 ** 10", "1024"), ("1e3 - 1", "999")]
)
def test_the_calculator_calculates(expression: str, value: str) -> None:
    assert calculator(expression) == value


@pytest.mark.parametrize("expression", ["7 / 0", "seven", "9 ** 9 ** 9", "open('x')", "1 +", "().__class__"])
def test_what_has_no_value_is_told_in_words(expression: str) -> None:
    with pytest.raises(ToolError, match="cannot be calculated"):
        calculator(expression)


def test_numbers_and_urls_of_a_question_are_told_apart() -> None:
    question = "Is 7 times 45.5 on http://a.example:8080/b?c=9, or 7 on https://b.example/?"
    assert numbers_in(question) == ("7", "45.5")
    assert urls_in(question) == ("http://a.example:8080/b?c=9", "https://b.example/")


def test_a_small_model_can_only_calculate_with_numbers_of_the_question() -> None:
    narrow = calculator.for_question("What is 7 times 4.5?")
    assert narrow is not None
    [shape] = narrow.model_json_schema()["properties"].values()
    assert shape["pattern"] == r"^(7|4\.5) [-+*/] (7|4\.5)$"
    assert calculator.for_question("What is 7?") is None


def test_only_pages_that_the_question_names_are_offered() -> None:
    narrow = http_get.for_question("What does http://a.example/b say?")
    assert narrow is not None
    [shape] = narrow.model_json_schema()["properties"].values()
    assert shape["pattern"] == r"^(http://a\.example/b)$"
    assert http_get.for_question("What does it say?") is None


class Net(Egress):
    """Answers without asking anybody."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self._answer = answer

    async def get(self, url: str) -> Answer:
        return self._answer


async def test_a_page_is_its_text() -> None:
    assert await http_get(Net(Answer(200, body=b"a <mill>")), "http://a.example/") == "a <mill>"
    page = Answer(200, HTML, b"<script>x</script><p>a <b>mill</b>")
    assert (await http_get(Net(page), "http://a.example/")).strip() == "a mill"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Answer(302, {"location": "http://127.0.0.1/"}), "leads on to http://127.0.0.1/, which is not followed"),
        (Answer(404), "it answered 404"),
    ],
)
async def test_a_page_that_is_not_there_is_told_in_words(answer: Answer, told: str) -> None:
    with pytest.raises(ToolError, match=told):
        await http_get(Net(answer), "http://a.example/")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", ["<a ", "<!--", "<![foo[", f"&#{'9' * 5_000};"])
async def test_a_hostile_page_is_read_like_any_other(piece: str) -> None:
    page = f"<p>a mill{piece * (MOST_BYTES // len(piece))}"
    assert (await http_get(Net(Answer(200, HTML, page.encode())), "http://a.example/")).startswith("\n\na mill")


async def test_what_may_not_be_reached_is_told_in_words() -> None:
    with pytest.raises(ToolError, match="not public"):
        await http_get(Egress(), "http://127.0.0.1:1/")


async def test_the_index_can_be_searched_by_the_model() -> None:
    async with Index() as index:
        assert "mills/overshot: On an overshot wheel" in await search(index, "overshot")
        assert await search(index, "qqqq") == "nothing was found"


async def test_an_unknown_tool_is_told_with_those_that_there_are() -> None:
    with pytest.raises(ToolError, match="no tool 'calendar'; there are: calculator, search, http_get"):
        await TOOLS.call("calendar", {}, KEY)


async def test_what_several_tools_use_is_opened_once_and_closed() -> None:
    events: list[str] = []

    class Pool(nullcontext[str]):
        async def __aenter__(self) -> str:
            events.append("opened")
            return "pool"

        async def __aexit__(self, *_: object) -> None:
            events.append("closed")

    pool = Pool()

    @tool(uses=pool)
    async def one(given: str) -> str:
        """One."""
        return f"one of {given}"

    @tool(uses=pool)
    async def two(given: str) -> str:
        """Two."""
        return f"two of {given}"

    async with Toolbox(one, two) as box:
        assert [await box.call(name, {}, KEY) for name in ("one", "two")] == ["one of pool", "two of pool"]
    assert events == ["opened", "closed"]


async def test_settings_reach_what_the_tools_use() -> None:
    allowed = TOOLS.with_settings(Settings(egress_allow="127.0.0.0/8"))
    async with allowed:
        with pytest.raises(ToolError, match="could not be asked"):  # and not: may not be
            await allowed.call("http_get", {"url": "http://127.0.0.1:1/"}, KEY)
    with pytest.raises(EgressRefused):
        await Egress().get("http://127.0.0.1:1/")


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(ToolDeclarationError, match="two tools are called 'calculator'"):
        Toolbox(calculator, search, calculator)


def test_a_toolbox_names_its_tools_in_order() -> None:
    names: Sequence[str] = [tool.name for tool in TOOLS]
    assert names == ["calculator", "search", "http_get"]
