"""The tables and functions of the PostgreSQL store, and how a schema is brought to the newest version.

Names, specs and events are bytes, not text, so that neither the encoding of the database nor characters it does not
take (such as NUL) make it refuse what every other store keeps. What happens at every ask and tell is one call of a
function: lock the study, look where its log ends, check the attempt, write.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tunewright.errors import SchemaError

if TYPE_CHECKING:
    from tunewright.store.pg_line import Line

OLDEST_SERVER = 120000
# Any number will do as long as every version uses the same: it keeps first starts apart.
_MIGRATION = 0x54574E31
# What the session of every connection is set to. Tables begin empty and grow to millions of rows while plans stay
# cached, so plans that read a whole table are ruled out from the start.
SETTINGS = {
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
    "bytea_output": "hex",
    "client_min_messages": "error",
    "default_transaction_isolation": "read committed",
}
_TABLES = (
    "CREATE TABLE study(id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name bytea NOT NULL, "
    "spec bytea NOT NULL, created float8 NOT NULL)",
    # Over a digest, because an index takes no value longer than a third of a page.
    "CREATE UNIQUE INDEX study_name ON study(sha256(name))",
    "CREATE TABLE name(id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name bytea NOT NULL)",
    "CREATE UNIQUE INDEX name_name ON name(sha256(name))",
    "CREATE TABLE event(seq bigint NOT NULL, at float8 NOT NULL, study integer NOT NULL, worker integer NOT NULL, "
    "data bytea NOT NULL, PRIMARY KEY(study, seq))",
    # Hot and narrow: one row per trial, updated at its end and while it runs, never again.
    "CREATE TABLE head(trial bigint NOT NULL, token bigint NOT NULL, ended bigint NOT NULL, beat float8 NOT NULL, "
    "lease float8 NOT NULL, study integer NOT NULL, worker integer NOT NULL, state smallint NOT NULL, "
    "PRIMARY KEY(study, trial)) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02)",
    "CREATE INDEX running ON head(study, trial) WHERE state = 0",
    "CREATE TABLE snapshot(seq bigint NOT NULL, study integer PRIMARY KEY, data bytea NOT NULL)",
    "ALTER TABLE snapshot ALTER COLUMN data SET STORAGE EXTERNAL",
    # The mark tells the checkpoints of one schema from those of another that is given the same place for them.
    "CREATE TABLE version(number integer NOT NULL, mark text NOT NULL)",
    "INSERT INTO version VALUES(0, substr(md5(random()::text || clock_timestamp()), 1, 10))",
)
# Pieces that functions share.
# Takes the study's lock and tells where its log ends: -1 when there is no such study. The statement after the lock
# sees everything that the last holder committed, because each statement of a volatile function has its own snapshot.
_LOCK = """
    PERFORM pg_advisory_xact_lock(p_space, p_study);
    SELECT e.seq, e.at INTO o_last, v_before FROM event e WHERE e.study = p_study ORDER BY e.seq DESC LIMIT 1;
    IF NOT FOUND THEN
        PERFORM FROM study s WHERE s.id = p_study;
        o_last := CASE WHEN FOUND THEN 0 ELSE -1 END;
        v_before := 0;
    END IF;
"""
_TAIL = """
    SELECT count(*), string_agg(float8send(t.at), ''::bytea), string_agg(int4send(t.worker), ''::bytea),
        string_agg(t.data, ','::bytea)
"""
# Waiters are told at most ten times a second per study: by the first event of each tenth of a second.
_RING = """
    IF floor(o_at * 10) <> floor(v_before * 10) THEN
        PERFORM pg_notify('tunewright_' || p_space, p_study::text);
    END IF;
"""
_OPEN_LOG = """
    %LOCK
    o_status := CASE WHEN o_last < 0 THEN 3 WHEN o_last <> p_expected THEN 1 ELSE 0 END;
    IF o_status > 0 THEN RETURN; END IF;
    o_at := date_part('epoch', clock_timestamp());
"""
# What others wrote since the caller last looked comes along, so that it need not ask for it.
_NEWS = """
    IF o_last > p_known AND o_last - p_known < 1000 THEN
        %TAIL INTO o_count, o_ats, o_workers, o_news
        FROM (SELECT e.at, e.worker, e.data FROM event e WHERE e.study = p_study AND e.seq > p_known ORDER BY e.seq) t;
    END IF;
"""
_RESULT = (
    "OUT o_status smallint, OUT o_last bigint, OUT o_at float8, "
    "OUT o_count bigint, OUT o_ats bytea, OUT o_workers bytea, OUT o_news bytea"
)


_PIECES = (
    ("%NEWS", _NEWS),
    ("%TAIL", _TAIL),
    ("%RING", _RING),
    ("%OPEN", _OPEN_LOG),
    ("%LOCK", _LOCK),
    ("%RESULT", _RESULT),
)


def _filled(text: str) -> str:
    for mark, piece in _PIECES:
        text = text.replace(mark, piece)
    return text


_KNOWN = """
CREATE FUNCTION known(p_name bytea) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_id integer;
BEGIN
    LOOP
        SELECT n.id INTO v_id FROM name n WHERE sha256(n.name) = sha256(p_name);
        IF FOUND THEN RETURN v_id; END IF;
        INSERT INTO name(name) VALUES(p_name) ON CONFLICT DO NOTHING RETURNING id INTO v_id;
        IF FOUND THEN RETURN v_id; END IF;
    END LOOP;
END $$
"""
_OPENED = _filled("""
CREATE FUNCTION opened(p_space integer, p_study integer, p_after bigint, p_most bigint, OUT o_last bigint,
    OUT o_count bigint, OUT o_ats bytea, OUT o_workers bytea, OUT o_data bytea) LANGUAGE plpgsql AS $$
DECLARE
    v_before float8;
BEGIN
    %LOCK
    o_count := 0;
    IF o_last > p_after THEN
        %TAIL INTO o_count, o_ats, o_workers, o_data
        FROM (SELECT e.at, e.worker, e.data FROM event e WHERE e.study = p_study AND e.seq > p_after
            ORDER BY e.seq LIMIT p_most) t;
    END IF;
END $$
""")
READ = _filled("""
    SELECT s.id, r.* FROM study s, LATERAL (%TAIL, max(t.seq)
    FROM (SELECT e.seq, e.at, e.worker, e.data FROM event e WHERE e.study = s.id AND e.seq > $2
        ORDER BY e.seq LIMIT $3) t) r(count, ats, workers, data, last) WHERE s.id = $1
""")
# Roles: 0 is no fact about an attempt, 1 begins one, 2 needs it running, 3 makes it idle, 4 ends it.
_PUT = _filled("""
CREATE FUNCTION put(p_space integer, p_study integer, p_expected bigint, p_worker integer, p_lease float8, p_now float8,
    p_role smallint, p_trial bigint, p_token bigint, p_data bytea, p_known bigint, %RESULT) LANGUAGE plpgsql AS $$
DECLARE
    v_before float8;
BEGIN
    %OPEN
    IF p_role = 4 THEN
        UPDATE head SET state = 2, ended = o_last + 1
        WHERE study = p_study AND trial = p_trial AND token = p_token AND state < 2;
    ELSIF p_role = 1 THEN
        INSERT INTO head(trial, token, ended, beat, lease, study, worker, state)
        VALUES(p_trial, o_last + 1, 0, coalesce(p_now, o_at), p_lease, p_study, p_worker, 0)
        ON CONFLICT(study, trial) DO UPDATE SET token = excluded.token, ended = 0, beat = excluded.beat,
            lease = excluded.lease, worker = excluded.worker, state = 0;
    ELSIF p_role = 2 THEN
        PERFORM FROM head h WHERE h.study = p_study AND h.trial = p_trial AND h.token = p_token AND h.state = 0;
    ELSIF p_role = 3 THEN
        UPDATE head SET state = 1 WHERE study = p_study AND trial = p_trial AND token = p_token AND state = 0;
    END IF;
    IF p_role > 1 AND NOT FOUND THEN
        o_status := 2;
        RETURN;
    END IF;
    %NEWS
    INSERT INTO event(seq, at, study, worker, data) VALUES(o_last + 1, o_at, p_study, p_worker, p_data);
    %RING
END $$
""")
_PUT_MANY = _filled("""
CREATE FUNCTION put_many(p_space integer, p_study integer, p_expected bigint, p_worker integer, p_lease float8,
    p_now float8, p_roles smallint[], p_trials bigint[], p_tokens bigint[], p_data bytea[], p_known bigint, %RESULT)
LANGUAGE plpgsql AS $$
DECLARE
    v_before float8;
BEGIN
    %OPEN
    IF p_roles && '{2,3,4}'::smallint[] THEN
        -- One look at the index per attempt; as a join it may become a look at every attempt of the study.
        PERFORM FROM unnest(p_roles, p_trials, p_tokens) u(role, trial, token)
        WHERE u.role > 1 AND (
            SELECT h.token = u.token AND h.state < CASE u.role WHEN 4 THEN 2 ELSE 1 END
            FROM head h WHERE h.study = p_study AND h.trial = u.trial) IS NOT TRUE;
        IF FOUND THEN
            o_status := 2;
            RETURN;
        END IF;
        -- The rows are there, so this updates them, by the index again.
        INSERT INTO head(trial, token, ended, beat, lease, study, worker, state)
        SELECT u.trial, u.token, CASE u.role WHEN 4 THEN o_last + u.i ELSE 0 END, 0, 0, p_study, 0, u.role - 2
        FROM unnest(p_roles, p_trials, p_tokens) WITH ORDINALITY u(role, trial, token, i) WHERE u.role > 2
        ON CONFLICT(study, trial) DO UPDATE SET state = excluded.state, ended = excluded.ended;
    END IF;
    IF p_roles && '{1}'::smallint[] THEN
        INSERT INTO head(trial, token, ended, beat, lease, study, worker, state)
        SELECT u.trial, o_last + u.i, 0, coalesce(p_now, o_at), p_lease, p_study, p_worker, 0
        FROM unnest(p_roles, p_trials) WITH ORDINALITY u(role, trial, i) WHERE u.role = 1
        ON CONFLICT(study, trial) DO UPDATE SET token = excluded.token, ended = 0, beat = excluded.beat,
            lease = excluded.lease, worker = excluded.worker, state = 0;
    END IF;
    %NEWS
    INSERT INTO event(seq, at, study, worker, data)
    SELECT o_last + u.i, o_at, p_study, p_worker, u.data FROM unnest(p_data) WITH ORDINALITY u(data, i);
    %RING
END $$
""")
# Writes what the caller has checked under the lock, in its transaction; without times it is now.
_SETTLED = """
CREATE FUNCTION settled(p_space integer, p_study integer, p_last bigint, p_ats float8[], p_workers integer[],
    p_data bytea[], p_now float8, p_trials bigint[], p_tokens bigint[], p_states smallint[], p_holders integer[],
    p_leases float8[], p_ends bigint[], OUT o_at float8) LANGUAGE plpgsql AS $$
BEGIN
    o_at := date_part('epoch', clock_timestamp());
    INSERT INTO event(seq, at, study, worker, data)
    SELECT p_last + u.i, coalesce(u.at, o_at), p_study, u.worker, u.data
    FROM unnest(p_ats, p_workers, p_data) WITH ORDINALITY u(at, worker, data, i);
    INSERT INTO head(trial, token, ended, beat, lease, study, worker, state)
    SELECT u.trial, u.token, u.ended, coalesce(p_now, o_at), u.lease, p_study, u.holder, u.state
    FROM unnest(p_trials, p_tokens, p_states, p_holders, p_leases, p_ends) u(trial, token, state, holder, lease, ended)
    ON CONFLICT(study, trial) DO UPDATE SET token = excluded.token, ended = excluded.ended, beat = excluded.beat,
        lease = excluded.lease, worker = excluded.worker, state = excluded.state;
    PERFORM pg_notify('tunewright_' || p_space, p_study::text);
END $$
"""
# A renewal that a crash of the server undoes does no harm: leases count from its start at the earliest.
_RENEWED = """
CREATE FUNCTION renewed(p_study integer, p_trials bigint[], p_tokens bigint[], p_lease float8, p_now float8)
RETURNS TABLE(o_trial bigint, o_token bigint) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    -- A token names one attempt of one trial, so two lists are as good as pairs.
    RETURN QUERY
        UPDATE head h SET beat = coalesce(p_now, date_part('epoch', clock_timestamp())), lease = p_lease
        WHERE h.study = p_study AND h.trial = ANY(p_trials) AND h.token = ANY(p_tokens) AND h.state = 0
        RETURNING h.trial, h.token;
END $$
"""
_FUNCTIONS = (_KNOWN, _OPENED, _PUT, _PUT_MANY, _SETTLED, _RENEWED)
Step = Callable[["Line", float], None]


def _create(line: Line, end: float) -> None:
    for statement in (*_TABLES, *_FUNCTIONS):
        line.execute(statement, end)


# Step i takes a schema from version i to version i + 1. A published step is never edited; a change is a new step.
STEPS: tuple[Step, ...] = (_create,)


def prepare(line: Line, schema: str, end: float, steps: Sequence[Step] = STEPS) -> None:
    """Brings a schema to the newest version, in one transaction; one that is there already is only looked at.

    Args:
        line: A connection whose search path is the schema.
        schema: Its name; created when missing.
        end: Latest end, on ``time.monotonic``.
        steps: How to get from each version to the next.

    Raises:
        SchemaError: If the schema holds something else, or was written by a newer version.
    """
    if _version(line, schema, end, len(steps)) == len(steps):
        return
    line.execute("BEGIN", end)
    try:
        line.execute(f"SELECT pg_advisory_xact_lock({_MIGRATION})", end)
        if line.execute("SELECT to_regnamespace(quote_ident($1))::text", end, schema) == [(None,)]:
            line.execute(f"CREATE SCHEMA {quoted(schema)}", end)
        for number in range(_version(line, schema, end, len(steps)), len(steps)):
            steps[number](line, end)
        line.execute("UPDATE version SET number = $1::int", end, str(len(steps)))
        line.execute("COMMIT", end)
    except BaseException:
        line.roll_back(end)
        raise


def _version(line: Line, schema: str, end: float, newest: int) -> int:
    # One statement, so that the answers belong together while another process creates the tables.
    question = (
        "SELECT count(*) FILTER (WHERE c.relname = 'version')::text, min(c.relname)::text FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1"
    )
    ((ours, other),) = line.execute(question, end, schema)
    if ours == b"0":
        if other is not None:
            raise SchemaError(
                f"A store must be a schema made by Tunewright; '{schema}' holds another program's tables, such as "
                f"'{other.decode(errors='replace')}'. Choose another one with ?schema=."
            )
        return 0
    rows = line.execute("SELECT number::text FROM version", end)
    version = int(rows[0][0] or 0) if len(rows) == 1 else newest + 1
    if version > newest:
        raise SchemaError(
            f"A store must be of format {newest} or older; schema '{schema}' has format {version}. Upgrade Tunewright."
        )
    return version


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'
