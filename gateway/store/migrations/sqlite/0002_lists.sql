-- What lists look for, newest first.
CREATE INDEX envelopes_of_tool ON envelopes (tool, created_at DESC, id DESC) WHERE tool IS NOT NULL;
CREATE INDEX envelopes_of_turn ON envelopes (turn, created_at DESC, id DESC) WHERE turn IS NOT NULL;
CREATE INDEX envelopes_ended ON envelopes (status, created_at DESC, id DESC)
    WHERE status IN ('succeeded', 'failed');
CREATE INDEX envelopes_of_outcome ON envelopes (coalesce(outcome, status), created_at DESC, id DESC)
    WHERE status IN ('succeeded', 'failed');
