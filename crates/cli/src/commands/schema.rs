//! `serin schema`: the JSON Schema of the rollout file.

use crate::failure::{Code, Outcome};
use crate::file::SCHEMA;
use crate::output::{Output, print};

pub(crate) fn run(output: Output) -> Outcome {
    print(&match output {
        Output::Yaml => serde_saphyr::to_string(&serde_json::from_str::<serde_json::Value>(SCHEMA)?)?,
        Output::Table | Output::Json => SCHEMA.to_owned(),
    })?;
    Ok(Code::Done)
}
