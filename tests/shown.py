"""What README and the files in docs/ show people: tests run it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]

DOCUMENTS = {path: path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
"""Each of them, whole."""

BLOCKS: list[str] = [
    code for text in DOCUMENTS.values() for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
]
"""All the Python in them."""


def block(words: str) -> str:
    """The one block of Python that has these words in it."""
    [code] = [code for code in BLOCKS if words in code]
    return code
