//! A person's hand on a rollout: pause, resume, approve, abort, roll back, clear, and all calls to one side.

use crate::ask;
use crate::failure::{Code, Outcome};
use crate::site::{Place, Site, Why};
use clap::{Args, ValueEnum};
use serde_json::json;
use serin_aws::WallClock;
use serin_controller::intervene::{Action, intervene};
use serin_controller::rehearse::Rehearsal;
use serin_core::rollout::{FlowName, Rollout};

/// On what.
#[derive(Debug, Args)]
pub(crate) struct On {
    /// The flow
    pub(crate) flow: FlowName,
    #[command(flatten)]
    pub(crate) why: Why,
}

/// Where calls go.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Side {
    /// To the canary flow
    Canary,
    /// To the stable flow
    Stable,
}

#[derive(Debug, Args)]
pub(crate) struct Intervention {
    #[command(flatten)]
    on: On,
    /// Which side. `stable` ends the rollout, as `serin abort` does; `canary` lets it go on with all calls, at the next tick
    #[arg(long, value_enum)]
    to: Side,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Hastened {
    #[command(flatten)]
    on: On,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// On, without waiting for more evidence.
pub(crate) async fn hasten(asked: &Hastened, action: Action, place: &Place) -> Outcome {
    let to = if action == Action::Promote { "100 %" } else { "the next step" };
    let what = format!("{} goes on to {to} at the next tick, before the evidence that its policy asks for is there.", asked.on.flow);
    ask::confirm(asked.yes || asked.on.why.dry_run, &what)?;
    run(&asked.on, action, place).await
}

/// All calls to one side.
pub(crate) async fn to_one_side(asked: &Intervention, place: &Place) -> Outcome {
    match asked.to {
        Side::Stable => run(&asked.on, Action::Abort, place).await,
        Side::Canary => {
            let flow = &asked.on.flow;
            let what = format!("All calls of {flow} go to the canary, and nothing takes them back by itself while they do.");
            ask::confirm(asked.yes || asked.on.why.dry_run, &what)?;
            run(&asked.on, Action::ToCanary, place).await
        }
    }
}

/// Does it, and says where the rollout stands then.
pub(crate) async fn run(on: &On, action: Action, place: &Place) -> Outcome {
    let site = place.connect().await?;
    let request = site.request(&on.why).await;
    let genesys = site.genesys();
    if on.why.dry_run {
        let rehearsal = Rehearsal::new(&site.ledger, &site.parameters, &genesys);
        intervene(&rehearsal, &rehearsal, &rehearsal, &WallClock, &on.flow, action, &request).await?;
        return site.would(&rehearsal);
    }
    let rollout = intervene(&site.ledger, &site.parameters, &genesys, &WallClock, &on.flow, action, &request).await?;
    told(&site, &rollout).await
}

/// What stands after a person's hand.
pub(crate) async fn told(site: &Site, rollout: &Rollout) -> Outcome {
    site.publish().await;
    let flow = &rollout.plan.flow;
    let stands = json!({"flow": flow, "rollout": rollout.id, "phase": rollout.phase.name(), "weight": rollout.desired_weight()});
    site.output.tell("Rollout", &stands, || format!("{flow}: rollout {} stands at {}", rollout.id, rollout.phase))?;
    Ok(Code::Done)
}
