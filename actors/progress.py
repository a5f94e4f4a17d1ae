"""What the stages that come with Headrace tell readers while they work: the names that `job.report` says.

Programs may look for them, so they are not changed.
"""

RETRIEVING = "retrieving"
"""The index is searched."""

PASSAGES = "passages"
"""So many passages were found (`done`), of as many as are looked for (`total`): `passages 3 of 5`."""

CHOOSING = "choosing tools"
"""The model decides in silence which tools it wants."""


def calling(tool: str) -> str:
    """A tool is being called: `calling calculator`."""
    return f"calling {tool}"
