"""A submission is read strictly, and is the same as another one when its words are."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.http.problem import Refusal
from actors.http.submission import Form
from actors.pipeline import Pipeline
from tests.pipelines import Anything, keep, keeper, recital

FORM = Form(keeper, max_deadline=100)


def read(**body: Any) -> str:
    return FORM.read(json.dumps(body).encode()).fingerprint


def test_the_order_of_fields_spaces_and_spelling_make_no_difference() -> None:
    same = FORM.read(
        b'{"input": {"data": {"a": "\xc3\xa9", "b": [1]}}, "lane": "standard", "metadata": {}}'
    ).fingerprint
    assert read(input={"data": {"b": [1], "a": "é"}}) == same


@pytest.mark.parametrize(
    "other",
    [
        {"input": {"data": 2}},
        {"input": {"data": "1"}},
        {"input": {"data": 1}, "lane": "batch"},
        {"input": {"data": 1}, "deadline": 10},
        {"input": {"data": 1}, "metadata": {"a": "b"}},
    ],
)
def test_any_other_word_is_another_request(other: dict[str, Any]) -> None:
    assert read(**other) != read(input={"data": 1})


def test_the_same_words_to_another_pipeline_are_another_request() -> None:
    other = Form(Pipeline("keeper_2", keep), max_deadline=100)
    assert other.read(b'{"input": {"data": 1}}').fingerprint != read(input={"data": 1})


def test_the_deadline_ends_at_the_limit() -> None:
    assert FORM.read(b'{"input": {"data": 1}, "deadline": 100}').submission.deadline == 100
    with pytest.raises(Refusal) as refused:
        FORM.read(b'{"input": {"data": 1}, "deadline": 101}')
    assert refused.value.more["errors"] == [
        {"pointer": "#/deadline", "detail": "Input should be less than or equal to 100"}
    ]


def test_a_start_that_no_calendar_has_is_refused() -> None:
    with pytest.raises(Refusal) as refused:
        FORM.read(b'{"input": {"data": 1}, "start_after": 1000000000000000}')
    assert refused.value.kind.status == 422


def test_faults_are_named_by_where_they_are_and_never_by_what_was_sent() -> None:
    with pytest.raises(Refusal) as refused:
        Form(recital, max_deadline=100).read(b'{"input": {"text": ["my prompt"], "times": 0}, "lane": "my lane"}')
    told = json.dumps(refused.value.more)
    assert [e["pointer"] for e in json.loads(told)["errors"]] == ["#/input/text", "#/input/times", "#/lane"]
    assert "my prompt" not in told
    assert "my lane" not in told


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_whatever_json_there_is_arrives_as_it_was_sent(data: Any) -> None:
    said = FORM.read(json.dumps({"input": {"data": data}}).encode()).submission.input
    assert isinstance(said, Anything)
    assert said.data == data
    assert json.loads(json.dumps(said.model_dump(mode="json")))["data"] == data


@given(st.binary())
def test_any_bytes_are_either_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(Refusal):
        FORM.read(body)
