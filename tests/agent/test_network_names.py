"""What a member of private networks is told of other members' names, and which networks a machine has no room for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skerry.agent.networks.host_routes import ranges_taken, route_in_the_way
from skerry.agent.networks.names import MemberNames, Names
from skerry.model.network import Membership

NETWORKS = ("back", "front")
BOXES = ("one", "two", "three")


def member(network: str, last: int) -> Membership:
    at = NETWORKS.index(network)
    return Membership(name=network, address=f"10.{at}.0.{last}", subnet=f"10.{at}.0.0/24")


def test_members_are_found_by_both_names_and_by_members_only() -> None:
    names = MemberNames()
    names.put("one", Names("web", "web"), [member("front", 1), member("back", 1)])
    names.put("two", Names("db", "db"), [member("back", 2)])
    names.put("three", Names("cache", "cache"), [member("front", 3)])
    assert names.find("one", "db") == names.find("one", "db.back") == ["10.0.0.2"]
    assert names.find("one", "web") == ["10.1.0.1"], "of several the first"
    assert names.find("two", "web") == names.find("two", "web.back") == ["10.0.0.1"]
    assert names.find("two", "cache") is None, "of another network: for somebody else to answer"
    assert names.find("two", "cache.front") is None
    assert names.find("two", "cache.back") == [], "nobody else has such a name"
    assert names.find("two", "web.back.example") is None
    assert names.find("stranger", "db") is None
    assert names.find("stranger", "db.back") is None


def test_a_name_leads_to_whoever_has_it_now() -> None:
    names = MemberNames()
    names.put("one", Names("web", "web"), [member("back", 1)])
    names.put("two", Names("db", "db"), [member("back", 2)])
    names.put("two", Names("store", "store"), [member("back", 2)])
    assert (names.find("one", "db"), names.find("one", "store")) == (None, ["10.0.0.2"])
    names.put("three", Names("db", "db"), [member("back", 3)])
    names.drop("two")
    assert (names.find("one", "db"), names.find("one", "store.back")) == (["10.0.0.3"], [])


def test_a_hostname_leads_to_its_first_holder_and_gives_way_to_a_name() -> None:
    names = MemberNames()
    names.put("one", Names("shop-web", "web"), [member("back", 1)])
    names.put("two", Names("copy-web", "web"), [member("back", 2)])
    names.put("one", Names("shop-web", "web"), [member("back", 1), member("front", 1)])
    assert names.find("two", "web") == names.find("two", "shop-web.back") == ["10.0.0.1"], "the first, changed or not"
    names.put("three", Names("web", "www"), [member("back", 3)])
    assert names.find("one", "web.back") == names.find("one", "www") == ["10.0.0.3"]
    names.drop("three")
    names.drop("one")
    assert names.find("two", "web") == names.find("two", "copy-web") == ["10.0.0.2"]


steps = st.lists(
    st.tuples(
        st.sampled_from(BOXES),
        st.lists(st.tuples(st.sampled_from(NETWORKS), st.integers(1, 9)), max_size=2, unique_by=lambda each: each[0]),
    ),
    max_size=12,
)


@given(steps)
def test_whatever_happened_what_is_found_is_what_is_joined(history: list[tuple[str, list[tuple[str, int]]]]) -> None:
    names, joined = MemberNames(), dict[str, dict[str, str]]()
    for box, networks in history:
        wanted = [member(network, last) for network, last in networks]
        names.put(box, Names(box, box), wanted)
        joined[box] = {each.name: each.address for each in wanted}
    for asker in BOXES:
        for box in BOXES:
            for network in NETWORKS:
                there = joined.get(box, {}).get(network)
                expected = None if network not in joined.get(asker, {}) else [there] if there else []
                assert names.find(asker, f"{box}.{network}") == expected


TABLE = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
skabcd-1\t05004D0A\t0200F60A\t0007\t0\t0\t0\tFFFFFFFF\t0\t0\t0
skffff-1\t05004E0A\t0200F60A\t0007\t0\t0\t0\tFFFFFFFF\t0\t0\t0
"""


def test_a_route_of_the_machine_is_in_the_way_and_neither_its_default_nor_ours() -> None:
    assert route_in_the_way("192.168.0.0/16", TABLE, "skabcd-") == "192.168.1.0/24 on eth0"
    assert ranges_taken(TABLE, "skabcd-") == ["10.78.0.5/32", "192.168.1.0/24"]
    assert route_in_the_way("192.168.2.0/24", TABLE, "skabcd-") is None
    assert route_in_the_way("10.77.0.0/24", TABLE, "skabcd-") is None
    assert route_in_the_way("10.78.0.0/24", TABLE, "skabcd-") == "10.78.0.5/32 on skffff-1"
