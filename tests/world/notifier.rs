//! The two topics.

use super::Process;
use serin_controller::ports::{Notice, Notifier};

impl Notifier for Process {
    async fn publish(&self, notice: &Notice) -> Result<(), String> {
        let tell = |s: &mut super::State| {
            if s.told.iter().any(|told| told.id == notice.id) {
                s.exercise(6, "told again");
            }
            s.told.push(notice.clone());
            Ok(())
        };
        self.step("notifier.publish", notice.id.clone(), || "injected".to_owned(), tell).await
    }
}
