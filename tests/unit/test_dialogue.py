from __future__ import annotations

from typing import Any, cast

import pytest

from actors.contracts.conversation import Conversation, Function, Said
from actors.contracts.errors import TerminalError
from actors.contracts.generation import JsonSchema
from actors.dialogue import reply
from actors.engines import Scripted
from actors.pipeline import Job

PATTERN: JsonSchema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "a|b"}}}


@pytest.mark.parametrize("held", [{"returns": PATTERN}, {"functions": [Function(name="f", parameters=PATTERN)]}])
async def test_a_schema_that_could_hold_the_engine_up_ends_the_job_before_it_is_asked(held: dict[str, Any]) -> None:
    asked = Conversation(messages=[Said(role="user", content="Go!")], **held)
    with pytest.raises(TerminalError, match="has `pattern`, which is not taken here"):
        await reply(asked, cast("Job", None), Scripted())
