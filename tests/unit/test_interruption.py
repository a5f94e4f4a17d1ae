"""The first Ctrl-C asks for the end, the second one interrupts that."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from actors.interruption import stopping_gently


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
async def test_after_the_first_signal_a_ctrl_c_is_pythons_own(first: signal.Signals) -> None:
    with stopping_gently() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), first)
        async with asyncio.timeout(20):
            await stop.wait()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
