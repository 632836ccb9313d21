-- Indexes of what was added, by themselves: on large tables they take a while, and keep writers waiting but not readers.

CREATE UNIQUE INDEX asya_envelopes_idempotency ON envelopes (coalesce(tenant, ''), idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX asya_envelopes_due ON envelopes (deadline)
    WHERE deadline IS NOT NULL AND status IN ('pending', 'running', 'unknown');
CREATE INDEX asya_envelopes_tenant ON envelopes (tenant, created_at DESC) WHERE tenant IS NOT NULL;
CREATE INDEX asya_envelopes_tool ON envelopes (tool, created_at DESC) WHERE tool IS NOT NULL;
CREATE INDEX asya_updates_resume ON envelope_updates (envelope_id, id);
CREATE INDEX asya_updates_feed ON envelope_updates (tx, id);
