//! The controller: watches, reconciles, applies, records events, writes status.
