"""A xapi for the client to meet: threads on a Unix or TCP socket, each method with a behaviour of its own.

A behaviour takes the connection and the parameters and does what it likes with them; ``answers(value)``, ``fault(...)``
and the rest make the usual ones.
"""

import contextlib
import os
import socket
import ssl
import threading
import xmlrpc.client

LOCAL_LOGIN = "session.slave_local_login_with_password"
LOGIN = "session.login_with_password"
EMERGENCY = "host.is_in_emergency_mode"
ALIVE = "system.isAlive:poolwarden"


def http(body, status="200 OK", head="Content-Length: %d\r\n"):
    """An HTTP answer."""
    body = body if isinstance(body, bytes) else body.encode()
    head = head % len(body) if "%d" in head else head
    return ("HTTP/1.1 %s\r\nConnection: close\r\n%s\r\n" % (status, head)).encode() + body


def enveloped(envelope):
    """An answer with this value as its only parameter."""
    return http(xmlrpc.client.dumps((envelope,), methodresponse=True))


def says(data):
    """Send these bytes and close."""

    def behave(connection, _params):
        connection.sendall(data)

    return behave


def answers(value):
    return says(enveloped({"Status": "Success", "Value": value}))


def fault(code, *params):
    return says(enveloped({"Status": "Failure", "ErrorDescription": [code] + list(params)}))


def echoes(connection, params):
    answers(params[0])(connection, params)


class FakeXapi(object):
    """``calls`` is every call that came, ``behaviours`` what becomes of it; sessions are issued and can be lost."""

    def __init__(self, path="", tls=None, address="127.0.0.1"):
        self.calls = []
        self.connections = 0
        self.open = []  # one for each connection that is being served
        self.sessions = []
        self.behaviours = {ALIVE: echoes}
        self.release = threading.Event()  # what hangs hangs until then
        self._tls = tls
        family = socket.AF_UNIX if path else socket.AF_INET
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        if path and os.path.exists(path):
            os.unlink(path)
        self._listener.bind(path or (address, 0))
        self._listener.listen(64)
        self.port = 0 if path else self._listener.getsockname()[1]
        thread = threading.Thread(target=self._accept)
        thread.daemon = True
        thread.start()

    def close(self):
        self.release.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def methods(self):
        return [method for method, _ in list(self.calls)]

    def hangs(self, connection, _params):
        """Never answer while the test runs."""
        self.release.wait(60)

    def asks_session(self, method, value):
        """Answer with a value if the session is one of ours, else SESSION_INVALID."""

        def behave(connection, params):
            known = params and params[0] in self.sessions
            (answers(value) if known else fault("SESSION_INVALID", "x"))(connection, params)

        self.behaviours[method] = behave

    def logs_in(self, method=LOCAL_LOGIN):
        """Issue sessions for this login."""

        def behave(connection, params):
            self.sessions.append("OpaqueRef:%d" % len(self.calls))
            answers(self.sessions[-1])(connection, params)

        self.behaviours[method] = behave

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,))
            thread.daemon = True
            thread.start()

    def _serve(self, connection):
        self.open.append(connection)
        try:
            if self._tls:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(*self._tls)
                connection = context.wrap_socket(connection, server_side=True)
            method, params = self._request(connection)
            self.calls.append((method, params))
            behave = self.behaviours.get(method, fault("MESSAGE_METHOD_UNKNOWN", method))
            behave(connection, params)
        except (OSError, ValueError, IndexError):
            pass
        finally:
            connection.close()
            self.open.pop()

    def _request(self, connection):
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more(connection)
        head, _, body = data.partition(b"\r\n\r\n")
        length = int([line for line in head.split(b"\r\n") if line.startswith(b"Content-Length")][0].split(b":")[1])
        while len(body) < length:
            body += self._more(connection)
        params, method = xmlrpc.client.loads(body.decode())
        return method, list(params)

    def _more(self, connection):
        chunk = connection.recv(65536)
        if not chunk:
            raise OSError("closed")
        return chunk
