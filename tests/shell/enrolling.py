"""A collector at which hosts enrol over real HTTPS, and hosts that do, by hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.shell.config.certificates import Bundle
from poolwarden_collector.shell.enrolment import authority_files
from poolwarden_collector.shell.enrolment.decisions import By

from .rig import POOL, PlayedAgent, Rig, running, write_config

OTHER = POOL.replace("1", "2")
ANNA = By("anna", "a test")
MACHINE = {"system_uuid": "aaaa-1", "vendor": "Dell", "model": "R640", "system_serial": "S-4711"}
WEAK = ec.generate_private_key(ec.SECP256R1())
PEM = serialization.Encoding.PEM


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def request_of(key: Any, *names: x509.GeneralName, common: str = "x", signer: Any = None) -> str:
    """A certificate request of this key with these names, signed by it or by ``signer``."""
    builder = x509.CertificateSigningRequestBuilder()
    builder = builder.subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)]))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(names)), critical=True)
    return builder.sign(signer or key, hashes.SHA256()).public_bytes(PEM).decode()


@dataclass
class Site:
    """A collector at which hosts enrol."""

    rig: Rig
    web: aiohttp.ClientSession
    base: str

    async def token(self, pool: str = POOL, uses: int = 1, host: str = "", ttl_s: int = 0) -> str:
        return (await self.rig.parts.enrolments.decisions.create_token(ANNA, pool, ttl_s, uses, host))[1]

    async def ask(self, token: str, host: str, key: Any, **other: Any) -> tuple[int, dict[str, Any]]:
        body = {"token": token, "csr": request_of(key), "host_uuid": host, "host_name": f"host-{host[-1]}"}
        return await self.post({**body, "pool_uuid": POOL, "machine": MACHINE, **other})

    async def post(self, body: Any) -> tuple[int, dict[str, Any]]:
        async with self.web.post(f"{self.base}/v1/enrol", data=json.dumps(body)) as reply:
            return reply.status, await reply.json()

    async def enrolled(self, host: str, pool: str = POOL) -> Enrolled:
        key = ec.generate_private_key(ec.SECP256R1())
        status, said = await self.ask(await self.token(pool), host, key, pool_uuid=pool)
        assert status == 200, said
        return Enrolled(self, host, key, said["certificate"], said["ca"])


@dataclass
class Enrolled:
    """A host with the certificate that it was given."""

    site: Site
    host: str
    key: ec.EllipticCurvePrivateKey
    certificate: str
    roots: str

    @property
    def leaf(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate.encode())

    @property
    def serial(self) -> str:
        return f"{self.leaf.serial_number:x}"

    def agent(self) -> PlayedAgent:
        folder = self.site.rig.folder / f"files-{self.serial}"
        folder.mkdir(exist_ok=True)
        bundle = Bundle(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
        bundle.ca.write_text(self.roots)
        bundle.cert.write_text(self.certificate)
        bundle.key.write_bytes(private_pem(self.key))
        agent = PlayedAgent(self.site.rig.parts.gateway.port, bundle, self.host)
        self.site.rig.agents.append(agent)
        return agent

    async def come(self, **hello: Any) -> PlayedAgent:
        """On a stream, which is welcomed; beside another one it answers the nonce that it is asked."""
        agent, another = self.agent(), self.site.rig.parts.gateway._sessions.of(self.host) is not None
        await agent.attach(**hello)
        await agent.expect("welcome")
        if another:
            nonce = (await agent.expect("challenge")).nonce
            await agent.send(challenge_answer=pb.ChallengeAnswer(nonce=nonce, boot_id=f"boot-{self.host[-1:]}"))
        return agent


@contextlib.asynccontextmanager
async def enrolling(folder: Path, more: str = "", by_hand: bool = True) -> AsyncIterator[Site]:
    """A collector that trusts an authority of its own, and another one whose certificates were made by hand.

    ``by_hand``: so was its own certificate for agents.
    """
    write_config(folder)
    authority = folder / "authority"
    if not authority.exists():
        authority_files.init(authority, "test", ("127.0.0.1",))
    trusted = folder / "tls/ca.pem"
    trusted.write_bytes((folder / "ca/ca.pem").read_bytes() + (authority / "ca.pem").read_bytes())
    if not by_hand:
        for name in ("cert.pem", "key.pem"):
            shutil.copy(authority / "collector" / name, folder / "tls" / name)
    extra = f'[enrolment]\nlisten = "127.0.0.1:0"\nauthority = "authority"\n{more}'
    async with running(folder, extra) as rig:
        server = rig.parts.enrolments.server
        assert server is not None
        await asyncio.to_thread(server.listening.wait, 10)
        context = ssl.create_default_context(cafile=str(authority / "ca.pem"))
        context.check_hostname = False
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector) as web:
            yield Site(rig, web, f"https://127.0.0.1:{server.port}")


async def renewed(host: Enrolled, stream: PlayedAgent, key: Any, signer: Any = None, csr: str = "") -> pb.Renewal:
    csr = csr or request_of(key)
    signature = (signer or host.key).sign(csr.encode(), ec.ECDSA(hashes.SHA256()))
    await stream.send(renewal_request=pb.RenewalRequest(csr_pem=csr, signature=signature))
    reply = await stream.expect("renewal")
    assert isinstance(reply, pb.Renewal)
    return reply
