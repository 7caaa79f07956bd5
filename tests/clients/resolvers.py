"""The resolvers of C libraries, Go and Java, and dnsmasq and Unbound in front of the gateway or behind it, get right what
the gateway answers: names that exist are found, whatever was asked of them before, and names that do not are given up at
once.
"""

import os
import re
import subprocess
import time

import lab

CLIENT = "10.0.30.7"
RESOLVER = "10.0.0.2"
FRONT = "10.0.0.3"
UPSTREAM = "10.0.0.4"
SOURCES = lab.ROOT / "tests/clients/resolvers"
HOST = "pl-0-us-east-1-k45tj.mongodb.net"
ZONE = "lab.internal"

# Names with addresses: an alias in a public zone, an alias record, an apex, a wildcard's name, and a name below an empty
# non-terminal.
HOSTS = (HOST, "db.example.internal", ZONE, f"any.wild.{ZONE}", f"a.deep.{ZONE}")
# Names that exist without addresses.
EMPTY = (f"deep.{ZONE}", "example.internal", "mongodb.net", f"_mongodb._tcp.cluster0-pl-0-k45tj.mongodb.net")
FOREIGN = "www.example.com"
TYPES = ("A", "AAAA", "MX", "TXT", "SRV", "CAA", "HTTPS", "NS", "DS")

# A stub resolver that takes a refusal for a failure waits 5 s before it asks again (musl, glibc).
AT_ONCE = 4

lab.resolver(RESOLVER)


def setup():
    lab.need("dig", "host", "getent", "dnsmasq", "unbound")
    lab.own_addresses("10.0.30.194", "10.0.20.54", RESOLVER, FRONT, UPSTREAM, CLIENT)


def gateway():
    yield lab.Gateway("serve", "--config", config("reference.toml"))


def config(name, more=""):
    """The page's config, with a private zone of every kind of name, answering at the VPC's resolver."""
    text = (lab.ROOT / "tests/clients/reference.toml").read_text()
    text = text.replace('listen = ["127.0.0.53:53"]', f'listen = ["{RESOLVER}:53", "127.0.0.53:53"]\n{more}')
    records = [(ZONE, "10.0.30.1"), (f"*.wild.{ZONE}", "10.0.30.2"), (f"a.deep.{ZONE}", "10.0.30.3")]
    zone = "".join(f'    {{ name = "{name}", type = "A", values = ["{address}"] }},\n' for name, address in records)
    text += f"""
[[private_hosted_zone]]
name = "{ZONE}"
vpcs = ["vpc-0b3f1c9a7d2e84f56"]
record = [
{zone}]
"""
    file = lab.work() / name
    file.write_text(text)
    return file


def use(resolver, *more):
    """Makes `resolver` the one of the C libraries, Go and Java."""
    lines = [f"nameserver {resolver}", "options timeout:5 attempts:2", *more]
    (lab.work() / "resolv.conf").write_text("\n".join(lines) + "\n")


def status(name, kind="A", *more, server=RESOLVER):
    text = lab.run("dig", "+tries=1", "+time=10", f"@{server}", name, kind, *more).stdout
    return re.search(r"status: (\w+)", text)[1], text


def looked_up(*argv):
    """The lines of a look-up program, by their first word; it must not have waited for an answer."""
    began = time.monotonic()
    lines = lab.run(*argv).stdout.splitlines()
    took = time.monotonic() - began
    assert took < AT_ONCE, f"{argv}: {took:.1f} s\n{lines}"
    return dict(line.split(" ", 1) for line in lines)


def finds_hosts_and_gives_up_others(program, absent):
    found = looked_up(*program, *HOSTS)
    for name in HOSTS:
        assert "10.0." in found[name], (program, name, found)
    found = looked_up(*program, FOREIGN, f"absent.{ZONE}")
    assert found == {FOREIGN: absent, f"absent.{ZONE}": absent}, found


class Daemon:
    """A resolver beside the gateway."""

    def __init__(self, *argv, address):
        self.log = lab.work() / f"{argv[0]}-{address}.log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([str(arg) for arg in argv], stdout=log, stderr=log, cwd=lab.work())
        lab.eventually(f"{argv[0]} answers", lambda: status("version.bind", "TXT", "CH", server=address))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def dnsmasq(address, *more):
    base = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root"]
    base += ["--bind-interfaces", f"--listen-address={address}", "--pid-file="]
    return Daemon(*base, *more, address=address)


def unbound(address):
    """It asks the gateway, as the authority of its zones, for no more of a name than it has to."""
    zones = ("mongodb.net", "example.internal", ZONE, "vpce-svc-02863655456245e5c.us-east-1.vpce.amazonaws.com")
    stubs = "".join(f'stub-zone:\n    name: "{zone}"\n    stub-addr: {RESOLVER}\n' for zone in zones)
    file = lab.work() / "unbound.conf"
    file.write_text(f"""
server:
    interface: {address}
    access-control: 10.0.0.0/8 allow
    username: ""
    chroot: ""
    directory: "{lab.work()}"
    pidfile: ""
    use-syslog: no
    do-daemonize: no
    do-ip6: no
    outgoing-interface: {address}
    qname-minimisation: yes
    qname-minimisation-strict: yes
    module-config: "iterator"
    local-zone: "internal." nodefault
{stubs}
forward-zone:
    name: "."
    forward-addr: {RESOLVER}
""")
    return Daemon("unbound", "-d", "-c", file, address=address)


def musl():
    lab.need("musl-gcc")
    program = lab.work() / "lookup-musl"
    lab.run("musl-gcc", "-static", "-O1", "-o", program, SOURCES / "lookup.c")
    yield (program,)


def test_names_that_exist_are_never_denied(gateway):
    """RFC 2308 2.2, RFC 8020, RFC 4592 2.2.2."""
    for name in (*HOSTS, *EMPTY, "net", "com", "internal", "amazonaws.com"):
        questions = [word for kind in TYPES for word in (name, kind)]
        text = lab.run("dig", "+tries=1", "+time=10", f"@{RESOLVER}", *questions).stdout
        assert re.findall(r"status: (\w+)", text) == ["NOERROR"] * len(TYPES), text
    for name in (f"absent.{ZONE}", FOREIGN, "absent-k45tj.mongodb.net"):
        assert status(name)[0] == "NXDOMAIN", name
    for name in HOSTS:
        text = lab.run("host", name, RESOLVER).stdout
        assert "has address 10.0." in text and "not found" not in text, text


def test_other_clients_are_refused_other_names(gateway):
    """Only a VPC's clients have a resolver for all names."""
    code, text = status(FOREIGN, "A", "-b", "127.0.0.1", server="127.0.0.53")
    assert code == "REFUSED", text
    assert status(HOST, "A", "-b", "127.0.0.1", server="127.0.0.53")[0] == "NOERROR"


def test_a_validating_stub_resolver_learns_that_nothing_is_signed(gateway):
    """systemd-resolved turns DNSSEC off (allow-downgrade) when DO is not returned."""
    for name, kind in ((HOST, "A"), ("com", "DS"), (ZONE, "DS")):
        code, text = status(name, kind, "+dnssec")
        assert code == "NOERROR", text
        assert re.search(r"EDNS: version: 0, flags:;", text), text


def test_musl_finds_names_and_gives_up_absent_ones_at_once(gateway, musl):
    finds_hosts_and_gives_up_others(musl, "error -2")


def test_musl_goes_through_a_search_list(gateway, musl):
    """`ndots:5` and a search list, as Kubernetes has them: every name is tried below each domain first."""
    use(RESOLVER, "search default.svc.cluster.local svc.cluster.local cluster.local", "options ndots:5")
    try:
        finds_hosts_and_gives_up_others(musl, "error -2")
    finally:
        use(RESOLVER)


def test_glibc_finds_names_and_gives_up_absent_ones_at_once(gateway):
    lab.need("cc")
    program = lab.work() / "lookup-glibc"
    lab.run("cc", "-O1", "-o", program, SOURCES / "lookup.c")
    finds_hosts_and_gives_up_others((program,), "error -2")
    for name in HOSTS:
        assert "10.0." in lab.run("getent", "ahosts", name).stdout


def test_go_finds_names_and_gives_up_absent_ones_at_once(gateway):
    lab.need("go")
    program = lab.work() / "lookup-go"
    env = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}
    lab.run("go", "build", "-o", program, SOURCES / "lookup.go", env=env)
    finds_hosts_and_gives_up_others((program,), "error not-found")


def test_java_finds_names_and_tells_a_missing_type_from_a_missing_name(gateway):
    """JNDI raises NameNotFoundException for NXDOMAIN: a TXT question for a name with addresses must not."""
    lab.need("java", "javac")
    lab.run("javac", "-d", lab.work(), SOURCES / "Lookup.java")
    program = ("java", "-XX:TieredStopAtLevel=1", "-cp", lab.work(), "Lookup")
    lines = lab.run(*program, *HOSTS, FOREIGN).stdout.splitlines()
    for name in HOSTS:
        assert any(line.startswith(f"{name} 10.0.") for line in lines), lines
        assert f"TXT {name} none" in lines, lines
    assert f"{FOREIGN} error not-found" in lines, lines
    assert f"TXT {FOREIGN} error NameNotFoundException" in lines, lines


def test_names_stay_behind_dnsmasq_whatever_is_asked_of_them(gateway, musl):
    """It takes NXDOMAIN for one type as the absence of the name."""
    with dnsmasq(FRONT, f"--server={RESOLVER}", "--cache-size=1000"):
        use(FRONT)
        try:
            for name in HOSTS:
                for kind in ("MX", "TXT", "SRV", "CAA"):
                    assert status(name, kind, server=FRONT)[0] == "NOERROR", (name, kind)
            finds_hosts_and_gives_up_others(musl, "error -2")
        finally:
            use(RESOLVER)


def test_unbound_finds_names_with_strict_qname_minimisation(gateway, musl):
    """It walks down to a name label by label, and believes NXDOMAIN on the way."""
    with unbound(FRONT):
        for name in HOSTS:
            code, text = status(name, server=FRONT)
            assert code == "NOERROR" and re.search(r"\sIN\s+A\s+10\.0\.", text), text
        for name in EMPTY:
            assert status(name, server=FRONT)[0] == "NOERROR", name
        assert status(f"absent.{ZONE}", server=FRONT)[0] == "NXDOMAIN"
        use(FRONT)
        try:
            finds_hosts_and_gives_up_others(musl, "error -2")
        finally:
            use(RESOLVER)


def test_other_names_are_forwarded_for_the_vpcs_clients_alone(gateway):
    """By a resolver upstream; one that sends every question back is found out, and the gateway itself is none."""
    gateway.stop()
    forwarding = f'forward = ["{UPSTREAM}:53"]'
    with dnsmasq(UPSTREAM, f"--address=/{FOREIGN}/192.0.2.9"):
        running = lab.Gateway("serve", "--config", config("forwarding.toml", forwarding))
        code, text = status(FOREIGN)
        assert code == "NOERROR" and "192.0.2.9" in text, text
        assert status(HOST)[0] == "NOERROR"
        assert status(FOREIGN, "A", "-b", "127.0.0.1", server="127.0.0.53")[0] == "REFUSED"
        running.stop()
    with dnsmasq(UPSTREAM, f"--server={RESOLVER}", "--cache-size=0"):
        running = lab.Gateway("serve", "--config", config("forwarding.toml", forwarding))
        lab.eventually("the loop is found", lambda: looped(running))
        assert status(FOREIGN)[0] == "SERVFAIL"
        assert lab.metric("plgw_dns_forwarded_total") < 32
        assert status(HOST)[0] == "NOERROR"
        running.stop()
    loop = lab.work() / "loop.toml"
    text = config("forwarding.toml", 'forward = ["127.0.0.1:53"]').read_text()
    loop.write_text(text.replace(f'listen = ["{RESOLVER}:53", "127.0.0.53:53"]', 'listen = ["0.0.0.0:53"]'))
    refused = lab.run(lab.PLGW, "serve", "--config", loop, check=False, cwd=lab.work())
    assert refused.returncode != 0 and "cannot forward names to 127.0.0.1:53" in refused.stderr, refused


def looped(running):
    assert "upstream resolver forwards to this server" in running.tail(), running.tail()


if __name__ == "__main__":
    lab.main(globals())
