"""A collector's enrolment address for tests: HTTPS by the standard library, certificates by openssl."""

import hashlib
import json
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from . import tree as trees

ORDER_KEY = "ab" * 32


def sign(directory, csr, uri, name="issued"):
    """The certificate of this request, PEM, signed by the CA of this directory."""
    request, out, extension = (directory / (name + end) for end in (".csr", ".pem", ".ext"))
    request.write_text(csr)
    extension.write_text("subjectAltName=URI:%s\nextendedKeyUsage=clientAuth\n" % uri)
    ca = ["-CA", str(directory / "ca.pem"), "-CAkey", str(directory / "ca.key"), "-CAcreateserial"]
    trees.openssl(
        "x509", "-req", "-in", str(request), *(ca + ["-out", str(out), "-days", "2", "-extfile", str(extension)])
    )
    return out.read_text()


def fingerprint(directory):
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert((directory / "ca.pem").read_text())).hexdigest()


class EnrolmentServer(object):
    """Serves on 127.0.0.1; ``refusal`` is (status, answer) and comes instead of a certificate, once for each."""

    def __init__(self, directory, agents="127.0.0.1:7443"):
        self.directory = directory
        self.agents = agents
        self.asked = []
        self.refusals = []
        self.changes = {}  # put over the answer
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self._say(200 if self.path == "/v1/ca" else 404, (directory / "ca.pem").read_bytes())

            def do_POST(self):
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])).decode())
                server.asked.append(asked)
                self._say(*server.answer(asked))

            def _say(self, status, body):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(directory / "collector.pem"), str(directory / "collector.key"))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.address = "127.0.0.1:%d" % self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def answer(self, asked):
        if self.refusals:
            status, said = self.refusals.pop(0)
            return status, json.dumps(said).encode()
        uri = "poolwarden://pool/%s/host/%s" % (trees.POOL, asked["host_uuid"])
        said = {
            "certificate": sign(self.directory, asked["csr"], uri),
            "ca": (self.directory / "ca.pem").read_text(),
            "order_key": ORDER_KEY,
            "collector_name": "collector",
            "collector": self.agents,
            "renew_after_s": 86400,
        }
        said.update(self.changes)
        return 200, json.dumps(said).encode()

    def stop(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def verified(directory, key_pem, signature, data):
    """Is this the signature of that key over the data?"""
    (directory / "k").write_bytes(key_pem)
    (directory / "sig").write_bytes(signature)
    trees.openssl("pkey", "-in", str(directory / "k"), "-pubout", "-out", str(directory / "pub"))
    words = ["openssl", "dgst", "-sha256", "-verify", str(directory / "pub"), "-signature", str(directory / "sig")]
    return subprocess.run(words, input=data, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
