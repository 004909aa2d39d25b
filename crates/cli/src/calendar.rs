//! Maintenance windows, freezes, and the stop of everything.

use crate::{Hands, Why};
use anyhow::{Context, anyhow};
use clap::{ArgGroup, Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use serin_controller::intervene::{STOP, lift, stop_all};
use serin_controller::ports::Ledger;
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
    #[arg(long = "for", value_name = "LENGTH")]
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

impl Hands<'_> {
    /// Sets a maintenance window or a freeze.
    pub(crate) async fn restrict(&self, kind: Kind, period: Period) -> anyhow::Result<()> {
        let when = period.when(self.now)?;
        let id = format!("{}-{}", kind.name(), self.now.as_millisecond());
        let restriction = Restriction { id, kind, flow: period.flow, when, reason: period.why.reason, by: period.why.by, ended: None };
        self.ledger.restrict(&restriction).await?;
        println!("{restriction}\n`serin maintenance end {} --reason …` ends it before its time", restriction.id);
        Ok(())
    }

    pub(crate) async fn maintenance(&self, what: Maintenance, json: bool) -> anyhow::Result<()> {
        match what {
            Maintenance::Add { period, contain } => self.restrict(Kind::Maintenance { contain }, period).await,
            Maintenance::List => self.list_restrictions(json).await,
            Maintenance::End { id, why } => self.lift(&id, why).await,
        }
    }

    async fn list_restrictions(&self, json: bool) -> anyhow::Result<()> {
        let mut set = self.ledger.restrictions().await?;
        set.retain(|one| !one.when.is_over(self.now));
        if json {
            return crate::print(&serde_json::to_string_pretty(&set)?);
        }
        let line = |one: &Restriction| format!("{} {one}", if one.when.covers(self.now) { "now  " } else { "later" });
        match set.is_empty() {
            true => crate::print("no maintenance window, no freeze, no stop"),
            false => crate::print(&set.iter().map(line).collect::<Vec<_>>().join("\n")),
        }
    }

    async fn lift(&self, id: &str, why: Why) -> anyhow::Result<()> {
        let ended = lift(self.ledger, id, &self.request(why)).await?;
        ended.with_context(|| format!("there is no {id}; `serin maintenance list` shows what is set"))?;
        println!("{id} has ended");
        Ok(())
    }

    /// Stops everything, or ends the stop.
    pub(crate) async fn stop_all(&self, end: bool, why: Why) -> anyhow::Result<()> {
        if end {
            return self.lift(STOP, why).await;
        }
        let done = stop_all(self.ledger, self.parameters, self.genesys, &serin_aws::WallClock, &self.request(why)).await?;
        println!("nothing starts or rises until `serin stop-all --end --reason …`");
        self.tell().await;
        let mut undone = 0;
        for (flow, stopped) in &done {
            match stopped {
                Ok(rollout) => println!("{flow}: rollout {} stands at {}", rollout.id, rollout.phase),
                Err(error) => {
                    undone += 1;
                    eprintln!("{flow}: {error}");
                }
            }
        }
        match undone {
            0 => Ok(()),
            _ => Err(anyhow!(
                "{undone} of {} rollouts were not taken back: ask again, or set their percentage to 0 by hand (`serin rollback` where one flow gets its next version)",
                done.len()
            )),
        }
    }
}
