"""`dig` and `nslookup` print for the gateway what Atlas' page shows for the real service.

The config has the page's own names, addresses and resolver, so that the outputs can be compared line by line, the
server's line included; only the order of the records is free, and white space.
"""

import re

import lab

SERVICE_SIDE = "10.1.0.9"
CLIENT = "10.0.30.7"
SRV = "_mongodb._tcp.cluster0-pl-0-k45tj.mongodb.net"
HOST = "pl-0-us-east-1-k45tj.mongodb.net"
REGIONAL = "vpce-024f5b57108c8d3ed-ypwbxwll.vpce-svc-02863655456245e5c.us-east-1.vpce.amazonaws.com"
MANY = 50

# As the page prints them.
PAGE_SRV = """
Server: 127.0.0.53
Address: 127.0.0.53#53

Non-authoritative answer:
_mongodb._tcp.cluster0-pl-0-k45tj.mongodb.net service = 0 0 1026 pl-0-us-east-1-k45tj.mongodb.net.
_mongodb._tcp.cluster0-pl-0-k45tj.mongodb.net service = 0 0 1024 pl-0-us-east-1-k45tj.mongodb.net.
_mongodb._tcp.cluster0-pl-0-k45tj.mongodb.net service = 0 0 1025 pl-0-us-east-1-k45tj.mongodb.net.
"""
PAGE_HOST = """
Server: 127.0.0.53
Address: 127.0.0.53#53

Non-authoritative answer:
pl-0-us-east-1-k45tj.mongodb.net canonical name = vpce-024f5b57108c8d3ed-ypwbxwll.vpce-svc-02863655456245e5c.us-east-1.vpce.amazonaws.com.
Name: vpce-024f5b57108c8d3ed-ypwbxwll.vpce-svc-02863655456245e5c.us-east-1.vpce.amazonaws.com
Address: 10.0.30.194
Name: vpce-024f5b57108c8d3ed-ypwbxwll.vpce-svc-02863655456245e5c.us-east-1.vpce.amazonaws.com
Address: 10.0.20.54
"""

lab.resolver("127.0.0.53")


def setup():
    lab.need("dig", "nslookup")
    lab.own_addresses("10.0.30.194", "10.0.20.54", "10.0.0.2", CLIENT, SERVICE_SIDE)


def gateway():
    text = (lab.ROOT / "tests/clients/reference.toml").read_text()
    nodes = "".join(
        f'    {{ name = "mongos-{i:02}", zone = "us-east-1a", address = "10.2.1.{i + 1}:27016" }},\n' for i in range(MANY)
    )
    # A separate project with a separate load balancer: a region may have this many targets and no more.
    text += f"""
[[interface_endpoint]]
id = "vpce-0f00000000000000f"
vpc = "vpc-0b3f1c9a7d2e84f56"
service = "com.amazonaws.vpce.us-east-1.vpce-svc-0f00000000000000f"
address = [{{ subnet = "subnet-0c1d2e3f4a5b60718", ip = "10.0.30.200" }}]

[[project]]
id = "5f2a1b3c4d5e6f7081920a3c"

[[project.cluster]]
name = "Many"
label = "m4nyx"
type = "sharded"
tier = "M30"
node = [
{nodes}]

[[project.endpoint_service]]
id = "vpce-svc-0f00000000000000f"
region = "us-east-1"
cidrs = ["10.2.0.0/16"]
"""
    lab.own_addresses("10.0.30.200")
    file = lab.work() / "reference.toml"
    file.write_text(text)
    yield lab.Gateway("serve", "--config", file)


def nslookup(*args):
    return lab.run("nslookup", *args, check=False).stdout


def dig(*args, check=True):
    return lab.run("dig", "+tries=1", "+time=10", *args, check=check).stdout


def lines(text):
    """Lines with normalised white space, sorted."""
    squeezed = (re.sub(r"\s+", " ", line).strip() for line in text.splitlines())
    return [line for line in squeezed if line]


def paired(found):
    """The lines of a host's answer: each `Name:` belongs to the `Address:` below it."""
    found = lines(found)
    head, rest = found[:4], found[4:]
    return head, sorted(zip(rest[::2], rest[1::2], strict=True))


def status(text):
    return re.search(r"status: (\w+)", text)[1]


def answers(text):
    return int(re.search(r"ANSWER: (\d+)", text)[1])


def test_nslookup_prints_the_seed_list_as_the_page_does(gateway):
    """A11: one record a node, one host, the port alone chooses the node (A12)."""
    found, page = lines(nslookup("-type=SRV", SRV)), lines(PAGE_SRV)
    # nslookup adds a line that the page leaves out.
    found = [line for line in found if not line.startswith("Authoritative answers")]
    assert found[:3] == page[:3], found
    assert sorted(found[3:]) == sorted(page[3:]), found


def test_nslookup_prints_the_host_as_the_page_does(gateway):
    """A13: a CNAME to the endpoint's regional name, which has an address a subnet."""
    assert paired(nslookup(HOST)) == paired(PAGE_HOST)


def test_the_records_have_the_ttl_weights_and_options_of_the_real_ones(gateway):
    """A11, A13: TTL 60, priority and weight 0; TXT carries the options."""
    records = [line.split() for line in lines(dig("+noall", "+answer", SRV, "SRV"))]
    assert sorted(records) == [
        [f"{SRV}.", "60", "IN", "SRV", "0", "0", str(port), f"{HOST}."] for port in (1024, 1025, 1026)
    ]
    text = lines(dig("+noall", "+answer", "cluster0-pl-0-k45tj.mongodb.net", "TXT"))
    assert text == [
        'cluster0-pl-0-k45tj.mongodb.net. 60 IN TXT "authSource=admin&replicaSet=Cluster0-shard-0-shard-0"'
    ]


def test_zonal_names_lead_to_the_zones_own_address(gateway):
    """A13."""
    for zone, address in (("us-east-1a", "10.0.30.194"), ("us-east-1b", "10.0.20.54")):
        zonal = REGIONAL.replace("-ypwbxwll.", f"-ypwbxwll-{zone}.")
        assert lines(dig("+short", zonal)) == [address]


def test_addresses_take_turns(gateway):
    """A14: each zone's address comes first from time to time."""
    first = {lines(dig("+short", REGIONAL, "A"))[0] for _ in range(20)}
    assert first == {"10.0.30.194", "10.0.20.54"}


def test_missing_names_and_missing_records_are_distinguished(gateway):
    """NXDOMAIN with an SOA to remember it by, in a public zone and in the VPC's own."""
    for name in ("nobody-k45tj.mongodb.net", "nobody.example.internal"):
        text = dig("-b", CLIENT, "+cmd", name)
        assert status(text) == "NXDOMAIN", text
        assert re.search(r"\sIN\s+SOA\s", text), text
    text = dig(HOST, "AAAA")
    assert status(text) == "NOERROR" and not re.search(r"\sIN\s+AAAA\s+[0-9a-f]*:", text), text


def test_a_private_hosted_zone_is_its_vpcs_alone(gateway):
    """The view depends on the client: the VPC has the zone, others have not."""
    inside = lines(dig("-b", CLIENT, "+short", "db.example.internal"))
    assert sorted(inside) == ["10.0.20.54", "10.0.30.194"]
    outside = dig("-b", "127.0.0.1", "db.example.internal")
    assert status(outside) in ("REFUSED", "NXDOMAIN"), outside


def test_private_names_need_both_dns_attributes_of_the_vpc(gateway):
    """B9: with either of them off, the VPC's private zones do not apply; on again, they are back."""
    file = lab.work() / "reference.toml"
    right = file.read_text()
    names = "enable_dns_hostnames = true"
    for wrong in (names.replace("true", "false"), f"{names}\nenable_dns_support = false"):
        file.write_text(right.replace(names, wrong))
        lab.api("POST", "/v1/reload")
        assert not lines(dig("-b", CLIENT, "+short", "db.example.internal")), wrong
        file.write_text(right)
        lab.api("POST", "/v1/reload")
        assert len(lines(dig("-b", CLIENT, "+short", "db.example.internal"))) == 2


def test_the_services_side_is_refused(gateway):
    """A2: clients that must not open connections get no names."""
    for transport in ("+notcp", "+tcp"):
        text = dig("-b", SERVICE_SIDE, transport, HOST, check=False)
        # Over TCP the connection itself is closed unanswered.
        assert "ANSWER SECTION" not in text, text
        assert transport == "+tcp" or status(text) == "REFUSED", text


def test_fifty_seeds_are_cut_over_udp_and_whole_over_tcp(gateway):
    """A11, A16: TC is set on answers too large for UDP, and `dig` retries over TCP by itself."""
    strings = lab.api("GET", "/v1/connection-strings?cluster=Many")["connection_strings"][0]["private"][0]
    name = "_mongodb._tcp." + strings["srv_connection_string"].removeprefix("mongodb+srv://").rstrip("/")
    cut = dig("+ignore", "+notcp", "+bufsize=512", name, "SRV")
    assert re.search(r"flags:[^;]* tc[ ;]", cut), cut
    assert answers(cut) < MANY, cut
    whole = dig("+bufsize=512", name, "SRV")
    assert "Truncated, retrying in TCP mode" in whole, whole
    assert answers(whole) == MANY, whole
    ports = sorted(int(line.split()[6]) for line in lines(whole) if " IN SRV " in line and not line.startswith(";"))
    assert ports == list(range(1024, 1024 + MANY))


def test_answers_follow_a_port_move_at_once(gateway):
    """A6: the next question after the command is answered with the new port."""
    moved = lab.api("POST", "/v1/targets/Cluster0/shard-00-00/move", {})
    assert moved["from"] == 1024, moved
    found = {int(line.split()[2]) for line in lines(dig("+short", SRV, "SRV"))}
    assert found == {moved["to"], 1025, 1026}, found


if __name__ == "__main__":
    lab.main(globals())
