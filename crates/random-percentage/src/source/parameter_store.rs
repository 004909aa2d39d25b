//! Parameter Store: where people put their hands.

use super::{Connection, ReadError, Source};
use crate::clock::Clock;
use serde::{Deserialize, Serialize};
use serin_core::cohort::Parameters;
use std::borrow::Cow;

/// The parameters of one stage, by GetParameters.
#[derive(Debug)]
pub struct ParameterStore<C> {
    connection: Connection<C>,
    stage: String,
}

impl<C: Clock> ParameterStore<C> {
    /// Of a stage.
    pub fn new(connection: Connection<C>, stage: String) -> ParameterStore<C> {
        ParameterStore { connection, stage }
    }
}

impl<C: Clock> Source for ParameterStore<C> {
    async fn read(&mut self, flow: &str) -> Result<Parameters, ReadError> {
        let asked = serde_json::to_vec(&Names::of(&self.stage, flow)).map_err(|e| ReadError::Failed(e.to_string()))?;
        let answer = self.connection.ask("AmazonSSM.GetParameters", "application/x-amz-json-1.1", asked).await?;
        read_get_parameters(&self.stage, flow, &answer)
    }
}

/// As GetParameters takes them.
#[derive(Serialize)]
struct Names {
    /// Of the percentage, the rollout, the halt marker and the heartbeat.
    #[serde(rename = "Names")]
    names: [String; 4],
}

impl Names {
    fn of(stage: &str, flow: &str) -> Names {
        let [percentage, rollout, halt] = ["percentage", "rollout", "halt"].map(|leaf| format!("/genesys/canary/{stage}/{flow}/{leaf}"));
        Names { names: [percentage, rollout, halt, format!("/genesys/canary/{stage}/heartbeat")] }
    }
}

#[derive(Deserialize)]
struct Answer<'a> {
    // No defaults: an answer that leaves something out must not pass for "it is not there", for a halt marker may be what it leaves out.
    #[serde(rename = "Parameters", borrow)]
    parameters: Vec<Parameter<'a>>,
    /// Names of what is not there.
    #[serde(rename = "InvalidParameters", borrow)]
    absent: Vec<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Parameter<'a> {
    #[serde(rename = "Name", borrow)]
    name: Cow<'a, str>,
    #[serde(rename = "Value", borrow)]
    value: Cow<'a, str>,
    #[serde(rename = "Version", default)]
    version: i64,
}

/// The parameters of a flow in an answer to GetParameters.
pub fn read_get_parameters(stage: &str, flow: &str, answer: &[u8]) -> Result<Parameters, ReadError> {
    let names = Names::of(stage, flow);
    let [percentage, rollout, halt, heartbeat] = &names.names;
    let answer: Answer<'_> = serde_json::from_slice(answer).map_err(|e| ReadError::Failed(format!("GetParameters answered: {e}")))?;
    let told = |name: &String| answer.absent.iter().any(|absent| absent == name) || answer.parameters.iter().any(|p| p.name == *name);
    if let Some(name) = names.names.iter().find(|name| !told(name)) {
        return Err(ReadError::Failed(format!("GetParameters answered nothing of {name}")));
    }
    let mut parameters = Parameters::default();
    for Parameter { name, value, version } in answer.parameters {
        let value = Some(value.into_owned());
        match name.as_ref() {
            name if name == percentage => (parameters.percentage, parameters.revision) = (value, version),
            name if name == rollout => parameters.rollout = value,
            name if name == halt => parameters.halt = value,
            name if name == heartbeat => parameters.heartbeat = value,
            _ => {}
        }
    }
    Ok(parameters)
}
