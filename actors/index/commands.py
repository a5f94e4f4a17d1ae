"""The command that makes the index, `headrace index`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from actors.options import DEFAULT_DATA, Data


def index(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder with the documents.")],
    data: Data = DEFAULT_DATA,
    file: Annotated[
        Path | None,
        typer.Option(
            "--index",
            metavar="FILE",
            envvar="HEADRACE_INDEX",
            help="The index.",
            show_default="index.db, in the data folder",
        ),
    ] = None,
) -> None:
    """Index the documents of a folder, for `retrieve` and for the tool `search`.

    Documents are files of UTF-8 text (HTML without its tags). The next run reads what is new or changed, and takes out
    what is gone; several folders can be in one index. Files that cannot be read are named and skipped. It may be
    interrupted, and run while `headrace up` does: what it has stored is found at once.

    \b
    Examples:
      headrace index docs
      headrace index ~/handbook --data /var/lib/headrace
    """
    # It loads an embedding model, which takes half a second; other commands need none.
    from actors.index.folder import index_folder
    from actors.index.store import Store

    if not folder.is_dir():  # a mistyped name is to leave nothing behind
        raise typer.BadParameter(f"there is no folder {folder}", param_hint="FOLDER")
    path = (file or data / "index.db").absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    store = Store.open(path, create=True)
    progress = _Progress()
    try:
        changes = index_folder(store, folder, heard=progress)
        documents, passages = store.count()
    finally:
        progress.end()
        store.close()
    for skipped in changes.skipped:
        typer.echo(f"skipped {skipped}", err=True)
    typer.echo(
        f"{changes.added} added, {changes.changed} changed, {changes.unchanged} unchanged, {changes.removed} removed, "
        f"{len(changes.skipped)} skipped; {path} has {documents:,} documents in {passages:,} passages"
    )


class _Progress:
    """How far it is, on a terminal, in one line that changes."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()

    def __call__(self, done: int, total: int, path: str) -> None:
        if self._shown:
            room = max(20, os.get_terminal_size(sys.stderr.fileno()).columns - 1)
            visible = "".join(c for c in f"{done} of {total}: {path}" if c.isprintable())
            sys.stderr.write(f"\r\x1b[K{visible[:room]}")
            sys.stderr.flush()

    def end(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
