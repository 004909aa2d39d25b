//! Acceptance tests of Serin.
