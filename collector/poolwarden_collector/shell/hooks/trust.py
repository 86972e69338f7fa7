"""Which programs of the hooks' directory are run: those that nobody but root can have put there or changed.

Rules
-----
* A hook is a file of the directory that somebody may execute. It may be a link to one, e.g. into a package.
* It is run only if the directory, the file and every folder above both belong to root and can be written by nobody
  else; a folder above may be writable where its sticky bit keeps others' names safe, as in /tmp. So must each link on
  the way, with its folders: whoever owns a link says what is run.
* What may not be run is a hook with a reason: it is told, and it is tried again as one that fails. A directory that
  may not be used at all is told in the place of its hooks.
* Left out and named by ``check-config`` alone: folders, what nobody may execute, hidden names, and what editors and
  packages leave behind.
* Nothing is remembered: each time is looked at anew, right before a run.
"""

from __future__ import annotations

import getpass
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OWNER = 0  # root
_LONGEST_WAY = 400  # names and links on the way to a program
_LEFT_BEHIND = ("~", ".bak", ".orig", ".swp", ".rpmsave", ".rpmnew", ".rpmorig", ".dpkg-old", ".dpkg-new", ".dpkg-dist")


@dataclass(frozen=True, slots=True)
class Hook:
    """A program, and why it may not be run; empty: it may."""

    name: str
    path: Path
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Looked:
    """What there is: hooks in the order of their names, and what is none, with the reason."""

    hooks: tuple[Hook, ...]
    left_out: tuple[str, ...] = ()

    @property
    def refused(self) -> tuple[Hook, ...]:
        """The hooks that may not be run."""
        return tuple(hook for hook in self.hooks if hook.refusal)


def look(directory: Path) -> Looked:
    """What the directory holds now."""
    try:
        if refusal := _of_folder(directory):
            return Looked((Hook(directory.name, directory, refusal),))
        paths = sorted(directory.iterdir())
    except OSError as error:
        return Looked((Hook(directory.name, directory, f"{directory}: {error.strerror}"),))
    hooks, left_out = [], []
    for path in paths:
        try:
            if why := _is_none(path):
                left_out.append(f"{str(path)!a} is no hook: {why}")
            else:
                hooks.append(Hook(path.name, path, _of_file(path)))
        except OSError as error:
            hooks.append(Hook(path.name, path, f"{path} cannot be looked at: {error.strerror or error}"))
    return Looked(tuple(hooks), tuple(left_out))


def _of_folder(directory: Path) -> str:
    if not directory.is_dir():
        return f"there is no directory {directory}; make it, owned by root, mode 0755"
    return next(_faults(directory.resolve()), "")


def _is_none(path: Path) -> str:
    if not path.name.isprintable():
        return "its name cannot be shown"
    if path.name.startswith("."):
        return "its name is hidden"
    if path.name.endswith(_LEFT_BEHIND):
        return "its name is one that editors or packages leave behind"
    if path.is_dir():
        return "it is a directory"
    if path.exists() and not path.stat().st_mode & 0o111:
        return f"nobody may execute it; if it is to run: chmod 755 {path}"
    return ""


def _of_file(path: Path) -> str:
    try:
        target = path.resolve(strict=True)
        if not target.is_file():
            return f"{path} is no file"
    except (OSError, RuntimeError):
        return f"{path} leads nowhere"
    if not os.access(target, os.X_OK):
        return f"{target} cannot be executed by {getpass.getuser()}: chmod 755 {target}"
    return next(_of_links(path), "") or next(_faults(target), "")


def _of_links(path: Path) -> Iterator[str]:
    """Who else could let a link on the way lead to something else."""
    walked = Path("/")
    parts = list(path.absolute().parts[1:])
    for _ in range(_LONGEST_WAY):
        if not parts:
            return
        step = walked / parts.pop(0)
        if step.is_symlink():
            if step.lstat().st_uid not in (0, OWNER):
                yield f"{step} is a link of user {step.lstat().st_uid}: make it root's, or put the program there itself"
            yield from _faults(walked)
            to = step.readlink()
            walked, parts = (Path("/"), [*to.parts[1:], *parts]) if to.is_absolute() else (walked, [*to.parts, *parts])
        elif step.name == "..":
            walked = walked.parent
        else:
            walked = step
    yield f"{path} leads through too many links"


def _faults(path: Path) -> Iterator[str]:
    """Who else could change this file or folder, or put another in its place."""
    for each in (path, *path.parents):
        found = each.stat()
        if found.st_uid not in (0, OWNER):
            yield f"{each} belongs to user {found.st_uid}: chown root {each}"
        writable = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if writable and (each == path or not found.st_mode & stat.S_ISVTX):
            yield f"{each} can be written by others than root: chmod go-w {each}"
