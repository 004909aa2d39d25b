//! `serin gate`: may a flow be deployed now?

use crate::failure::{Code, Outcome};
use crate::site::Place;
use serde_json::json;
use serin_aws::WallClock;
use serin_controller::intervene::gate;
use serin_core::rollout::FlowName;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The flow
    flow: FlowName,
}

pub(crate) async fn run(args: &Args, place: &Place) -> Outcome {
    let site = place.connect().await?;
    let answer = gate(&site.ledger, &WallClock, &args.flow, site.now).await?;
    let code = Code::of_gate(answer.exit_code());
    let said = json!({"flow": args.flow, "open": code == Code::Done, "code": code as u8, "answer": answer.to_string()});
    site.output.tell("Gate", &said, || format!("{}: {answer}", args.flow))?;
    Ok(code)
}
