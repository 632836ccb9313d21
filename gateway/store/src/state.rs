//! The one place that decides what a report changes. Pure; both stores call it inside of a transaction.
