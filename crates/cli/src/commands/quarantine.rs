//! `serin clear-quarantine`: lets a configuration be rolled out again that was rolled back.

use crate::ask;
use crate::failure::{Code, Outcome};
use crate::site::{Place, Why};
use serde_json::json;
use serin_aws::WallClock;
use serin_controller::intervene::clear_quarantine;
use serin_controller::rehearse::Rehearsal;
use serin_core::rollout::FlowName;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The flow
    flow: FlowName,
    /// Its configuration hash, or the first 8 characters or more of it; not needed where there is but one
    #[arg(long, value_name = "HASH")]
    configuration: Option<String>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    why: Why,
}

pub(crate) async fn run(args: &Args, place: &Place) -> Outcome {
    let (flow, configuration) = (&args.flow, args.configuration.as_deref());
    let what = format!("A configuration of {flow} that was rolled back may be rolled out to callers again.");
    ask::confirm(args.yes || args.why.dry_run, &what)?;
    let site = place.connect().await?;
    let request = site.request(&args.why).await;
    if args.why.dry_run {
        let genesys = site.genesys();
        let rehearsal = Rehearsal::new(&site.ledger, &site.parameters, &genesys);
        clear_quarantine(&rehearsal, &WallClock, flow, configuration, &request).await?;
        return site.would(&rehearsal);
    }
    let cleared = clear_quarantine(&site.ledger, &WallClock, flow, configuration, &request).await?;
    site.output.tell("QuarantineCleared", &json!({"flow": flow, "configuration": cleared}), || {
        format!("{flow}: configuration {cleared} may be rolled out again")
    })?;
    Ok(Code::Done)
}
