-- What this gateway adds. Only additions: replicas of the original go on reading and writing the same tables during a
-- rolling upgrade, and the triggers hold them to the same rules.

-- JSON stands twice: as text, byte for byte, which is what this gateway reads; and as jsonb for replicas of the
-- original, where jsonb can hold it at all (asya_jsonb) and the mirror is on.
ALTER TABLE envelopes
    ADD COLUMN outcome text,
    ADD COLUMN attempt integer NOT NULL DEFAULT 1,
    ADD COLUMN tool text,
    ADD COLUMN tenant text,
    ADD COLUMN version bigint NOT NULL DEFAULT 1,
    ADD COLUMN phase text,
    ADD COLUMN payload_json text,
    ADD COLUMN result_json text,
    ADD COLUMN headers_json text,
    ADD COLUMN route_metadata_json text,
    ADD COLUMN stored_at text,
    -- progress_percent has two decimals; this one counts while both agree.
    ADD COLUMN progress_exact double precision,
    ADD COLUMN timeout_ms bigint,
    ADD COLUMN idempotency_key text,
    ADD COLUMN idempotency_hash bytea;

-- The default of tx is evaluated once for the rows that exist, so that none is rewritten.
ALTER TABLE envelope_updates
    -- NULL in rows of the original.
    ADD COLUMN kind text,
    ADD COLUMN outcome text,
    ADD COLUMN attempt integer,
    ADD COLUMN result_json text,
    -- The result is the envelope's, and is not stored a second time.
    ADD COLUMN result_shared boolean NOT NULL DEFAULT false,
    ADD COLUMN failure_json text,
    ADD COLUMN progress_exact double precision,
    ADD COLUMN actors text[],
    ADD COLUMN current_actor_idx bigint,
    ADD COLUMN partial_actor_idx bigint,
    ADD COLUMN partial_index bigint,
    ADD COLUMN partial_json text,
    ADD COLUMN next_run_at timestamptz,
    ADD COLUMN tx xid8 NOT NULL DEFAULT pg_current_xact_id();

-- Messages that must still reach the broker.
CREATE TABLE asya_outbox (
    envelope_id        text NOT NULL REFERENCES envelopes (id) ON DELETE CASCADE,
    attempt            integer NOT NULL,
    actor              text NOT NULL,
    message_id         text NOT NULL,
    body               bytea NOT NULL,
    tries              integer NOT NULL DEFAULT 0,
    error              text,
    created_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    leased_until       timestamptz NOT NULL,
    PRIMARY KEY (envelope_id, attempt)
);
CREATE INDEX asya_outbox_age ON asya_outbox (created_at);

-- What sidecars must know about envelopes that nobody wants any more.
CREATE TABLE asya_cancellations (
    envelope_id        text NOT NULL,
    attempt            integer NOT NULL,
    keep_until         timestamptz NOT NULL,
    reason             text NOT NULL,
    PRIMARY KEY (envelope_id, attempt)
);
CREATE INDEX asya_cancellations_age ON asya_cancellations (keep_until);

-- What operators say about actors.
CREATE TABLE asya_actors (
    cluster            text NOT NULL,
    namespace          text NOT NULL,
    name               text NOT NULL,
    observed_at        timestamptz NOT NULL,
    body               bytea NOT NULL,
    PRIMARY KEY (cluster, namespace, name)
);

-- From where the history of all envelopes is complete: after the last row that was deleted from it.
CREATE TABLE asya_feed (
    singleton          boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    tx                 xid8 NOT NULL,
    id                 bigint NOT NULL
);
INSERT INTO asya_feed (tx, id) VALUES ('0', 0);

-- NULL where jsonb refuses: U+0000, lone surrogates, numbers and depths beyond its limits.
CREATE FUNCTION asya_jsonb(written text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
    RETURN written::jsonb;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END
$$;

-- Who raises the version is believed about when the row changed; for everybody else it is now, as before.
DROP TRIGGER update_envelopes_updated_at ON envelopes;
CREATE TRIGGER update_envelopes_updated_at BEFORE UPDATE ON envelopes
    FOR EACH ROW WHEN (NEW.version = OLD.version)
    EXECUTE FUNCTION update_updated_at_column();

-- Whoever writes: a final row stays as it is within its attempt, silently, because a replica of the original would
-- answer an error to its sidecar; and every change raises the version. A writer that leaves the version alone knows of
-- none of this, and of neither phase nor order.
CREATE FUNCTION asya_envelopes_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status IN ('succeeded', 'failed') AND NEW.attempt <= OLD.attempt THEN
        RETURN OLD;
    END IF;
    IF NEW.version <= OLD.version THEN
        NEW.version := OLD.version + 1;
        IF NEW.current_actor_idx IS DISTINCT FROM OLD.current_actor_idx THEN
            NEW.phase := NULL;
        END IF;
        IF NEW.attempt = OLD.attempt THEN
            NEW.progress_percent := greatest(NEW.progress_percent, OLD.progress_percent);
        END IF;
    END IF;
    RETURN NEW;
END
$$;
-- Triggers run in the order of their names, and this one has the last word.
CREATE TRIGGER zz_asya_envelopes_guard BEFORE UPDATE ON envelopes
    FOR EACH ROW EXECUTE FUNCTION asya_envelopes_guard();

-- The next attempt forgets the result of the envelope; the history of the one before does not.
CREATE FUNCTION asya_envelopes_next_attempt() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE envelope_updates
    SET result_json = coalesce(OLD.result_json, OLD.result::text), result_shared = false
    WHERE envelope_id = OLD.id AND result_shared;
    RETURN NULL;
END
$$;
CREATE TRIGGER asya_envelopes_next_attempt AFTER UPDATE ON envelopes
    FOR EACH ROW WHEN (NEW.attempt > OLD.attempt) EXECUTE FUNCTION asya_envelopes_next_attempt();

-- A replica of the original adds a line even for what the guard has refused. Such a line would contradict the envelope.
CREATE FUNCTION asya_updates_guard() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    standing record;
BEGIN
    SELECT status, attempt INTO standing FROM envelopes WHERE id = NEW.envelope_id;
    IF standing.status IN ('succeeded', 'failed') AND NEW.status <> standing.status THEN
        RETURN NULL;
    END IF;
    NEW.attempt := standing.attempt;
    RETURN NEW;
END
$$;
CREATE TRIGGER asya_updates_guard BEFORE INSERT ON envelope_updates
    FOR EACH ROW WHEN (NEW.kind IS NULL) EXECUTE FUNCTION asya_updates_guard();

-- Tells all replicas, whoever has written: "u <id of the update> <id of the envelope>", "a", "c"; "*" for what does not
-- fit into a notification.
CREATE FUNCTION asya_updates_tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('asya_gateway', CASE
        WHEN octet_length(envelope_id) > 4000 THEN '*'
        ELSE 'u ' || max(id) || ' ' || envelope_id
    END) FROM added GROUP BY envelope_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER asya_updates_tell AFTER INSERT ON envelope_updates
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION asya_updates_tell();

CREATE FUNCTION asya_tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('asya_gateway', TG_ARGV[0]);
    RETURN NULL;
END
$$;
-- Equal notifications of one transaction are one.
CREATE TRIGGER asya_actors_tell AFTER INSERT OR DELETE ON asya_actors
    FOR EACH ROW EXECUTE FUNCTION asya_tell('a');
CREATE TRIGGER asya_actors_tell_change AFTER UPDATE ON asya_actors
    FOR EACH ROW WHEN (NEW.body IS DISTINCT FROM OLD.body) EXECUTE FUNCTION asya_tell('a');
CREATE TRIGGER asya_cancellations_tell AFTER INSERT ON asya_cancellations
    FOR EACH ROW EXECUTE FUNCTION asya_tell('c');

-- Replicas of the original delete from the history too.
CREATE FUNCTION asya_updates_forgotten() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE asya_feed AS f SET tx = last.tx, id = last.id
    FROM (SELECT tx, id FROM forgotten ORDER BY tx DESC, id DESC LIMIT 1) AS last
    WHERE (f.tx, f.id) < (last.tx, last.id);
    RETURN NULL;
END
$$;
CREATE TRIGGER asya_updates_forgotten AFTER DELETE ON envelope_updates
    REFERENCING OLD TABLE AS forgotten FOR EACH STATEMENT EXECUTE FUNCTION asya_updates_forgotten();
