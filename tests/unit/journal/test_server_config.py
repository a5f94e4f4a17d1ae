"""What the embedded server is told, and what of it stays the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from actors.journal.server_config import MAX_AUDIT, MAX_JOBS, PORTS, Identity, ServerError, free_ports, render

GIB = 1 << 30


def anything(port: int) -> bool:
    return True


def nothing(port: int) -> bool:
    return False


@pytest.fixture
def identity() -> Identity:
    return Identity.new(anything).with_room(100 * GIB)


def told(identity: Identity, folder: Path = Path("/data"), **options: str) -> str:
    return render(identity, folder=folder, log=folder / "nats-server.log", **options)


def test_it_listens_on_loopback_only(identity: Identity) -> None:
    listening = re.findall(r'^(?:listen|http): "(.*)"$', told(identity), re.MULTILINE)
    assert listening == [f"127.0.0.1:{identity.port}", f"127.0.0.1:{identity.monitor_port}"]


def test_what_is_acknowledged_is_on_disk_unless_asked_otherwise(identity: Identity) -> None:
    assert 'sync_interval: "always"' in told(identity)
    assert 'sync_interval: "2m"' in told(identity, sync="2m")


def test_every_account_has_a_password_of_its_own(identity: Identity) -> None:
    assert identity.password != identity.sys_password
    assert identity.url == f"nats://headrace:{identity.password}@127.0.0.1:{identity.port}"
    assert identity.sys_url == f"nats://sys:{identity.sys_password}@127.0.0.1:{identity.port}"
    assert told(identity).count(identity.password) == told(identity).count(identity.sys_password) == 1


def test_no_two_installations_share_a_name_or_a_password() -> None:
    one, other = Identity.new(anything), Identity.new(anything)
    assert one.name != other.name
    assert one.password != other.password


def test_quotes_and_umlauts_in_a_folder_are_quoted(identity: Identity) -> None:
    assert r'store_dir: "/dä \"ta\\"' in told(identity, Path('/dä "ta\\'))


def test_ports_lie_where_no_outgoing_connection_can_take_them() -> None:
    lowest_outgoing = 32_768
    assert all(port in PORTS and port < lowest_outgoing for port in free_ports(50, anything))


def test_ports_are_different_and_free() -> None:
    even = free_ports(20, lambda port: port % 2 == 0)
    assert len(set(even)) == 20
    assert not any(port % 2 for port in even)


def test_without_a_free_port_the_error_says_what_to_do() -> None:
    with pytest.raises(ServerError, match="0 are free and 2 needed: free some"):
        free_ports(2, nothing)


def test_ports_are_kept_while_both_are_free(identity: Identity) -> None:
    assert identity.on_free_ports(anything) == identity


@pytest.mark.parametrize("taken", ["port", "monitor_port"])
def test_ports_are_exchanged_when_one_is_taken_and_nothing_else_changes(identity: Identity, taken: str) -> None:
    moved = identity.on_free_ports(lambda port: port != getattr(identity, taken))
    assert getattr(moved, taken) != getattr(identity, taken)
    ports = {"port": identity.port, "monitor_port": identity.monitor_port}
    assert moved.model_copy(update=ports) == identity


def test_the_room_leaves_a_quarter_of_the_disk_to_others(identity: Identity) -> None:
    assert identity.room == 75 * GIB
    assert f"max_file_store: {75 * GIB}" in told(identity)


def test_the_room_grows_and_never_shrinks(identity: Identity) -> None:
    assert identity.with_room(GIB).room == identity.room
    assert identity.with_room(200 * GIB).room == 150 * GIB


@pytest.mark.parametrize(("free", "jobs"), [(100 * GIB, MAX_JOBS), (20 * GIB, MAX_JOBS), (8 * GIB, 4 * GIB)])
def test_jobs_may_take_half_of_the_free_disk_and_at_most_ten_gigabytes(free: int, jobs: int) -> None:
    assert Identity.new(anything).with_room(free).jobs_bytes == jobs


@pytest.mark.parametrize("free", [1 << 25, 1 << 30, 8 * GIB, 100 * GIB])
def test_the_jobs_and_the_audit_log_fit_into_the_room_together(free: int) -> None:
    found = Identity.new(anything).with_room(free)
    assert 0 < found.audit_bytes <= MAX_AUDIT
    assert found.jobs_bytes + found.audit_bytes < found.room


def test_an_identity_reads_what_another_version_wrote(identity: Identity) -> None:
    newer = identity.model_dump_json().replace("{", '{"later": 1, ', 1)
    assert Identity.model_validate_json(newer) == identity
