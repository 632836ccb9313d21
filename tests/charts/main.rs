//! The charts with a real helm, against a real API server.

