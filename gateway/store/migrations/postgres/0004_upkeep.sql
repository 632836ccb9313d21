-- What lists and the housekeeping look for. On large tables the indexes take a while, and keep writers waiting but not
-- readers.

-- Whose turn it is. Cut, because an index takes no longer texts, and reports name whatever they like.
CREATE INDEX asya_envelopes_turn ON envelopes
    (left(coalesce(current_actor_name, route_actors[least(route_current, 2147483646) + 1]), 256), created_at DESC);
CREATE INDEX asya_envelopes_outcome ON envelopes (coalesce(outcome, status), created_at DESC)
    WHERE status IN ('succeeded', 'failed');
-- Old ones that never end are not in the way of those that are deleted.
CREATE INDEX asya_envelopes_done ON envelopes (updated_at) WHERE status IN ('succeeded', 'failed');

-- As before, but a parent that was stored after its child still says whose that is.
CREATE OR REPLACE FUNCTION asya_envelopes_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status IN ('succeeded', 'failed') AND NEW.attempt <= OLD.attempt THEN
        OLD.tenant := coalesce(OLD.tenant, NEW.tenant);
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

-- As before, but rows of another cluster (a restored dump) may be of transactions that this one has yet to begin: they
-- were never shown here, and say nothing about where the history begins.
CREATE OR REPLACE FUNCTION asya_updates_forgotten() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE asya_feed AS f SET tx = last.tx, id = last.id
    FROM (
        SELECT tx, id FROM forgotten WHERE tx < pg_snapshot_xmax(pg_current_snapshot())
        ORDER BY tx DESC, id DESC LIMIT 1
    ) AS last
    WHERE (f.tx, f.id) < (last.tx, last.id);
    RETURN NULL;
END
$$;
