"""A folder's way into the index: what is new or changed is read, what is gone is taken out, nothing else is touched."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from actors.index.documents import NotADocument, bytes_of, text_of
from actors.index.passages import pieces_of
from actors.index.store import Found, IndexUnusable, Known, Store


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was not indexed, and why. What an earlier run had of it is `kept`."""

    path: str
    reason: str
    kept: bool

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" + ("; what is indexed of it stays" if self.kept else "")


@dataclass(slots=True)
class Changes:
    """What a run did: how many documents were added, changed, unchanged and removed, and which files were skipped."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    skipped: list[Skipped] = field(default_factory=list)


Heard = Callable[[int, int, str], None]
"""Told, before each file, how many are done of how many, and which is next."""


def index_folder(store: Store, folder: Path, *, heard: Heard = lambda done, total, path: None) -> Changes:
    """Make the index have what the folder has. Names that begin with a dot, and links to folders, are passed over.

    Each document is stored by itself, so an interrupted run loses nothing, and the next one goes on where it was.
    Sources begin with the folder's own name. Raises IndexUnusable.
    """
    root = folder.expanduser().absolute()
    if not root.is_dir():
        raise IndexUnusable(f"there is no folder {folder}; name the folder that has the documents")
    known, changes = store.known(str(root)), Changes()
    files, unread = _files(root)
    for done, path in enumerate(files):
        heard(done, len(files), path)
        _take(store, root, path, known.get(path), changes)
    for path in sorted(known.keys() - set(files)):
        if any(path.startswith(f"{place}/") for place in unread):
            continue  # nobody knows what is in there now
        store.remove(str(root), path)
        changes.removed += 1
    changes.skipped += [Skipped(f"{place}/", "this folder cannot be read", kept=True) for place in unread]
    heard(len(files), len(files), "")
    return changes


def _take(store: Store, root: Path, path: str, known: Known | None, changes: Changes) -> None:
    """Index one file, if it is not in the index as it is."""
    try:
        path.encode()
        status = (root / path).stat()
        stamp = f"{status.st_size} {status.st_mtime_ns} {status.st_ino}"
        if known and known.stamp == stamp:
            changes.unchanged += 1
            return
        data = bytes_of(root / path, status)
        digest = hashlib.sha256(data).digest()
        if known and known.digest == digest:
            store.touch(str(root), path, stamp)
            changes.unchanged += 1
            return
        text = text_of(root / path, data)
    except UnicodeEncodeError:
        changes.skipped.append(Skipped(os.fsencode(path).decode(errors="replace"), "its name is no UTF-8", kept=False))
        return
    except (NotADocument, OSError) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or str(error)
        changes.skipped.append(Skipped(path, reason, kept=known is not None))
        return
    found = [Found(f"{root.name}/{path}:{piece.line}", piece.text) for piece in pieces_of(text)]
    store.put(str(root), path, Known(digest, stamp), found)
    changes.changed += known is not None
    changes.added += known is None


def _files(root: Path) -> tuple[list[str], list[str]]:
    """Every file below a folder, and the folders that could not be looked into, as paths relative to it."""
    files: list[str] = []
    unread: list[str] = []

    def fails(error: OSError) -> None:
        unread.append(os.path.relpath(error.filename, root))

    for place, folders, names in os.walk(root, onerror=fails):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [os.path.relpath(Path(place) / name, root) for name in sorted(names) if not name.startswith(".")]
    if "." in unread:
        raise IndexUnusable(f"the folder {root} cannot be read; give yourself the right to")
    return files, unread
