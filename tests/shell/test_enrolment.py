"""Hosts enrol over real HTTPS and come on real streams; everything that a stranger may try is tried."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import shutil
import sqlite3
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import grpc
import pytest
import yarl
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tests.project.tree import ROOT

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_collector.core.state.pool_record import HostRecord
from poolwarden_collector.shell import clock
from poolwarden_collector.shell.config.certificates import CaError
from poolwarden_collector.shell.config.config import ConfigError, load
from poolwarden_collector.shell.enrolment import authority_files, connections, enrolment, server
from poolwarden_collector.shell.enrolment.authority import fingerprint, fingerprints
from poolwarden_collector.shell.enrolment.decisions import By, Mistake
from poolwarden_collector.shell.enrolment.identity import key_of
from poolwarden_collector.shell.store.enrolment_tables import HostKey

from .enrolling import ANNA, OTHER, PEM, WEAK, Enrolled, enrolling, renewed, request_of
from .rig import HOSTS, POOL, PlayedAgent, hosts_of, until

pytestmark = pytest.mark.asyncio


async def test_a_host_enrols_and_its_stream_is_welcomed(tmp_path: Path) -> None:
    async with enrolling(tmp_path, by_hand=False) as site:
        async with site.web.get(f"{site.base}/v1/ca") as reply:
            root = await reply.text()
        assert fingerprint(root) == fingerprint((tmp_path / "authority/ca.pem").read_bytes())
        foreign = x509.DNSName("collector"), x509.UniformResourceIdentifier(f"poolwarden://host/{HOSTS[2]}")
        key = ec.generate_private_key(ec.SECP256R1())
        status, said = await site.ask(
            await site.token(), HOSTS[0], key, csr=request_of(key, *foreign, common="collector")
        )
        assert status == 200 and said["renew_after_s"] == 86_400 and len(said["order_key"]) == 64
        host = Enrolled(site, HOSTS[0], key, said["certificate"], said["ca"])
        names = host.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert list(names) == [x509.UniformResourceIdentifier(f"poolwarden://pool/{POOL}/host/{HOSTS[0]}")]
        await host.come()


@pytest.mark.slow
async def test_what_is_no_good_lets_nobody_in(tmp_path: Path) -> None:
    """Wrong, foreign, used and revoked tokens; keys and requests that are none. Nothing of it uses a token up."""
    async with enrolling(tmp_path) as site:
        site.rig.parts.enrolments.server._attempts.too_many = lambda _: False  # type: ignore[method-assign,union-attr]
        key, decisions = ec.generate_private_key(ec.SECP256R1()), site.rig.parts.enrolments.decisions
        token, named = await site.token(), await site.token(host=HOSTS[1])
        foreign = ec.generate_private_key(ec.SECP256R1())
        weak, large = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())
        wrong = {
            "token": await site.ask("pwt-nobody", HOSTS[0], key),
            "host": await site.ask(named, HOSTS[0], key),
            "pool": await site.ask(token, HOSTS[0], key, pool_uuid=OTHER),
            "uuid": await site.ask(token, "nobody", key),
            "csr": await site.ask(token, HOSTS[0], key, csr="-----BEGIN CERTIFICATE REQUEST-----"),
            "request": await site.post([]),
        }
        assert {word: said["error"] for word, (_, said) in wrong.items()} == {word: word for word in wrong}
        assert all(400 <= status < 500 and said["text"] for status, said in wrong.values())
        for csr in (request_of(weak), request_of(large), "x" * 9_000):
            assert (await site.ask(token, HOSTS[0], key, csr=csr))[1]["error"] == "csr"
        der = x509.load_pem_x509_csr(request_of(key).encode()).public_bytes(serialization.Encoding.DER)
        other = x509.load_pem_x509_csr(request_of(foreign).encode()).public_bytes(serialization.Encoding.DER)
        spki = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        forged = other.replace(foreign.public_key().public_bytes(*spki), key.public_key().public_bytes(*spki))
        assert len(forged) == len(other) and forged not in (der, other)
        pem = x509.load_der_x509_csr(forged).public_bytes(PEM).decode()
        assert "not signed" in (await site.ask(token, HOSTS[0], key, csr=pem))[1]["text"]
        assert [state for _, state in decisions.tokens(POOL)] == ["usable", "usable"]
        assert (await site.ask(token, HOSTS[0], key))[0] == 200
        assert (await site.ask(token, HOSTS[1], foreign))[1]["error"] == "token-used"
        revoked = await site.token()
        await decisions.revoke_token(ANNA, decisions.tokens(POOL)[0][0].id)
        assert (await site.ask(revoked, HOSTS[1], foreign))[1]["error"] == "token"


@pytest.mark.slow
async def test_a_token_ends_by_either_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with enrolling(tmp_path) as site:
        token, key = await site.token(ttl_s=60), ec.generate_private_key(ec.SECP256R1())
        wall, steady = clock.wall_ms, clock.awake_or_not_ms
        for name, shifted in (("wall_ms", lambda: wall() + 61_000), ("wall_ms", lambda: wall() - 600_000)):
            with monkeypatch.context() as patch:
                patch.setattr(clock, name, shifted)
                assert (await site.ask(token, HOSTS[0], key))[1]["error"] == "token-expired"
        with monkeypatch.context() as patch:  # the wall clock was put back, and 61 s have passed
            patch.setattr(clock, "awake_or_not_ms", lambda: steady() + 61_000)
            assert (await site.ask(token, HOSTS[0], key))[1]["error"] == "token-expired"
        assert (await site.ask(token, HOSTS[0], key))[0] == 200


@pytest.mark.slow
async def test_a_certified_key_with_another_token_of_its_pool_gets_what_is_its_own(tmp_path: Path) -> None:
    """A host whose enrolment was interrupted is enrolled by a second run, which has another token."""
    async with enrolling(tmp_path) as site:
        key, decisions = ec.generate_private_key(ec.SECP256R1()), site.rig.parts.enrolments.decisions
        first = await site.ask(await site.token(), HOSTS[0], key)
        assert first[0] == 200 and await site.ask(await site.token(host=HOSTS[0]), HOSTS[0], key) == first
        assert sorted(token.used for token, _ in decisions.tokens(POOL)) == [0, 1]
        foreign = await site.ask(await site.token(host=HOSTS[1]), HOSTS[0], key)
        assert foreign[1]["error"] == "host"
        assert (await site.ask(await site.token(pool=OTHER), HOSTS[0], key))[1]["error"] == "key"


@pytest.mark.slow
async def test_a_lost_answer_is_given_again_and_two_at_once_use_a_token_once(tmp_path: Path) -> None:
    async with enrolling(tmp_path) as site:
        token, keys = await site.token(), [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
        found = await asyncio.gather(*(site.ask(token, host, key) for host, key in zip(HOSTS, keys, strict=True)))
        assert sorted(status for status, _ in found) == [200, 403, 403]
        won = next(n for n, (status, _) in enumerate(found) if status == 200)
        again = await site.ask(token, HOSTS[won], keys[won])
        assert again == found[won]
        other = HOSTS[(won + 1) % 3]
        assert (await site.ask(token, other, keys[won]))[1]["error"] == "key"  # the same key for another host


@pytest.mark.slow
async def test_a_second_key_of_a_known_host_waits_for_a_person(tmp_path: Path) -> None:
    """A host of the same pool, with a token of its own, asks for the key of another one."""
    async with enrolling(tmp_path) as site:
        decisions = site.rig.parts.enrolments.decisions
        first = await site.enrolled(HOSTS[0])
        stream = await first.come()
        token, key = await site.token(), ec.generate_private_key(ec.SECP256R1())
        clone = {"system_uuid": "bbbb-2", "vendor": "HPE\x1b[2J", "model": "DL380"}
        status, said = await site.ask(token, HOSTS[0], key, machine=clone)
        assert status == 202 and said["key_sha256"] == key_of(key.public_key())
        assert "poolwarden enrolment list" in said["waiting"] and "Dell" not in said["waiting"]  # it may be anybody
        (waits, *_) = decisions.all_keys()
        assert "Dell R640, serial S-4711, aaaa-1" in waits.text and "HPE?[2J DL380, bbbb-2" in waits.text
        assert "another machine" in waits.text
        assert (await site.ask(token, HOSTS[0], key, machine=clone))[0] == 202
        alerts = site.rig.parts.journal.alerts(open_only=True)
        assert [json.loads(alert["data"])["message"] for alert in alerts] == ["second-key-waits"]
        refused = ec.generate_private_key(ec.SECP256R1())
        assert (await site.ask(token, HOSTS[0], refused))[0] == 202
        await decisions.decide(ANNA, key_of(refused.public_key())[:12], False)
        assert (await site.ask(token, HOSTS[0], refused))[1]["error"] == "refused"
        assert decisions.tokens(POOL)[0][0].used == 0
        await decisions.decide(ANNA, key_of(key.public_key()), True)
        assert not site.rig.parts.journal.alerts(open_only=True)
        status, said = await site.ask(token, HOSTS[0], key, machine=clone)
        assert status == 200 and decisions.tokens(POOL)[0][0].used == 1
        assert first.serial not in site.rig.parts.enrolments.registry.ledger.denied
        second = Enrolled(site, HOSTS[0], key, said["certificate"], said["ca"])
        await second.come()
        assert "newer stream" in str((await stream.ended()).details())
        ledger = site.rig.parts.enrolments.registry.ledger
        await until(lambda: ledger.keys[key_of(first.key.public_key())].state == "replaced")
        ended = await first.agent().refused()
        assert ended.code() is grpc.StatusCode.PERMISSION_DENIED and "replaced" in str(ended.details())
        # Whoever has it now: somebody is told, and decides.
        former = key_of(first.key.public_key())
        await until(lambda: ledger.keys[former].state == "waiting" and site.rig.parts.journal.alerts(open_only=True))
        assert "waits for a person" in str((await first.agent().refused()).details())
        assert "two machines" in decisions.waiting(former).text
        await decisions.decide(ANNA, former, True)
        await first.come()


@pytest.mark.slow
async def test_a_certificate_speaks_for_its_own_host_in_its_own_pool(tmp_path: Path) -> None:
    async with enrolling(tmp_path) as site:
        host, roster = await site.enrolled(HOSTS[0]), site.rig.parts.service.roster
        other_pool = await host.agent().refused(pool_uuid=OTHER)
        other_host = await host.agent().refused(host_uuid=HOSTS[1])
        for ended, name in ((other_pool, OTHER), (other_host, HOSTS[1])):
            assert ended.code() is grpc.StatusCode.PERMISSION_DENIED and name in str(ended.details())
            assert any(name in warning for warning in roster.warnings())
        assert not roster.pools
        await host.come(pool_uuid="")  # it does not know its pool: the certificate does
        await until(lambda: hosts_of(roster, POOL))
        assert (await host.agent().refused(pool_uuid=OTHER)).code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.slow
async def test_without_a_pool_a_certificate_opens_no_pool_that_has_enrolled(tmp_path: Path) -> None:
    """Those of one's own PKI go on: for hosts on record, and where nobody has enrolled."""
    async with enrolling(tmp_path) as site:
        by_hand = await site.rig.agent(HOSTS[1])
        await until(lambda: hosts_of(site.rig.parts.service.roster, POOL))
        await (await site.enrolled(HOSTS[0])).come()
        await by_hand.close()
        await site.rig.agent(HOSTS[1])
        # The master of another pool lists the stranger: that opens this pool to it no more than before.
        elsewhere = HOSTS[0].replace("b", "c")
        master = await site.rig.agent(elsewhere, pool_uuid=OTHER)
        serves = pb.RoleFacts(pool_conf=pb.RoleFacts.MASTER, running=pb.RoleFacts.MASTER, serves_as_master=True)
        hosts = [pb.PoolHost(host_uuid=each, name=each, address="192.0.2.9") for each in (elsewhere, HOSTS[2])]
        view = pb.PoolView(pool_uuid=OTHER, master_uuid=elsewhere, hosts=hosts)
        await master.send(report=pb.Report(full=True, role=serves, pool_view=view))
        await until(lambda: site.rig.parts.service.roster.pool_of(HOSTS[2]) == OTHER)
        stranger = PlayedAgent(site.rig.parts.gateway.port, site.rig.bundle(HOSTS[2]), HOSTS[2])
        site.rig.agents.append(stranger)
        ended = await stranger.refused()
        assert ended.code() is grpc.StatusCode.PERMISSION_DENIED and "enrol it with a token" in str(ended.details())
        # On record, and with no key in the ledger: only a token that names it needs no person.
        key = ec.generate_private_key(ec.SECP256R1())
        assert (await site.ask(await site.token(), HOSTS[1], key))[0] == 202
        key = ec.generate_private_key(ec.SECP256R1())
        status, said = await site.ask(await site.token(host=HOSTS[1]), HOSTS[1], key)
        assert status == 200, said
        await site.rig.agent(HOSTS[1])  # until it has come with its new certificate the old one is good
        await Enrolled(site, HOSTS[1], key, said["certificate"], said["ca"]).come()
        ledger = site.rig.parts.enrolments.registry.ledger
        await until(lambda: ledger.keys[key_of(key.public_key())].seen_ms)
        old = PlayedAgent(site.rig.parts.gateway.port, site.rig.bundle(HOSTS[1]), HOSTS[1])
        site.rig.agents.append(old)
        assert "has enrolled" in str((await old.refused()).details())


@pytest.mark.slow
async def test_another_pools_host_is_not_taken_over(tmp_path: Path) -> None:
    """A token of one pool, for a host that is on record in another; and what a foreign master lists."""
    async with enrolling(tmp_path) as site:
        await (await site.enrolled(HOSTS[0], OTHER)).come(pool_uuid=OTHER)
        await until(lambda: hosts_of(site.rig.parts.service.roster, OTHER))
        key = ec.generate_private_key(ec.SECP256R1())
        status, said = await site.ask(await site.token(), HOSTS[0], key)
        assert status == 202 and OTHER not in said["waiting"]
        assert f"known in pool {OTHER}" in site.rig.parts.enrolments.decisions.all_keys()[0].text
        named = await site.ask(await site.token(host=HOSTS[0]), HOSTS[0], ec.generate_private_key(ec.SECP256R1()))
        assert named[0] == 202
        # It lists a host that it has never had: that host is let in where it belongs.
        other, entry = site.rig.parts.service.roster.pools[OTHER], HostRecord(HOSTS[1], "host-2", "192.0.2.2")
        hosts = {**other.record.hosts, HOSTS[1]: entry}
        site.rig.parts.service.roster.pools[OTHER] = replace(other, record=replace(other.record, hosts=hosts))
        await (await site.enrolled(HOSTS[1])).come()


@pytest.mark.slow
async def test_a_denied_certificate_ends_its_stream_and_stays_denied(tmp_path: Path) -> None:
    async with enrolling(tmp_path) as site:
        decisions, by_hand = site.rig.parts.enrolments.decisions, await site.rig.agent(HOSTS[2])
        await until(lambda: hosts_of(site.rig.parts.service.roster, POOL))
        host, second = await site.enrolled(HOSTS[0]), await site.enrolled(HOSTS[1])
        stream, _ = await host.come(), await second.come()
        shown = f"{host.serial.upper():0>40}"
        await decisions.deny(By("anna", "stolen"), ":".join(shown[n : n + 2] for n in range(0, 40, 2)), "")
        ended = await stream.ended()
        assert ended.code() is grpc.StatusCode.PERMISSION_DENIED and "stolen" in str(ended.details())
        await decisions.deny(ANNA, "", HOSTS[2])  # one that was made by hand: its stream tells the serial number
        assert (await by_hand.ended()).code() is grpc.StatusCode.PERMISSION_DENIED
        assert len(site.rig.parts.gateway._sessions) == 1
        with pytest.raises(Mistake, match="no serial number"):
            await decisions.deny(ANNA, "nobody", "")
    async with enrolling(tmp_path) as site:
        again = Enrolled(site, HOSTS[0], host.key, host.certificate, host.roots)
        assert "denied by anna: stolen" in str((await again.agent().refused()).details())
        anew = ec.generate_private_key(ec.SECP256R1())
        assert (await site.ask(await site.token(), HOSTS[0], anew))[0] == 202


@pytest.mark.slow
async def test_a_stream_renews_its_certificate_and_no_other(tmp_path: Path) -> None:
    async with enrolling(tmp_path) as site:
        by_hand = await site.rig.agent(HOSTS[2])
        await until(lambda: hosts_of(site.rig.parts.service.roster, POOL))
        host, key = await site.enrolled(HOSTS[0]), ec.generate_private_key(ec.SECP256R1())
        stream, thief = await host.come(), ec.generate_private_key(ec.SECP256R1())
        assert "not signed" in (await renewed(host, stream, thief, signer=thief)).refusal
        assert "request" in (await renewed(host, stream, thief, csr="nothing")).refusal
        second = await site.enrolled(HOSTS[1])
        assert "another host" in (await renewed(host, stream, second.key)).refusal
        pair = serialization.load_pem_private_key((tmp_path / HOSTS[2] / "key.pem").read_bytes(), None)
        assert "by hand" in (await renewed(host, by_hand, thief, signer=pair)).refusal
        new = await renewed(host, stream, key)
        assert new.renew_after_s == 86_400 and new.ca_pem == host.roots
        assert (await renewed(host, stream, key)).certificate_pem == new.certificate_pem  # the answer was lost
        # Both are good until a stream has come with the new one.
        stream = await host.come()
        other = Enrolled(site, HOSTS[0], key, new.certificate_pem, new.ca_pem)
        ledger = site.rig.parts.enrolments.registry.ledger
        copied = other.agent()  # whoever connects with it and answers no nonce has not taken the host's place
        await copied.attach()
        await copied.expect("challenge")
        await site.token()  # the ledger's next turn
        assert ledger.keys[key_of(host.key.public_key())].state == "certified"
        assert not ledger.keys[key_of(key.public_key())].seen_ms
        stream = await other.come()
        await until(lambda: ledger.keys[key_of(host.key.public_key())].state == "replaced")
        assert "replaced" in str((await host.agent().refused()).details())
        found = [await renewed(other, stream, ec.generate_private_key(ec.SECP256R1())) for _ in range(6)]
        assert [bool(each.certificate_pem) for each in found] == [True] * 5 + [False]
        assert "within an hour" in found[-1].refusal


@pytest.mark.slow
async def test_while_nothing_can_be_signed_known_hosts_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The intermediate is gone: no certificate is made, one alert tells it, and nobody is refused for 30 days."""
    monkeypatch.setattr(enrolment, "LOOK_S", 0.05)
    async with enrolling(tmp_path) as site:
        host, journal = await site.enrolled(HOSTS[0]), site.rig.parts.journal
        stream = await host.come()
        authority = tmp_path / "authority"
        (authority / "intermediate.pem").rename(authority / "away.pem")
        await until(lambda: journal.alerts(open_only=True))
        (alert,) = journal.alerts(open_only=True)
        assert alert["severity"] == "critical" and alert["pool"] == "" and "cannot certify hosts" in alert["title"]
        refused = await renewed(host, stream, ec.generate_private_key(ec.SECP256R1()))
        assert "cannot certify" in refused.refusal and refused.renew_after_s > 0
        token, key = await site.token(), ec.generate_private_key(ec.SECP256R1())
        assert (await site.ask(token, HOSTS[1], key))[0] == 503
        for days, good in ((33 - 0.1, True), (33 + 0.1, False)):
            late = clock.wall_ms() + round(days * 86_400_000)
            with monkeypatch.context() as patch:
                patch.setattr(clock, "wall_ms", lambda late=late: late)
                agent = host.agent()
                if good:
                    await agent.attach()
                    await agent.expect("welcome")
                else:
                    assert "more than 30 days ago" in str((await agent.refused()).details())
        (authority / "away.pem").rename(authority / "intermediate.pem")
        await until(lambda: not journal.alerts(open_only=True))
        assert (await site.ask(token, HOSTS[1], key))[0] == 200  # it cost no use of the token


@pytest.mark.slow
async def test_the_root_is_replaced_while_hosts_go_on(tmp_path: Path) -> None:
    async with enrolling(tmp_path, by_hand=False) as site:
        trusted, authority = tmp_path / "tls/ca.pem", tmp_path / "authority"
        host = await site.enrolled(HOSTS[0])
        stream = await host.come()
        by_hand = (tmp_path / "ca/ca.pem").read_bytes()
        authority_files.begin_rotation(authority)
        trusted.write_bytes(by_hand + (authority / "ca.pem").read_bytes())
        with pytest.raises(CaError, match="wait"):
            authority_files.switch_root(authority)
        key = ec.generate_private_key(ec.SECP256R1())
        told = await renewed(host, stream, key)
        assert len(fingerprints(told.ca_pem)) == 3  # the old root, the new one, and that of one's own PKI
        authority_files.switch_root(authority, now=True)
        for name in ("cert.pem", "key.pem"):
            shutil.copy(authority / "collector" / name, tmp_path / "tls" / name)
        trusted.write_bytes(by_hand + (authority / "ca.pem").read_bytes())
        last = ec.generate_private_key(ec.SECP256R1())
        new = await renewed(host, stream, last)
        assert fingerprints(new.ca_pem)[0] != fingerprints(told.ca_pem)[0]
        await Enrolled(site, HOSTS[0], key, told.certificate_pem, told.ca_pem).come()  # signed before the switch
        assert authority_files.drop_old_roots(authority) == 1
        trusted.write_bytes(by_hand + (authority / "ca.pem").read_bytes())
        assert len((await site.enrolled(HOSTS[1])).roots.split("BEGIN")) == 3
        await Enrolled(site, HOSTS[0], last, new.certificate_pem, new.ca_pem).come()


@pytest.mark.slow
async def test_a_journal_that_lost_the_ledger_takes_hosts_in_or_asks(tmp_path: Path) -> None:
    async with enrolling(tmp_path) as site:
        host, second = await site.enrolled(HOSTS[0]), await site.enrolled(HOSTS[1])
        key = ec.generate_private_key(ec.SECP256R1())
        new = await renewed(host, await host.come(), key)
    with sqlite3.connect(tmp_path / "state/journal.db") as db:
        db.execute("DELETE FROM certificates")
        db.execute("DELETE FROM host_keys WHERE host = ? OR text LIKE 'renewed%'", [HOSTS[1]])
    async with enrolling(tmp_path) as site:
        decisions, ledger = site.rig.parts.enrolments.decisions, site.rig.parts.enrolments.registry.ledger
        await Enrolled(site, HOSTS[1], second.key, second.certificate, second.roots).come()
        await until(lambda: ledger.of_host(HOSTS[1]))  # nothing was known of this host
        later = Enrolled(site, HOSTS[0], key, new.certificate_pem, new.ca_pem)  # of this one an older key
        assert "not known here" in str((await later.agent().refused()).details())
        name = key_of(key.public_key())
        await until(lambda: name in ledger.keys)
        await decisions.decide(ANNA, name, True)
        await later.come()


@pytest.mark.slow
async def test_floods_are_refused_before_they_cost_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "BODY_WITHIN_S", 0.3)
    async with enrolling(tmp_path) as site:
        async with site.web.post(f"{site.base}/v1/enrol", data=b"x" * (server.BODY_LIMIT + 1)) as reply:
            assert reply.status == 413

        async def slow() -> AsyncIterator[bytes]:
            for _ in range(200):
                yield b" "
                await asyncio.sleep(0.05)

        with contextlib.suppress(aiohttp.ClientError):
            async with site.web.post(f"{site.base}/v1/enrol", data=slow()) as reply:
                assert reply.status == 408
        found = [
            (await site.post({"token": f"pwt-{n}", "csr": request_of(WEAK), "host_uuid": HOSTS[0]}))[0]
            for n in range(server.FAILURES)
        ]
        assert found[0] == 403 and found[-1] == 429
        async with site.web.get(f"{site.base}/v1/ca") as reply:
            assert reply.status == 429
        await site.rig.agent(HOSTS[0])  # nothing of it concerns streams
        serving = site.rig.parts.enrolments.server
        assert serving is not None
        context = ssl.create_default_context(cafile=str(tmp_path / "authority/ca.pem"))
        for line in (
            b"GET /forged HTTP/9.9\r\n\r\n",
            b"forged\r\n\r\n",
            b"POST /\x1b[2Jforged HTTP/1.1\r\nHost: x\r\n\r\n",
        ):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", serving.port, ssl=context, server_hostname="collector"
            )
            writer.write(line)
            assert (await reader.read(12)).split()[1] in (b"400", b"429")
            writer.close()
        assert "forged" not in caplog.text


@pytest.mark.slow
async def test_who_connects_and_says_nothing_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HANDSHAKE_S", 0.5)
    monkeypatch.setattr(server, "CONNECTIONS", connections.Bounds(most=8, question_s=1.0))
    async with enrolling(tmp_path) as site:
        serving = site.rig.parts.enrolments.server
        assert serving is not None and serving._connections is not None
        context = ssl.create_default_context(cafile=str(tmp_path / "authority/ca.pem"))
        mute = [await asyncio.open_connection("127.0.0.1", serving.port) for _ in range(12)]
        mute += [
            await asyncio.open_connection("127.0.0.1", serving.port, ssl=context, server_hostname="collector")
            for _ in range(4)
        ]
        mute[-1][1].write(b"GET /v1/ca HTTP/1.1\r\nHost: ")  # and never the rest of it
        async with site.web.get(f"{site.base}/v1/ca") as reply:
            assert reply.status == 200
        assert len(serving._connections) <= 8
        for reader, writer in mute:
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()


@pytest.mark.slow
async def test_who_asks_now_and_then_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTIONS", connections.Bounds(most=8))
    question = b"GET /v1/ca HTTP/1.1\r\nHost: x\r\n\r\n"
    async with enrolling(tmp_path) as site:
        serving = site.rig.parts.enrolments.server
        assert serving is not None and serving._connections is not None
        context = ssl.create_default_context(cafile=str(tmp_path / "authority/ca.pem"))
        held = []
        for _ in range(8):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", serving.port, ssl=context, server_hostname="collector"
            )
            writer.write(question)
            assert await reader.read(12) == b"HTTP/1.1 200"
            held.append(writer)
        for _ in range(3):
            for writer in held:
                writer.write(question)
            async with site.web.get(f"{site.base}/v1/ca", headers={"Connection": "close"}) as reply:
                assert reply.status == 200
        assert len(serving._connections) <= 8
        for writer in held:
            writer.close()


@pytest.mark.slow
async def test_one_address_fetches_two_packages_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "packages"
    folder.mkdir()
    name = "poolwarden-agent-0.1.0-1.xs8.x86_64.rpm"
    with (folder / name).open("wb") as file:
        file.truncate(64 << 20)  # more than lies between two sockets
    async with enrolling(tmp_path, 'packages = "packages"') as site:
        slow = [await site.web.get(f"{site.base}/v1/agents/{name}") for _ in range(server.DOWNLOADS_OF_ADDRESS)]
        async with site.web.get(f"{site.base}/v1/agents/{name}") as reply:
            assert reply.status == 503
        connector = aiohttp.TCPConnector(ssl=False, local_addr=("127.0.0.2", 0))
        async with (
            aiohttp.ClientSession(connector=connector) as other,
            other.get(f"{site.base}/v1/agents/{name}") as reply,
        ):
            assert reply.status == 200
        for each in slow:
            each.close()


@pytest.mark.slow
async def test_packages_are_listed_and_handed_out(tmp_path: Path) -> None:
    folder = tmp_path / "packages"
    folder.mkdir()
    name = "poolwarden-agent-0.1.0-1.xs8.x86_64.rpm"
    (folder / name).write_bytes(b"an RPM" * 100)
    (folder / "secret").write_text("x")
    (folder / "poolwarden-agent-0.2.0-1.xs8.x86_64.rpm").symlink_to("secret")
    async with enrolling(tmp_path, 'packages = "packages"') as site:
        async with site.web.get(f"{site.base}/v1/agents") as reply:
            (package,) = await reply.json()
        assert {**package, "sha256": ""} == {
            "name": name, "abi": "3.6", "dist": "xs8", "version": "0.1.0", "sha256": "", "size": 600,
        }  # fmt: skip
        async with site.web.get(f"{site.base}/v1/agents/{name}") as reply:
            assert hashlib.sha256(await reply.read()).hexdigest() == package["sha256"]
        for other in ("secret", "..%2fcollector.toml", "poolwarden-agent-0.2.0-1.xs8.x86_64.rpm"):
            async with site.web.get(yarl.URL(f"{site.base}/v1/agents/{other}", encoded=True)) as reply:
                assert reply.status == 404


@pytest.mark.slow
async def test_the_documents_configuration_loads(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/enrolment.md").read_text(), flags=re.DOTALL)
    for known in (tmp_path / "authority", tmp_path / "packages"):
        known.mkdir()
    text = block.replace("/etc/poolwarden", str(tmp_path)).replace("#packages", "packages")
    (tmp_path / "authority").rmdir()
    authority_files.init(tmp_path / "authority", "test", ("192.0.2.5",))
    (tmp_path / "collector.toml").write_text(text)
    settings = load(tmp_path / "collector.toml").enrolment
    assert settings is not None
    assert (settings.enrol_at, settings.agents_at("0.0.0.0:7443")) == ("192.0.2.5:7445", "192.0.2.5:7443")
    for change, word in (
        ('address = "192.0.2.5"', "address: is missing"),
        ('listen = "0.0.0.0:7445"', "listen: is missing"),
        ('authority = "', "authority: is missing"),
    ):
        (tmp_path / "collector.toml").write_text(text.replace(change, f"#{change}"))
        with pytest.raises(ConfigError, match=word):
            load(tmp_path / "collector.toml")
    authority_files.init(tmp_path / "another", "test", ())
    (tmp_path / "collector.toml").write_text(
        text.replace(f'authority = "{tmp_path}/authority', f'authority = "{tmp_path}/another')
    )
    with pytest.raises(ConfigError, match="its root is not in"):
        load(tmp_path / "collector.toml")


async def test_what_vendors_leave_in_place_makes_no_machine_the_same() -> None:
    sample = {"system_uuid": "03000200-0400-0500-0006-000700080009", "system_serial": "To be filled by O.E.M."}
    mine, other = {**sample, "board_serial": "CZ123", "vendor": "V"}, {"board_serial": "CZ124"}

    def asks(machine: dict[str, str]) -> HostKey:
        return HostKey("k", POOL, HOSTS[0], "h1", json.dumps(machine), "", "", "waiting", 0, "", "")

    assert "not known" in enrolment._same(sample, asks(sample))
    assert "same machine" in enrolment._same(mine, asks(mine))
    assert "another machine" in enrolment._same(mine, asks({**sample, **other}))
    assert enrolment.machine_line(mine) == "V, serial CZ123" and "not known" in enrolment.machine_line(sample)
