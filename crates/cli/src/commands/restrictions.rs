//! Maintenance windows, freezes, and the stop of everything.

use crate::ask;
use crate::failure::{Code, Failure, Outcome};
use crate::output::Items;
use crate::site::{Place, Site, Why};
use anyhow::{Context, anyhow};
use clap::{ArgGroup, Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::json;
use serin_aws::WallClock;
use serin_controller::intervene::{STOP, lift, stop_all as stop_all_of};
use serin_controller::ports::Ledger;
use serin_controller::rehearse::Rehearsal;
use serin_core::calendar::{Kind, Restriction, WeekTime, When};
use serin_core::rollout::FlowName;

/// What can be done about maintenance windows.
#[derive(Subcommand)]
pub(crate) enum Maintenance {
    /// Set a window in which errors are expected: nothing starts or rises, and Serin rolls nothing back by itself
    ///
    /// A rollback that would have happened is recorded and told. `serin rollback`, `serin abort` and the percentage set by hand work as ever, and
    /// so does what happens when nobody can watch.
    Add {
        #[command(flatten)]
        period: Period,
        /// Pause with all calls on stable what would have been rolled back
        #[arg(long)]
        contain: bool,
        /// Do not ask, where no flow is named
        #[arg(long, short)]
        yes: bool,
    },
    /// What is set: maintenance windows, freezes and the stop
    List,
    /// End one before its time
    End {
        /// Its id, as `list` shows it
        id: String,
        #[command(flatten)]
        why: Why,
    },
}

/// For which flows, and when.
#[derive(Args)]
#[command(group(ArgGroup::new("when").required(true).args(["until", "lasting", "every"])))]
pub(crate) struct Period {
    /// One flow; without it, all of them
    flow: Option<FlowName>,
    /// Begin, RFC 3339 such as 2026-12-24T16:00:00+01:00 (default: now)
    #[arg(long, conflicts_with = "every")]
    from: Option<Timestamp>,
    /// End, RFC 3339
    #[arg(long)]
    until: Option<Timestamp>,
    /// Length instead of an end, such as 2h or 90m
    #[arg(long = "for", value_name = "LENGTH", value_parser = length)]
    lasting: Option<SignedDuration>,
    /// Every week, such as "Fri 16:00 - Mon 08:00"
    #[arg(long, value_name = "WEEKLY", value_parser = weekly, requires = "zone")]
    every: Option<(WeekTime, WeekTime)>,
    /// IANA time zone that --every goes by, such as Europe/Berlin
    #[arg(long, requires = "every")]
    zone: Option<String>,
    #[command(flatten)]
    why: Why,
}

/// How far back something may begin: what is older is part of what the judge keeps.
const LATE: SignedDuration = SignedDuration::from_mins(15);

/// A length of time, as people write it.
pub(crate) fn length(text: &str) -> Result<SignedDuration, String> {
    let accepted = "one such as 10m, 2h or 90m is accepted";
    let length: SignedDuration = text.parse().map_err(|_| accepted.to_owned())?;
    if length <= SignedDuration::ZERO { Err(accepted.to_owned()) } else { Ok(length) }
}

fn weekly(text: &str) -> Result<(WeekTime, WeekTime), String> {
    let (from, until) = text.split_once('-').ok_or_else(|| format!("`{text}` is not accepted: one such as `Fri 16:00 - Mon 08:00` is"))?;
    Ok((from.parse()?, until.parse()?))
}

impl Period {
    fn when(&self, now: Timestamp) -> anyhow::Result<When> {
        let from = self.from.unwrap_or(now);
        let when = match (self.until, self.lasting, self.every, &self.zone) {
            (Some(until), ..) => When::Once { from, until: Some(until) },
            (_, Some(lasting), ..) => When::Once { from, until: Some(from.checked_add(lasting).context("--for is too long")?) },
            (.., Some((from, until)), Some(zone)) => When::Weekly { from, until, zone: zone.clone() },
            _ => return Err(anyhow!("when is not said: --until, --for or --every with --zone")),
        };
        when.check().map_err(|reason| anyhow!("{reason}; nothing was set"))?;
        if self.from.is_some_and(|from| now.duration_since(from) > LATE) {
            return Err(anyhow!("--from lies more than 15 minutes back: what was measured before is judged already; nothing was set"));
        }
        match when.is_over(now) {
            true => Err(anyhow!("it would be over already ({when}); nothing was set")),
            false => Ok(when),
        }
    }
}

/// What can be done about maintenance windows.
pub(crate) async fn maintenance(what: Maintenance, place: &Place) -> Outcome {
    match what {
        Maintenance::Add { period, contain, yes } => {
            if period.flow.is_none() {
                let what = "Serin rolls nothing back by itself meanwhile, whatever flow it is of: no flow was named.";
                ask::confirm(yes || period.why.dry_run, what)?;
            }
            restrict(Kind::Maintenance { contain }, period, place).await
        }
        Maintenance::List => list(&place.connect().await?).await,
        Maintenance::End { id, why } => end(&place.connect().await?, &id, &why).await,
    }
}

/// Sets a maintenance window or a freeze.
pub(crate) async fn restrict(kind: Kind, period: Period, place: &Place) -> Outcome {
    let site = place.connect().await?;
    let when = period.when(site.now).map_err(Failure::refused)?;
    let by = site.request(&period.why).await.by;
    // By the wall clock: two of one tick are two.
    let id = format!("{}-{}", kind.name(), Timestamp::now().as_millisecond());
    let restriction = Restriction { id, kind, flow: period.flow, when, reason: period.why.reason, by, ended: None };
    if period.why.dry_run {
        let genesys = site.genesys();
        let rehearsal = Rehearsal::new(&site.ledger, &site.parameters, &genesys);
        rehearsal.restrict(&restriction).await?;
        return site.would(&rehearsal);
    }
    site.ledger.restrict(&restriction).await?;
    site.output.tell("Restriction", &json!({"restriction": restriction}), || {
        format!("{restriction}\n`serin maintenance end {} --reason …` ends it before its time", restriction.id)
    })?;
    Ok(Code::Done)
}

async fn list(site: &Site) -> Outcome {
    let mut set = site.ledger.restrictions().await?;
    set.retain(|one| !one.when.is_over(site.now));
    let line = |one: &Restriction| format!("{} {one}", if one.when.covers(site.now) { "now  " } else { "later" });
    let set = Items { items: set };
    site.output.tell("RestrictionList", &set, || match set.items.is_empty() {
        true => "no maintenance window, no freeze, no stop".to_owned(),
        false => set.items.iter().map(line).collect::<Vec<_>>().join("\n"),
    })?;
    Ok(Code::Done)
}

async fn end(site: &Site, id: &str, why: &Why) -> Outcome {
    let missing = || Failure::refused(anyhow!("there is no {id}; `serin maintenance list` shows what is set"));
    if why.dry_run {
        let genesys = site.genesys();
        let rehearsal = Rehearsal::new(&site.ledger, &site.parameters, &genesys);
        lift(&rehearsal, id, &site.request(why).await).await?.ok_or_else(missing)?;
        return site.would(&rehearsal);
    }
    let ended = lift(&site.ledger, id, &site.request(why).await).await?.ok_or_else(missing)?;
    site.output.tell("Restriction", &json!({"restriction": ended}), || format!("{id} has ended"))?;
    Ok(Code::Done)
}

#[derive(Args)]
pub(crate) struct StopAll {
    /// End the stop
    #[arg(long)]
    end: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    why: Why,
}

/// What became of one rollout.
#[derive(Serialize)]
struct Stopped {
    flow: FlowName,
    rollout: Option<String>,
    phase: Option<String>,
    /// Why it was not taken back.
    error: Option<String>,
}

/// Stops everything, or ends the stop.
pub(crate) async fn stop_all(asked: &StopAll, place: &Place) -> Outcome {
    let site = place.connect().await?;
    if asked.end {
        return end(&site, STOP, &asked.why).await;
    }
    let what = format!(
        "Every rollout of {} ends: all its calls go to stable, and nothing starts or rises until the stop is ended.",
        site.whereabouts()
    );
    ask::confirm(asked.yes || asked.why.dry_run, &what)?;
    let genesys = site.genesys();
    if asked.why.dry_run {
        let rehearsal = Rehearsal::new(&site.ledger, &site.parameters, &genesys);
        stop_all_of(&rehearsal, &rehearsal, &rehearsal, &WallClock, &site.request(&asked.why).await).await?;
        return site.would(&rehearsal);
    }
    let done = stop_all_of(&site.ledger, &site.parameters, &genesys, &WallClock, &site.request(&asked.why).await).await?;
    site.publish().await;
    let items = done.into_iter().map(|(flow, stopped)| match stopped {
        Ok(rollout) => Stopped { flow, rollout: Some(rollout.id), phase: Some(rollout.phase.to_string()), error: None },
        Err(error) => Stopped { flow, rollout: None, phase: None, error: Some(error.to_string()) },
    });
    let stopped = Items { items: items.collect() };
    site.output.tell("StopAll", &stopped, || {
        let said = "nothing starts or rises until `serin stop-all --end --reason …`".to_owned();
        stopped.items.iter().fold(said, |said, Stopped { flow, rollout, phase, error }| match error {
            Some(error) => format!("{said}\n{flow}: NOT TAKEN BACK: {error}"),
            None => format!("{said}\n{flow}: rollout {} stands at {}", rollout.as_deref().unwrap_or("-"), phase.as_deref().unwrap_or("-")),
        })
    })?;
    let undone = stopped.items.iter().filter(|one| one.error.is_some()).count();
    if undone > 0 {
        let error = anyhow!(
            "{undone} of {} rollouts were not taken back: ask again, or set their percentage to 0 by hand (`serin rollback` where one flow gets its next version)",
            stopped.items.len()
        );
        return Err(error.into());
    }
    Ok(Code::Done)
}
