//! What leads numbers to flows: IVR configurations and emergency groups.

use super::{Process, State};
use serin_controller::ports::{Entrances, FlowError};

fn later() -> FlowError {
    FlowError::TryLater("injected".into())
}

fn gone(what: &str) -> FlowError {
    FlowError::Gone(format!("{what} is not there"))
}

impl Entrances for Process {
    async fn open_hours(&self, ivr: &str) -> Result<Option<String>, FlowError> {
        let look = |s: &mut State| s.ivrs.get(ivr).cloned().map(Some).ok_or_else(|| gone(ivr));
        self.step("entrances.open_hours", ivr, later, look).await
    }

    async fn lead(&self, ivr: &str, from: &str, to: &str) -> Result<bool, FlowError> {
        let lead = |s: &mut State| match s.ivrs.get_mut(ivr) {
            Some(flow) if flow == from || flow == to => {
                *flow = to.to_owned();
                Ok(true)
            }
            Some(_) => Ok(false),
            None => Err(gone(ivr)),
        };
        self.step("entrances.lead", format!("{ivr} {to}"), later, lead).await
    }

    async fn emergency(&self, group: &str) -> Result<bool, FlowError> {
        let look = |s: &mut State| s.emergencies.get(group).copied().ok_or_else(|| gone(group));
        self.step("entrances.emergency", group, later, look).await
    }

    async fn declare_emergency(&self, group: &str) -> Result<(), FlowError> {
        let declare = |s: &mut State| s.emergencies.get_mut(group).map(|declared| *declared = true).ok_or_else(|| gone(group));
        self.step("entrances.declare_emergency", group, later, declare).await
    }
}
