//! That something is under way, for whoever waits at a terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Nothing is said of what takes no longer.
const SOON: Duration = Duration::from_secs(1);
const EVERY: Duration = Duration::from_millis(250);

/// A line on standard error that tells for how long; gone with it.
pub(crate) struct Progress(Option<tokio::task::JoinHandle<()>>);

impl Progress {
    /// Begins. Says nothing where nobody looks.
    pub(crate) fn begin(what: &str) -> Progress {
        if !std::io::stderr().is_terminal() {
            return Progress(None);
        }
        let (what, begun) = (what.to_owned(), Instant::now());
        Progress(Some(tokio::spawn(async move {
            tokio::time::sleep(SOON).await;
            for sign in ['|', '/', '-', '\\'].into_iter().cycle() {
                let _ = write!(std::io::stderr(), "\r\u{1b}[K{sign} {what} ({} s)", begun.elapsed().as_secs());
                let _ = std::io::stderr().flush();
                tokio::time::sleep(EVERY).await;
            }
        })))
    }

    /// Ends, and takes the line away.
    pub(crate) fn end(self) {}
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(running) = self.0.take() {
            running.abort();
            let _ = write!(std::io::stderr(), "\r\u{1b}[K");
        }
    }
}
