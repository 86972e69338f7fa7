"""What keeps a call to xapi from its value. ``asked`` tells whether xapi may have begun something."""

from typing import Any


class XapiError(Exception):
    """Something kept a call from being answered. ``asked`` False: its request never reached a xapi, nothing began."""

    asked = True


class XapiTimeout(XapiError):
    """No whole answer came within the limit; whether the call took effect is not known."""


class XapiFull(XapiTimeout):
    """The socket does not accept: its queue is full. Nothing was asked."""

    asked = False


class XapiUnreachable(XapiError):
    """The socket does not exist, refuses, or broke before an answer came."""


class XapiRefused(XapiUnreachable):
    """The socket does not exist or refuses the connection: there is no xapi that could have begun anything."""

    asked = False


class XapiFault(XapiError):
    """xapi answered with an error: ``code`` and ``params`` as in ErrorDescription."""

    def __init__(self, code: str, params: Any) -> None:
        super(XapiFault, self).__init__("%s(%s)" % (code, ", ".join(str(p) for p in params)))
        self.code = code
        self.params = list(params)
