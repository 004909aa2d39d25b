//! Notices that were recorded and not sent yet. At least once, in no hurry, never in the way.

use crate::ports::{Ledger, Notifier};

/// Publishes what is waiting; returns how many went out. What fails stays for the next tick.
pub async fn send(ledger: &impl Ledger, notifier: &impl Notifier) -> usize {
    let waiting = match ledger.outbox().await {
        Ok(waiting) => waiting,
        Err(error) => {
            tracing::error!(%error, "outbox not read; its notices go out at the next tick");
            return 0;
        }
    };
    let mut sent = 0;
    for notice in waiting {
        if let Err(error) = notifier.publish(&notice).await {
            tracing::error!(notice = notice.id, error, "notice not published; the next tick tries again");
            continue;
        }
        sent += 1;
        if let Err(error) = ledger.sent(&notice).await {
            tracing::warn!(notice = notice.id, %error, "notice will be published again under the same dedup key");
        }
    }
    sent
}
