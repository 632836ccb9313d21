//! The template of one small actor; those of the examples are snapshots.
