"""Stories on the command line: play one and print it; print the language itself, from the tables that parse it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from poolwarden_lab.story import moments, play, signs
from poolwarden_lab.story import simulate as simulation
from poolwarden_lab.story.grammar import Lexicon
from poolwarden_lab.story.text import StoryError, read_file


def one(file: Path, *, write: bool, quiet: bool) -> int:
    """Play a story, print its log and what is wrong with it; its exit code."""
    try:
        script = read_file(file)
    except (OSError, StoryError) as error:
        click.echo(f"poolwarden lab story: {error}", err=True)
        return play.UNREADABLE
    played = play.play(script)
    if not quiet and played.lines:
        click.echo("\n".join(played.lines))
    if write and played.code in (play.AS_EXPECTED, play.DIFFERS) and not played.problems:
        file.write_text(play.with_golden(script, played.lines))
        played.diff = []
    for line in [*played.diff, *played.problems]:
        click.echo(line, err=True)
    if played.code == play.DIFFERS and not played.problems and not played.diff:
        return play.AS_EXPECTED
    return played.code


def words() -> str:
    """The language: chapter by chapter, form and meaning."""
    return "\n\n".join(chapter(each) for each in (*play.CHAPTERS, signs.SIGNS, moments.MOMENTS))


def chapter(lexicon: Lexicon) -> str:
    """One chapter as a list."""
    lines = [f"{lexicon.title}:"]
    lines += [f"  {form.form}\n      {form.meaning}{' (exact)' if form.exact else ''}" for form in lexicon.forms]
    return "\n".join(lines)


def simulate(seed: int, runs: int, hosts: int | None, *, shrink: bool, directory: Path, several: bool = False) -> int:
    """Play many seeds, print failures as they come and the figures at the end; 2 if one failed."""
    failed, seconds, events, virtual = 0, 0.0, 0, 0
    counts: Counter[str] = Counter()
    for run in simulation.many(seed, runs, hosts, several):
        seconds, events, virtual = seconds + run.seconds, events + run.events, virtual + run.virtual_ms
        counts += run.counts
        if run.failure:
            failed += 1
            click.echo(f"seed {run.seed}: {run.failure}")
            given = simulation.drawn(run.seed, hosts, several)
            drawn = simulation.small(run, hosts, several) if shrink else given
            path = simulation.keep(directory, run, drawn, several)
            click.echo(f"  kept as {path}:\n" + "".join(f"    {line}\n" for line in drawn.body))
    click.echo(f"{runs} seeds, {failed} failed; {virtual / 3_600_000:.1f} h of virtual time in {seconds:.1f} s")
    click.echo(f"{runs / seconds:.1f} stories/s, {events / seconds:.0f} events/s")
    click.echo(", ".join(f"{count} {name}" for name, count in counts.most_common()))
    return play.BROKEN if failed else play.AS_EXPECTED
