from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from actors.analysis import analysis
from actors.picture import Way, mermaid, svg

DRAWN = Path(__file__).parents[2] / "docs" / "analysis.svg"
SVG = "{http://www.w3.org/2000/svg}"

LINE: list[Way] = [(None, "A", "one"), ("one", "B", None)]
SELF: list[Way] = [(None, "A", "one"), ("one", "B", "one"), ("one", "C", None)]
TWO_TYPES: list[Way] = [(None, "A", "one"), ("one", "B", "two"), ("one", "C", "two"), ("two", "D", None)]
ROUND: list[Way] = [
    (None, "A", "one"),
    ("one", "B", "two"),
    ("one", "C", "three"),
    ("two", "D", "three"),
    ("three", "E", "two"),
    ("three", "F", "one"),
    ("three", "G", None),
    ("one", "G", None),
]


def test_mermaid_has_an_arrow_for_each_way() -> None:
    assert mermaid([*ROUND[:3], ("three", "G", None)]).splitlines() == [
        "flowchart LR",
        "    s0(( ))",
        '    s1["one"]',
        '    s2["two"]',
        '    s3["three"]',
        "    s4(( ))",
        '    s0 -- "A" --> s1',
        '    s1 -- "B" --> s2',
        '    s1 -- "C" --> s3',
        '    s3 -- "G" --> s4',
    ]


def test_a_stage_may_be_called_as_mermaid_calls_something_of_its_own() -> None:
    assert '["end"]' in mermaid([(None, "A", "end"), ("end", "B", None)])


def test_types_that_go_the_same_way_share_an_arrow() -> None:
    assert '-- "B | C" -->' in mermaid(TWO_TYPES)
    assert ">B | C<" in svg(TWO_TYPES)


@pytest.mark.parametrize("ways", [LINE, SELF, TWO_TYPES, ROUND, list(analysis.routes)])
def test_a_drawing_shows_every_stage_once_every_type_and_every_way(ways: list[Way]) -> None:
    page = ElementTree.fromstring(svg(ways))
    said = [text.text for text in page.iter(f"{SVG}text")]
    stages = {name for giver, _, taker in ways for name in (giver, taker) if name}
    assert sorted(text for text in said if text in stages) == sorted(stages)
    pairs = {(giver, taker) for giver, _, taker in ways}
    assert len([path for path in page.iter(f"{SVG}path") if "id" in path.attrib]) == len(pairs)
    assert {type for text in said if text and text not in stages for type in text.split(" | ")} == {w[1] for w in ways}


@pytest.mark.parametrize("ways", [LINE, SELF, TWO_TYPES, ROUND, list(analysis.routes)])
def test_no_box_covers_another_and_all_of_it_is_on_the_page(ways: list[Way]) -> None:
    page = ElementTree.fromstring(svg(ways))
    left, top, width, height = map(float, page.attrib["viewBox"].split())
    boxes = [
        tuple(float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
        for rect in page.iter(f"{SVG}rect")
        if rect.attrib.get("class") == "stage"
    ]
    for at, (x, y, w, h) in enumerate(boxes):
        for x2, y2, w2, h2 in boxes[:at]:
            assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y
    for path in page.iter(f"{SVG}path"):
        if "id" in path.attrib:
            numbers = [float(n) for n in re.findall(r"-?\d+", path.attrib["d"])]
            assert all(left <= x <= left + width for x in numbers[::2])
            assert all(top <= y <= top + height for y in numbers[1::2])


def test_the_way_to_the_answer_goes_from_left_to_right_and_a_loop_comes_back_below() -> None:
    page = ElementTree.fromstring(svg(list(analysis.routes)))
    at = {rect[0]: rect[1] for rect in _boxes(page)}
    assert at["retrieve"] < at["write"] < at["polish"]
    assert at["write"] < at["call_tools"]


def _boxes(page: ElementTree.Element) -> list[tuple[str, float]]:
    names = [text.text or "" for text in page.iter(f"{SVG}text") if text.attrib.get("class") != "type"]
    lefts = [float(r.attrib["x"]) for r in page.iter(f"{SVG}rect") if r.attrib.get("class") == "stage"]
    return list(zip(names, lefts, strict=True))


def test_the_picture_in_the_docs_is_of_the_pipeline_that_is_there() -> None:
    fresh = svg(analysis.routes) + "\n"
    again = "headrace pipelines --pipeline actors.analysis:analysis --draw svg > docs/analysis.svg"
    assert DRAWN.read_text() == fresh, f"draw it anew: {again}"
