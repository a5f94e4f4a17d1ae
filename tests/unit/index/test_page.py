from __future__ import annotations

import pytest

from actors.index.page import text_of_html

MOST = 256 << 10
"""What egress lets through of a page."""

TAGS = ["<a ", "</a ", "<a b='", '<a b="', "<a =", "<a = ' <", "<A/", "<template>", "<script>", "<style></", "</script"]
OTHERS = ["<!--", "<!-->", "<![foo[", "<![CDATA[", "<!", "<?", "</", "<", "&", "&#", "&#9", "<script></script", " ="]


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        ("<b>a</b> &amp; b &eacute;&#233;&#xe9;", "a & b ééé"),
        ("<p>1<P CLASS=a>2<br/>3</ul>4", "\n\n1\n\n2\n\n34"),
        ("a < b, c > d, a<3 <b>e</b>", "a < b, c > d, a<3 e"),
        ("<a title=\"x > y\" b='>'c = '>'>t</a>", "t"),
        ("<script>if (a<b) '</p>'</SCRIPT >1<style>p {}</style>2<script src='x'/>3", "123"),
        ("<template>x<template>y</template>z</template>1</template>2", "12"),
        ("<!-- a > <b> -->1<!---->2<!-->3<![CDATA[a > b]]>4<?xml a?>5<!DOCTYPE html>6</>7", "1234567"),
    ],
)
def test_a_page_is_what_its_reader_sees(page: str, seen: str) -> None:
    assert text_of_html(page) == seen


@pytest.mark.parametrize("unclosed", ["<a href='", "<a ", "<!--", "<![foo[", "<script>", "<style></", "<template>"])
def test_what_is_not_closed_goes_on_to_the_end(unclosed: str) -> None:
    assert text_of_html(f"seen{unclosed}unseen") == "seen"


def test_a_character_whose_number_cannot_be_read_stays_as_it_is() -> None:
    assert text_of_html(f"<p>&#{'9' * 5_000};") == f"\n\n&#{'9' * 5_000};"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", [*TAGS, *OTHERS])
@pytest.mark.parametrize("first", ["", "<a ", "<a b=", "<script>", "<!"])
def test_a_hostile_page_is_read_in_time(first: str, piece: str) -> None:
    text_of_html(first + piece * (MOST // len(piece)))
