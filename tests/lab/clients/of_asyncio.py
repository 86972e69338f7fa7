"""async-xenapi as a client of a pool: ``python of_asyncio.py URL`` prints a JSON object a line.

It logs in and reads; then each line on standard input makes it ask again with the same session. Version 1.0.5 says
that it is for Python 3.12, but its annotations can be evaluated on 3.14 only: where importing it fails, the very same
source is compiled with postponed annotations (PEP 563), which changes nothing else.
"""

import __future__

import asyncio
import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any


def library() -> Any:
    try:
        import async_xenapi.session as found
    except NameError:
        spec = importlib.util.find_spec("async_xenapi")
        path = Path(spec.submodule_search_locations[0]) / "session.py"
        found = types.ModuleType("async_xenapi.session")
        exec(compile(path.read_text(), str(path), "exec", flags=__future__.annotations.compiler_flag), found.__dict__)
    return found.AsyncXenAPISession


def say(**words: object) -> None:
    print(json.dumps(words), flush=True)


async def main(url: str) -> None:
    session = library()(url)
    try:
        await session.login_with_password("root", "xenroot")
    except Exception as error:
        say(event="refused", why=f"{type(error).__name__}: {error}")
        await session.logout()
        return
    say(event="in")
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while await lines.readline():
        try:
            records, methods = await asyncio.gather(
                session.xenapi.VM.get_all_records(), session.xenapi.host.get_all_records()
            )
        except Exception as error:
            say(event="failed", why=f"{type(error).__name__}: {error}")
        else:
            say(event="read", vms=sorted(r["name_label"] for r in records.values()), hosts=len(methods))
    await session.logout()


asyncio.run(main(sys.argv[1]))
