"""What only the PostgreSQL store does while all is well; everything else is in the laws."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from tunewright.core.events import Ended, Event, Noted, Record, Reported, Started
from tunewright.errors import ConfigError, MissingExtra, SchemaError, StoreUnavailable
from tunewright.store import pg_schema
from tunewright.store.base import Lease
from tunewright.store.pg_address import parse
from tunewright.store.pg_line import Refused
from tunewright.store.pg_link import LINES
from tunewright.store.postgres import PostgresStore
from tunewright.store.urls import open_store

if TYPE_CHECKING:
    from benchmarks.postgres import Cluster

ME = "external/me"
CANARY = "c4n4ry/@:é"
HIDDEN = "c4n4ry%2F%40%3A%C3%A9"


@pytest.fixture
def store(postgres_url: str) -> Iterator[PostgresStore]:
    made = PostgresStore(postgres_url)
    yield made
    made.close()


def schema_of(url: str) -> str:
    return url.partition("?schema=")[2]


def ask(cluster: Cluster, question: str, *values: object) -> list[tuple[object, ...]]:
    """Rows from a connection beside the store's."""
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        return connection.execute(question, values).fetchall()


def sessions(cluster: Cluster) -> int:
    """Connections of stores."""
    ((count,),) = ask(cluster, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tunewright'")
    assert isinstance(count, int)
    return count


def starts(count: int, first: int = 0) -> list[Event]:
    return [Started(first + i, {"x": 0.5}) for i in range(count)]


# ---------------------------------------------------------------------- addresses


def test_address_is_taken_apart() -> None:
    address = parse("postgresql://me@db:5/base?schema=s&blobs=/b&deadline=2&patience=3&sslmode=require")
    assert (address.schema, address.blobs, address.deadline, address.patience) == ("s", "/b", 2.0, 3.0)
    words = address.target.decode().split()
    assert {"user='me'", "host='db'", "port='5'", "dbname='base'", "sslmode='require'"} <= set(words)
    assert address.shown.startswith("postgresql://me@db:5/base?")
    plain = parse("postgresql://db/base")
    assert (plain.schema, plain.deadline, plain.patience) == ("tunewright", None, None)
    assert "tcp_user_timeout='20000'" in plain.target.decode()


def test_own_settings_of_the_connection_win() -> None:
    assert "keepalives_idle='99'" in parse("postgresql://db/base?keepalives_idle=99").target.decode()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"postgresql://me:{HIDDEN}@db/base?schema=s", "postgresql://me@db/base?schema=s"),
        (
            f"postgresql://me@db/base?password={HIDDEN}&sslmode=require",
            "postgresql://me@db/base?sslmode=require",
        ),
        (f"postgres://db:5?user=me&password={HIDDEN}", "postgres://db:5?user=me"),
    ],
)
def test_password_is_kept_to_ourselves(url: str, shown: str) -> None:
    address = parse(url)
    assert address.shown == shown
    assert CANARY in address.target.decode()
    assert CANARY not in repr(address)
    assert HIDDEN not in repr(address)
    assert address.clean(f"fatal: {CANARY} is wrong") == "fatal: *** is wrong"


def test_password_for_checkpoints_is_hidden_too() -> None:
    address = parse("postgresql://db/base?blobs=sftp://me:c4n4ry@host/x")
    assert "c4n4ry" not in address.shown
    assert address.blobs == "sftp://me:c4n4ry@host/x"


def test_store_with_a_password_shows_none(postgres_url: str, postgres: Cluster) -> None:
    store = PostgresStore(postgres_url.replace("postgres@", f"postgres:{HIDDEN}@"))
    assert store.url == postgres_url
    assert "c4n4ry" not in repr(store)
    store.close()
    store.create("s", {})
    assert store.find("s") is not None
    store.close()


def test_shown_address_opens_the_same_store_where_the_password_is_known() -> None:
    shown = parse(f"postgresql://her:{HIDDEN}@db/base").shown
    assert CANARY in parse(shown).target.decode()
    assert CANARY not in parse("postgresql://him@db/base").target.decode()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://db/base?colour=red", "got 'colour'"),
        ("postgresql://db/base?schema=", "1 to 63 bytes"),
        ("postgresql://db/base?schema=pg_x", "does not begin with 'pg_'"),
        ("postgresql://db/base?deadline=soon", "deadline of a store must be a number"),
        ("postgresql://db/base?patience=-1", "patience of a store must be a number"),
        ("postgresql://me:c4n4ry@[db/base", "%40"),
        ("postgresql://me:c4n4ry/x@db/base", "%2F"),
    ],
)
def test_address_that_cannot_be_read(url: str, message: str) -> None:
    with pytest.raises(ConfigError) as failure:
        parse(url)
    assert message in str(failure.value)
    assert "c4n4ry" not in str(failure.value)


def test_server_that_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    from benchmarks.postgres import free_port

    begun = time.monotonic()
    with pytest.raises(StoreUnavailable, match="refused.*Check that it runs") as failure:
        PostgresStore(f"postgresql://me:{HIDDEN}@127.0.0.1:{free_port()}/base", deadline=0.7)
    assert 0.6 < time.monotonic() - begun < 10
    assert "c4n4ry" not in str(failure.value) + caplog.text
    assert "does not answer" in caplog.text


def test_database_that_does_not_exist_is_told_at_once(postgres: Cluster) -> None:
    with pytest.raises(StoreUnavailable, match='database "nowhere" does not exist'):
        PostgresStore(postgres.url.rpartition("/")[0] + "/nowhere", deadline=1000)


def test_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name == "psycopg" or name.startswith(
            ("psycopg.", "tunewright.store.pg_", "tunewright.store.postgres")
        ):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtra, match=r"tunewright\[postgres\]"):
        open_store("postgresql://db/base")


# ---------------------------------------------------------------------- schemas


def test_schema_of_somebody_else(postgres: Cluster, postgres_url: str) -> None:
    name = schema_of(postgres_url)
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
        connection.execute(f"CREATE TABLE {name}.event(a int)")
    with pytest.raises(SchemaError, match="another program's tables, such as 'event'"):
        PostgresStore(postgres_url)


def test_schema_of_a_newer_version(postgres: Cluster, postgres_url: str, store: PostgresStore) -> None:
    newer = len(pg_schema.STEPS) + 1
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"UPDATE {schema_of(postgres_url)}.version SET number = {newer}")
    with pytest.raises(SchemaError, match=f"has format {newer}. Upgrade"):
        PostgresStore(postgres_url)


def test_older_schema_is_brought_up_to_date_or_left_as_it_was(
    postgres: Cluster, postgres_url: str, store: PostgresStore
) -> None:
    study = store.create("s", {}).id
    link = store._link
    line = link.connect(time.monotonic() + 10)

    def more(line: object, end: float) -> None:
        line.execute("ALTER TABLE study ADD COLUMN extra integer DEFAULT 7", end)  # type: ignore[attr-defined]

    def fail(line: object, end: float) -> None:
        more(line, end)
        raise ZeroDivisionError

    name, end = schema_of(postgres_url), time.monotonic() + 10
    with pytest.raises(ZeroDivisionError):
        pg_schema.prepare(line, name, end, (*pg_schema.STEPS, fail))
    assert store.find("s") is not None
    pg_schema.prepare(line, name, end, (*pg_schema.STEPS, more))
    assert ask(postgres, f"SELECT extra FROM {name}.study") == [(7,)]
    assert ask(postgres, f"SELECT number FROM {name}.version") == [(len(pg_schema.STEPS) + 1,)]
    assert store.last(study) == 0, "a store that is open goes on"
    line.close()


def test_user_without_permission(postgres: Cluster, postgres_url: str) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE ROLE weak LOGIN")
    with pytest.raises(StoreUnavailable, match="permission for its tables.*CREATE SCHEMA"):
        PostgresStore(postgres_url.replace("postgres@", "weak@"))


def test_two_schemas_share_nothing(postgres_url: str, store: PostgresStore, tmp_path: Path) -> None:
    place = f"{postgres_url}_other&blobs={tmp_path}"
    other = PostgresStore(place)
    mine, theirs = store.create("s", {}).id, other.create("s", {}).id
    store.append(mine, [Noted("mine", {})], worker=ME)
    assert mine == theirs
    assert other.last(theirs) == 0
    assert Path(other.blobs(theirs)).is_relative_to(tmp_path)
    again = PostgresStore(place)
    third = PostgresStore(f"{postgres_url}_third&blobs={tmp_path}")
    assert again.blobs(theirs) == other.blobs(theirs)
    assert third.blobs(third.create("s", {}).id) != other.blobs(theirs)
    for each in (other, again, third):
        each.close()


def test_default_place_of_checkpoints(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = PostgresStore(postgres_url)
    study = store.create("s", {}).id
    assert Path(store.blobs(study)).is_relative_to(tmp_path / ".tunewright" / "blobs")
    monkeypatch.setenv("TUNEWRIGHT_BLOBS", "memory://bucket/x")
    other = PostgresStore(postgres_url)
    assert other.blobs(study).startswith("memory://bucket/x/")
    store.close()
    other.close()


# ---------------------------------------------------------------------- what is kept


def test_whatever_is_text_is_kept(store: PostgresStore, postgres_url: str) -> None:
    names = ["nul\0nul", "\ud800 half", "'; DROP TABLE event; --", '"\\{}', "größe" * 100, ""]
    for name in names:
        study = store.create(name, {"note": "a\0b"})
        (record,) = store.append(
            study.id, [Noted(name if name != names[1] else "x", {"k\0": "v\0"})], worker=name
        )
        other = PostgresStore(postgres_url)
        assert other.find(name) == study
        assert other.read(study.id) == [record]
        assert other.read(study.id)[0].worker == name
        other.close()
    assert [s.name for s in store.studies()] == names


def test_long_logs_come_in_pieces(store: PostgresStore, postgres_url: str) -> None:
    study = store.create("s", {}).id
    store.append(study, starts(2500), worker=ME)
    store.append(study, [Noted("big", {"x": "y" * 300_000}) for _ in range(3)], worker=ME)
    other = PostgresStore(postgres_url)
    records = other.read(study)
    assert [r.seq for r in records] == list(range(1, 2504))
    assert len(other.read(study, 10, 2000)) == 2000
    seen: list[int] = []

    def choose(tail: list[Record], expired: list[Lease]) -> Sequence[Event]:
        seen.extend(r.seq for r in tail)
        return [Noted("end", {})]

    (record,) = other.decide(study, 0, choose, worker=ME)
    assert record.seq == 2504
    assert seen == list(range(1, 2504)), "a long tail is read before the lock is taken, and given once"
    other.close()


def test_batches_of_every_kind(store: PostgresStore) -> None:
    study = store.create("s", {}).id
    begun = store.append(study, starts(50), worker=ME)
    middle: list[Event] = [Reported(r.event.trial, r.seq, 1, {"loss": 1.0}) for r in begun]  # type: ignore[union-attr]
    store.append(study, [*middle, Noted("x", {}), *starts(3, first=50)], worker=ME)
    ends: list[Event] = [Ended(r.event.trial, r.seq, metrics={"loss": 1.0}) for r in begun]  # type: ignore[union-attr]
    assert [r.seq for r in store.append(study, ends, worker=ME)] == list(range(105, 155))
    assert store.append(study, ends, worker=ME) == [], "all of them are there already"
    assert [x.trial for x in store.leases(study)] == [50, 51, 52]
    mixed = [*ends[:2], Ended(50, 102), Noted("y", {})]
    assert [type(r.event) for r in store.append(study, mixed, worker=ME)] == [Ended, Noted]


def test_no_table_is_read_from_end_to_end(postgres: Cluster, postgres_url: str, store: PostgresStore) -> None:
    """Plans are made while the tables are empty or small, and kept while they grow."""
    study = store.create("s", {}).id
    for first in range(0, 1200, 10):
        if first == 800:
            store.close()
        batch = store.append(study, starts(10, first), worker=ME)
        held = [(first + i, r.seq) for i, r in enumerate(batch)]
        assert store.renew(study, held) == []
        ends = [Ended(trial, token, metrics={"loss": 1.0}) for trial, token in held]
        store.append(study, [Reported(e.trial, e.token, 1, {"loss": 1.0}) for e in ends], worker=ME)
        assert len(store.append(study, ends, worker=ME)) == 10
        assert store.append(study, ends, worker=ME) == []
    for i in range(1200, 1240):
        (begun,) = store.decide(study, store.last(study), lambda tail, expired, i=i: starts(1, i), worker=ME)
        store.renew(study, [(i, begun.seq)])
        store.append(study, [Reported(i, begun.seq, 1, {"loss": 1.0})], worker=ME)
        store.append(study, [Ended(i, begun.seq, metrics={"loss": 1.0})], worker=ME)
    store.leases(study)
    store.read(study)
    store.close()
    question = (
        "SELECT relname, seq_tup_read, idx_scan, idx_tup_fetch FROM pg_stat_user_tables "
        "WHERE schemaname = %s AND relname IN ('event', 'head')"
    )
    end = time.monotonic() + 10
    while sum(int(str(row[2])) for row in ask(postgres, question, schema_of(postgres_url))) == 0:
        assert time.monotonic() < end, "sessions report what they did when they end"
        time.sleep(0.05)
    for table, read, _, fetched in ask(postgres, question, schema_of(postgres_url)):
        assert read == 0, f"{table} was read from end to end"
        assert int(str(fetched)) < 12 * 1240, f"{table} was looked through again and again"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"kind":"started"', "damaged"),
        (b'{"kind":"started","trial":"x"}', "number 2 of study 1"),
        (b"[1]", "number 2"),
    ],
)
def test_damaged_event_is_named(
    postgres: Cluster, postgres_url: str, store: PostgresStore, data: bytes, message: str
) -> None:
    study = store.create("s", {}).id
    store.append(study, [Noted("a", {}), Noted("b", {})], worker=ME)
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"UPDATE {schema_of(postgres_url)}.event SET data = %s WHERE seq = 2", (data,))
    with pytest.raises(SchemaError, match=message):
        store.read(study)
    assert len(store.read(study, 0, 1)) == 1


def test_event_of_a_newer_version_is_passed_over_and_a_gap_is_not(
    postgres: Cluster, postgres_url: str, store: PostgresStore
) -> None:
    study, table = store.create("s", {}).id, schema_of(postgres_url) + ".event"
    store.append(study, [Noted(str(i), {}) for i in range(3)], worker=ME)
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"UPDATE {table} SET data = %s WHERE seq = 2", (b'{"kind":"dreamt","of":1}',))
        assert store.read(study)[1].event == Noted("unknown", {"kind": "dreamt", "of": 1})
        connection.execute(f"DELETE FROM {table} WHERE seq = 2")
    with pytest.raises(SchemaError, match="no gaps"):
        store.read(study)


@pytest.mark.parametrize(
    ("state", "kind", "message"),
    [
        ("53100", StoreUnavailable, "free space on the server's disk"),
        ("25006", StoreUnavailable, "takes writes"),
        ("42P01", SchemaError, "undamaged schema"),
        ("XX000", StoreUnavailable, "server's log"),
    ],
)
def test_errors_say_what_to_do(store: PostgresStore, state: str, kind: type[Exception], message: str) -> None:
    def fail(line: object, end: float, again: bool) -> None:
        raise Refused(state, "so it is")

    with pytest.raises(kind, match=f"{message}.*so it is|so it is.*{message}"):
        store._link.call(fail)


# ---------------------------------------------------------------------- sessions


def test_connections_are_few_and_end(postgres: Cluster, store: PostgresStore) -> None:
    study = store.create("s", {}).id
    before = sessions(postgres)
    most = [0]

    def work(i: int) -> None:
        for _ in range(10):
            store.append(study, [Noted(str(i), {})], worker=ME)
        most[0] = max(most[0], sessions(postgres))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.last(study) == 100
    assert 1 <= most[0] <= before - 1 + LINES
    with store.deciding(study):
        store.wait(study, 100, 0.05)
    store.close()
    end = time.monotonic() + 10
    while sessions(postgres) > before - 1:
        assert time.monotonic() < end, "a session was left behind"
        time.sleep(0.02)


def test_reading_inside_many_decisions_at_once(store: PostgresStore) -> None:
    """Each decision holds a connection and needs another; they must not wait for each other's."""
    keys = [store.create(str(i), {}).id for i in range(LINES)]
    together = threading.Barrier(LINES)
    found: list[int] = []

    def work(number: int) -> None:
        def choose(tail: list[Record], expired: list[Lease]) -> Sequence[Event]:
            together.wait(10)
            return [Noted("seen", {"n": len(store.read(keys[number]))})]

        found.extend(r.seq for r in store.decide(keys[number], 0, choose, worker=ME))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(LINES)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [1] * LINES
    assert time.monotonic() - begun < 5


def test_session_settings(store: PostgresStore) -> None:
    (row,) = store._link.call(
        lambda line, end, again: line.execute(
            "SELECT current_setting('synchronous_commit'), current_setting('statement_timeout'), "
            "current_setting('idle_in_transaction_session_timeout'), current_setting('application_name')",
            end,
        )
    )
    assert row == (b"on", b"27s", b"5s", b"tunewright"), "the server's own default is off here"


def test_news_arrive_by_notification(store: PostgresStore, postgres_url: str) -> None:
    study = store.create("s", {}).id
    assert store.wait(study, 0, 0.0) == 0
    link = store._link
    link.hear(study, 0, 0.01)  # begins to listen
    other = PostgresStore(postgres_url)
    time.sleep(0.15)  # one notification per tenth of a second at most
    heard = link.rings(study)
    other.append(study, [Noted("a", {})], worker=ME)
    end = time.monotonic() + 10
    while link.rings(study) == heard:
        link.hear(study, heard, 1.0)
        assert time.monotonic() < end
    assert store.wait(study, 0, 5.0) == 1
    other.close()


def test_waiters_share_one_connection(postgres: Cluster, store: PostgresStore, postgres_url: str) -> None:
    study = store.create("s", {}).id
    before = sessions(postgres)
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(store.wait(study, 0, 20.0))) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    assert sessions(postgres) <= before - 1 + LINES + 1
    other = PostgresStore(postgres_url)
    other.append(study, [Noted("a", {})], worker=ME)
    for thread in threads:
        thread.join(20)
    assert found == [1, 1, 1]
    other.close()


def test_decision_alone_takes_one_round_trip(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from tunewright.store.pg_line import Line

    study = store.create("s", {}).id
    requests: list[int] = []
    run = Line.run

    def counted(self: Line, calls: Sequence[object], end: float) -> object:
        requests.append(len(calls))
        return run(self, calls, end)  # type: ignore[arg-type]

    store.decide(study, 0, lambda tail, expired: starts(1), worker=ME)
    store.append(study, [Ended(0, 1)], worker=ME)
    monkeypatch.setattr(Line, "run", counted)
    store.decide(study, 2, lambda tail, expired: starts(1, 1), worker=ME)
    assert requests == [1]
    store.append(study, [Ended(1, 3)], worker=ME)
    assert requests == [1, 1]
    requests.clear()
    store.decide(study, 0, lambda tail, expired: starts(1, 2), worker=ME)
    assert len(requests) == 2, "with the lock and what is new, then the answer and the commit"


def test_deciders_in_two_processes_exclude_each_other(store: PostgresStore, postgres_url: str) -> None:
    other = PostgresStore(postgres_url)
    study = store.create("s", {}).id
    order: list[str] = []

    def second() -> None:
        with other.deciding(study):
            order.append("second")

    thread = threading.Thread(target=second)
    with store.deciding(study), store.deciding(study):
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    other.close()
