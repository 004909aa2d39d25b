//! How much was asked, and what was refused: for the metrics of whoever asks.

/// What one client asked in a while.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Requests sent, those repeated included.
    pub requests: u32,
    /// Answers that said: too many.
    pub throttled: u32,
    /// Times that no token could be had.
    pub token_failures: u32,
}
