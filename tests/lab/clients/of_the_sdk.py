"""XenAPI of PyPI as a client of a pool: ``python of_the_sdk.py URL [OLD_SESSION]`` prints a JSON object a line.

It logs in (with OLD_SESSION: it goes on with that session instead, as a program does whose host name now leads to
another host), and each line on standard input makes it ask again by the same object.
"""

import json
import sys

import XenAPI

USER = ("root", "xenroot", "1.0", "poolwarden-tests")


def say(**words: object) -> None:
    print(json.dumps(words), flush=True)


def main() -> None:
    session = XenAPI.Session(sys.argv[1], ignore_ssl=True)
    if len(sys.argv) > 2:
        session._session, session.last_login_method, session.last_login_params = (
            sys.argv[2],
            "login_with_password",
            USER,
        )
    else:
        try:
            session.xenapi.login_with_password(*USER)
        except XenAPI.Failure as failure:
            say(event="refused", details=failure.details)
            return
    say(event="in", session=session._session)
    for _ in sys.stdin:
        try:
            say(event="read", vms=sorted(r["name_label"] for r in session.xenapi.VM.get_all_records().values()))
        except XenAPI.Failure as failure:
            say(event="failed", details=failure.details)
        except OSError as error:
            say(event="failed", why=f"{type(error).__name__}: {error}")


main()
