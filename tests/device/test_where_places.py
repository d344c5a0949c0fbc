from pathlib import Path

import pytest

from nas.device.where.places import Adb, Local, Nowhere, Offline, Place, Ssh, place_from
from nas.errors import UserError


@pytest.mark.parametrize(
    ("record", "place"),
    [
        (None, Local()),
        ("local", Local()),
        ("none", Nowhere()),
        ("offline", Offline()),
        ("offline:some folder", Offline(folder=Path("some folder"))),
        ("ssh://pi", Ssh(host="pi")),
        ("ssh://ann@pi.local:2222", Ssh(host="pi.local", user="ann", port=2222)),
        ("ssh://ann@[fe80::1]:22", Ssh(host="fe80::1", user="ann", port=22)),
        ({"kind": "local", "cores": [5, 4, 5]}, Local(cores=(4, 5))),
        ({"kind": "none"}, Nowhere()),
        ({"kind": "ssh", "host": "pi", "key": "k", "python": "~/v/bin/python"}, None),
        ({"kind": "adb", "benchmark": "perf", "serial": 4711, "libraries": "lib.so", "cores": 7}, None),
    ],
)
def test_a_card_names_a_place_in_text_or_fields(record: object, place: Place | None) -> None:
    read = place_from(record, where="where")
    if place is not None:
        assert read == place
    elif isinstance(read, Ssh):
        assert read == Ssh(host="pi", key=Path("k"), python="~/v/bin/python")
    else:
        assert read == Adb(benchmark=Path("perf"), serial="4711", libraries=(Path("lib.so"),), cores=(7,))


def test_places_are_told_in_a_few_words() -> None:
    assert str(Ssh(host="pi", user="ann", port=22)) == "ssh ann@pi:22"
    assert str(Adb(benchmark=Path("b"))) == "adb"
    assert str(Offline(folder=Path("f"))) == "offline f"
    assert str(Local()) == "measured here"


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ("loca", "where: no place named 'loca'; did you mean local\\?"),
        ({"kind": "shh"}, "where.kind: no place named 'shh'; did you mean ssh\\?"),
        ({"host": "pi"}, "where.kind: must be text, it is missing"),
        (7, "must be text or a mapping with a kind, got 7"),
        ("ssh", "must say more than 'ssh'"),
        ("adb", "must say more than 'adb'; it takes the path of a benchmark program"),
        ("ssh://", "must be ssh://user@host:port"),
        ("ssh://a b", "must be ssh://user@host:port"),
        ("ssh://-oProxyCommand=x", "where.host: must be a plain host name"),
        ({"kind": "ssh", "host": "-oProxyCommand=x"}, "where.host: must be a plain host name"),
        ({"kind": "ssh", "host": "pi", "user": "-l"}, "where.user: must be a plain user name"),
        ({"kind": "ssh"}, "where.host: must be text, it is missing"),
        ({"kind": "ssh", "host": "pi", "port": 0}, "where.port: must be a whole number of at least 1, got 0"),
        ({"kind": "ssh", "host": "pi", "port": 70000}, "where.port: must be 1 to 65535, got 70000"),
        ({"kind": "ssh", "host": "pi", "port": True}, "where.port: must be a whole number"),
        ({"kind": "ssh", "host": "pi", "pot": 22}, "no field named 'pot'; did you mean port\\?"),
        ({"kind": "local", "cores": ["a"]}, "where.cores: must be a list of processor numbers"),
        ({"kind": "local", "cores": [-1]}, "where.cores: must be a list of processor numbers"),
        ({"kind": "adb"}, "where.benchmark: must be given, it is missing"),
        ({"kind": "adb", "benchmark": "b", "libraries": [3]}, "where.libraries: must be a list of paths"),
        ({"kind": "offline", "folder": [1]}, "where.folder: must be text"),
    ],
)
def test_a_place_that_breaks_a_rule_is_told_in_one_line(record: object, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as caught:
        place_from(record, where="where")
    assert "\n" not in str(caught.value)
