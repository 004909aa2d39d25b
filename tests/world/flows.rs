//! Genesys Cloud's flows: versions with configurations, locks, and publishing that takes a few looks.

use super::{Process, State};
use serin_controller::ports::{FlowError, FlowState, Flows, Operation, PublicationError};
use std::collections::BTreeMap;

/// One flow.
#[derive(Debug, Clone)]
pub struct FlowInGenesys {
    /// Its name.
    pub name: String,
    /// Configuration hash by version.
    pub versions: BTreeMap<String, String>,
    /// Versions as they were published, oldest first.
    pub published: Vec<String>,
    /// Who holds its lock.
    pub locked_by: Option<String>,
    /// Looks that a publish takes.
    pub publish_takes: u32,
    /// Publishes that will fail.
    pub publish_fails: u32,
    /// Who published last, if it was not Serin.
    pub published_by: Option<String>,
    operation: Option<Operating>,
    operations: u32,
}

#[derive(Debug, Clone)]
struct Operating {
    id: String,
    target: String,
    looks_left: u32,
    failure: Option<String>,
}

impl FlowInGenesys {
    pub(super) fn new(name: &str, versions: &[(&str, &str)], published: &str) -> FlowInGenesys {
        FlowInGenesys {
            name: name.to_owned(),
            versions: versions.iter().map(|(version, hash)| ((*version).to_owned(), (*hash).to_owned())).collect(),
            published: vec![published.to_owned()],
            locked_by: None,
            publish_takes: 2,
            publish_fails: 0,
            published_by: None,
            operation: None,
            operations: 0,
        }
    }

    /// The version that runs.
    pub fn runs(&self) -> &str {
        self.published.last().expect("every flow here is published")
    }

    /// The configuration that runs.
    pub fn configuration(&self) -> &str {
        &self.versions[self.runs()]
    }

    /// A person publishes a version in Architect, if it is there.
    pub fn publish_by_hand(&mut self, version: &str, by: &str) {
        if !self.versions.contains_key(version) {
            return;
        }
        self.published.push(version.to_owned());
        self.published_by = Some(by.to_owned());
    }

    /// A person deletes a version, unless it runs or is being published.
    pub fn delete(&mut self, version: &str) -> bool {
        let is_needed = self.runs() == version || self.operation.as_ref().is_some_and(|o| o.looks_left > 0 && o.target == version);
        !is_needed && self.versions.remove(version).is_some()
    }

    fn next_version(&self) -> String {
        let highest = self.versions.keys().filter_map(|v| v.split('.').next()?.parse::<u32>().ok()).max().unwrap_or(0);
        format!("{}.0", highest + 1)
    }

    fn look(&mut self) -> FlowState {
        if let Some(running) = self.operation.as_mut().filter(|o| o.looks_left > 0) {
            running.looks_left -= 1;
            if running.looks_left == 0 && running.failure.is_none() {
                self.published.push(running.target.clone());
                self.published_by = None;
            }
        }
        FlowState {
            name: self.name.clone(),
            published: self.published.last().cloned(),
            published_by: self.published_by.clone(),
            locked_by: self.locked_by.clone(),
            operation: self.operation.as_ref().map(|o| Operation {
                id: o.id.clone(),
                running: o.looks_left > 0,
                failure: o.failure.clone().filter(|_| o.looks_left == 0),
            }),
        }
    }

    fn publish(&mut self, flow: &str, version: &str) -> Result<String, FlowError> {
        if !self.versions.contains_key(version) {
            return Err(FlowError::Gone(format!("flow {flow} has no version {version}")));
        }
        if let Some(holder) = &self.locked_by {
            return Err(FlowError::Locked { flow: flow.to_owned(), holder: holder.clone() });
        }
        if self.operation.as_ref().is_some_and(|o| o.looks_left > 0) {
            return Err(FlowError::TryLater(format!("an operation runs on {flow}")));
        }
        self.operations += 1;
        let fails = self.publish_fails > 0;
        self.publish_fails = self.publish_fails.saturating_sub(1);
        let id = format!("{flow}-operation-{}", self.operations);
        self.operation = Some(Operating {
            id: id.clone(),
            target: version.to_owned(),
            looks_left: self.publish_takes.max(1),
            failure: fails.then(|| "validation failed".to_owned()),
        });
        Ok(id)
    }
}

fn later() -> FlowError {
    FlowError::TryLater("injected".into())
}

impl State {
    fn genesys(&mut self, flow: &str) -> Result<&mut FlowInGenesys, FlowError> {
        self.flows.get_mut(flow).ok_or_else(|| FlowError::Gone(format!("flow {flow} is not there")))
    }

    /// The configuration in a file that is the flow's.
    fn check_file(&mut self, flow: &str, file: &str) -> Result<String, FlowError> {
        let target = self.genesys(flow)?;
        let (name, configuration) = file.split_once(' ').unwrap_or((file, ""));
        match name == target.name {
            true => Ok(configuration.to_owned()),
            false => Err(FlowError::Refused(format!("the file is of flow `{name}`, and flow {flow} is `{}`", target.name))),
        }
    }

    fn publish_file(&mut self, flow: &str, file: &str) -> Result<(), FlowError> {
        let configuration = self.check_file(flow, file)?;
        let target = self.genesys(flow)?;
        let version = target.next_version();
        target.versions.insert(version.clone(), configuration);
        if let Err(error) = target.publish(flow, &version) {
            target.versions.remove(&version);
            return Err(error);
        }
        if target.operation.as_ref().is_some_and(|o| o.failure.is_some()) {
            target.versions.remove(&version);
            target.operation = None;
            return Err(FlowError::Refused("the job failed: task 2 is empty".into()));
        }
        Ok(())
    }
}

impl Flows for Process {
    async fn flow(&self, flow: &str) -> Result<FlowState, FlowError> {
        let look = |s: &mut State| {
            let state = s.genesys(flow)?.look();
            if state.locked_by.is_some() {
                s.exercise(0, "flow locked");
            }
            if state.operation.as_ref().is_some_and(|operation| operation.failure.is_some()) {
                s.exercise(0, "publish failed");
            }
            Ok(state)
        };
        self.step("flows.flow", flow, later, look).await
    }

    async fn published_versions(&self, flow: &str) -> Result<Vec<String>, FlowError> {
        let list = |s: &mut State| Ok(s.genesys(flow)?.published.iter().rev().cloned().collect());
        self.step("flows.published_versions", flow, later, list).await
    }

    async fn export(&self, flow: &str, version: &str) -> Result<String, FlowError> {
        let export = |s: &mut State| {
            let gone = || FlowError::Gone(format!("flow {flow} has no version {version}"));
            s.genesys(flow)?.versions.get(version).map(|configuration| format!("export of {configuration}")).ok_or_else(gone)
        };
        self.step("flows.export", format!("{flow} {version}"), later, export).await
    }

    async fn configuration_hash(&self, flow: &str, version: &str) -> Result<String, FlowError> {
        let look = |s: &mut State| {
            let gone = || FlowError::Gone(format!("flow {flow} has no version {version}"));
            let found = s.genesys(flow)?.versions.get(version).cloned();
            if found.is_none() {
                s.exercise(0, "version gone");
            }
            found.ok_or_else(gone)
        };
        self.step("flows.configuration_hash", format!("{flow} {version}"), later, look).await
    }

    async fn publish(&self, flow: &str, version: &str) -> Result<String, FlowError> {
        let publish = |s: &mut State| {
            // What was on its way when its sender was held up arrives nevertheless: the vendor knows no fence.
            if !self.held_up.get() {
                s.law_of_single_flight(flow);
            }
            if !s.genesys(flow)?.versions.contains_key(version) {
                s.exercise(0, "version gone");
                return Err(FlowError::Gone(format!("flow {flow} has no version {version}")));
            }
            s.genesys(flow)?.publish(flow, version)
        };
        self.step("flows.publish", format!("{flow} {version}"), later, publish).await
    }

    async fn copy(&self, from: &str, to: &str) -> Result<(), FlowError> {
        let copy = |s: &mut State| {
            let configuration = s.genesys(from)?.configuration().to_owned();
            let target = s.genesys(to)?;
            let version = target.next_version();
            target.versions.insert(version.clone(), configuration);
            if let Err(error) = target.publish(to, &version) {
                target.versions.remove(&version);
                return Err(error);
            }
            match target.publish_takes {
                0 => {
                    target.look();
                    Ok(())
                }
                _ => Err(FlowError::TryLater(format!("flow {to} is still being published"))),
            }
        };
        self.step("flows.copy", format!("{from} {to}"), later, copy).await
    }

    async fn check_file(&self, flow: &str, file: &str) -> Result<(), FlowError> {
        self.step("flows.check_file", format!("{flow} {file}"), later, |s| s.check_file(flow, file).map(drop)).await
    }

    /// A file here is a name and a configuration, such as `Canary better`.
    async fn publish_file(&self, flow: &str, file: &str) -> Result<(), PublicationError> {
        let publish = |s: &mut State| {
            s.law_of_deployment(flow);
            if let Some(flow) = s.published_elsewhere.clone() {
                return Err(PublicationError::Elsewhere { flow });
            }
            s.publish_file(flow, file).map_err(PublicationError::NotPublished)
        };
        // Nobody knows whether it arrived.
        let unseen = || PublicationError::Unseen("injected".into());
        self.step("flows.publish_file", format!("{flow} {file}"), unseen, publish).await
    }
}
