"""`diffedit keys`."""

import pytest

from diffedit.errors import InvalidKey
from tests.support.cli import Cli


def test_a_key_is_made_listed_and_revoked(cli: Cli) -> None:
    text = cli("keys", "add", "u17", "--name", "shop", "--rate", "30").stdout.strip()
    key = cli.client.admit(text).key
    assert (key.owner, key.name, key.rate) == ("u17", "shop", 30)
    assert cli("keys", "list").stdout.splitlines()[1].split()[:4] == [key.id, "u17", "shop", "30"]
    assert cli("keys", "revoke", key.id).stdout == "revoked\n"
    with pytest.raises(InvalidKey):
        cli.client.admit(text)
    assert key.id in cli("keys", "revoke", key.id, code=2).stderr


def test_keys_as_json(cli: Cli) -> None:
    made = cli.json("keys", "add", "u17")
    text = made.pop("key")
    assert cli.client.admit(text).key.id == made["id"]
    assert cli.json("keys", "list") == [made]
    assert cli.json("keys", "revoke", made["id"]) == {"id": made["id"], "revoked": True}


def test_the_list_shows_no_key(cli: Cli) -> None:
    secret = cli("keys", "add", "u17").stdout.strip().rpartition("_")[2]
    assert secret not in cli("keys", "list").stdout + cli("keys", "list", "--json").stdout
