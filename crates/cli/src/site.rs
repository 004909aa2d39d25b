//! Where a command works: stage, account, region, organization.

use crate::contexts::{Context, Contexts};
use crate::failure::{Code, Failure, Outcome};
use crate::genesys;
use crate::output::{Output, note};
use crate::who;
use anyhow::anyhow;
use clap::Args;
use jiff::Timestamp;
use serde_json::json;
use serin_aws::{Config, DynamoLedger, ParameterStore, SnsNotifier};
use serin_controller::intervene::Request;
use serin_controller::outbox;
use serin_controller::ports::Ledger;
use serin_controller::rehearse::Rehearsal;
use std::str::FromStr;

/// The options that every command has.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Where, and how it is printed")]
pub(crate) struct Place {
    /// Context, as `serin context list` shows them
    #[arg(long, env = "SERIN_CONTEXT", global = true, value_name = "NAME")]
    context: Option<String>,
    /// Stage to work on (default: the context's, else prod)
    #[arg(long, env = "SERIN_STAGE", global = true)]
    stage: Option<String>,
    /// AWS profile (default: the context's, else as in the AWS CLI)
    #[arg(long, global = true)]
    profile: Option<String>,
    /// AWS region (default: the context's, else as in the AWS CLI)
    #[arg(long, global = true)]
    region: Option<String>,
    /// Ledger table (default: serin-STAGE-ledger)
    #[arg(long, env = "SERIN_LEDGER_TABLE", global = true)]
    table: Option<String>,
    /// Genesys Cloud's API, such as https://api.mypurecloud.com; what needs it says so
    #[arg(long, env = "GENESYS_API", global = true, value_name = "URL")]
    genesys_api: Option<String>,
    /// How to print
    #[arg(long, short, value_enum, default_value_t, global = true)]
    pub(crate) output: Output,
    /// Of the options above, those that the environment gave
    #[arg(skip)]
    pub(crate) from_environment: Vec<&'static str>,
    /// The rollout's time, RFC 3339 or `last-tick`; only on the stage `local`, whose clock is the events'
    #[arg(long, env = "SERIN_TIME", global = true, value_name = "TIME")]
    time: Option<Time>,
}

/// By which time a rollout runs, where it is not the wall clock's.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Time {
    At(Timestamp),
    /// That of the tick before.
    LastTick,
}

impl Time {
    async fn now(time: Option<Time>, ledger: &DynamoLedger) -> Result<Timestamp, Failure> {
        Ok(match time {
            None => Timestamp::now(),
            Some(Time::At(time)) => time,
            Some(Time::LastTick) => ledger.last_tick().await?.unwrap_or_else(Timestamp::now),
        })
    }
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Time, String> {
        match text {
            "last-tick" => Ok(Time::LastTick),
            text => text
                .parse()
                .map(Time::At)
                .map_err(|error| format!("{error}; a time such as 2026-12-24T16:00:00Z, or last-tick, is accepted")),
        }
    }
}

/// Who asks, and why.
#[derive(Debug, Clone, Args)]
pub(crate) struct Why {
    /// Why; recorded in the ledger
    #[arg(long)]
    pub(crate) reason: String,
    /// Who, besides the AWS identity that is recorded anyway; for tools that share one
    #[arg(long, env = "SERIN_BY", value_name = "NAME")]
    pub(crate) by: Option<String>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// An installation of Serin, as a command works on it.
pub(crate) struct Site {
    pub(crate) stage: String,
    pub(crate) context: Option<String>,
    pub(crate) aws: Config,
    pub(crate) ledger: DynamoLedger,
    pub(crate) parameters: ParameterStore,
    pub(crate) genesys_api: Option<String>,
    pub(crate) output: Output,
    time: Option<Time>,
    /// The clock that rollouts run by.
    pub(crate) now: Timestamp,
}

impl Place {
    /// What the command line says, to be kept as a context.
    pub(crate) fn said(&self) -> Context {
        let flag = |name: &str, value: &Option<String>| value.clone().filter(|_| !self.from_environment.contains(&name));
        Context {
            stage: flag("stage", &self.stage),
            profile: flag("profile", &self.profile),
            region: flag("region", &self.region),
            table: flag("table", &self.table),
            genesys_api: flag("genesys_api", &self.genesys_api),
        }
    }

    /// A flag goes before everything. Then a context that was named, then the environment, then the current context: whoever names one means
    /// it, and whoever sets a variable means it more than what was chosen some day.
    fn chosen(&self, set: Context) -> Context {
        let is_named = self.context.is_some();
        let one = |flag: Option<String>, environment: Option<String>, kept: Option<String>| match is_named {
            true => flag.or(kept).or(environment),
            false => flag.or(environment).or(kept),
        };
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let flags = self.said();
        let keys = variable("AWS_ACCESS_KEY_ID").filter(|_| !is_named);
        Context {
            stage: one(flags.stage, self.stage.clone(), set.stage),
            table: one(flags.table, self.table.clone(), set.table),
            genesys_api: one(flags.genesys_api, self.genesys_api.clone(), set.genesys_api),
            region: one(flags.region, variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION")), set.region),
            // Keys in the environment are an account too.
            profile: one(flags.profile, variable("AWS_PROFILE"), set.profile.filter(|_| keys.is_none())),
        }
    }

    /// Reads the context and the AWS configuration; nothing is contacted but what holds the credentials.
    pub(crate) async fn connect(&self) -> Result<Site, Failure> {
        let (context, set) = Contexts::read()?.chosen(self.context.as_deref())?;
        let Context { stage, profile, region, table, genesys_api } = self.chosen(set);
        let stage = stage.unwrap_or_else(|| "prod".to_owned());
        if self.time.is_some() && stage != "local" {
            return Err(Failure::not_accepted(anyhow!(
                "--time is not accepted on stage {stage}: only the stage `local` runs by the events' time"
            )));
        }
        let aws = serin_aws::load_with(profile.as_deref(), region.as_deref()).await;
        if aws.region().is_none() {
            return Err(Failure::not_accepted(anyhow!(
                "no AWS region is known: say --region, set AWS_REGION, or use a profile or a context (`serin context add`) that has one"
            )));
        }
        let table = table.unwrap_or_else(|| format!("serin-{stage}-ledger"));
        let ledger = DynamoLedger::new(&aws, table.clone());
        let now = Time::now(self.time, &ledger).await?;
        Ok(Site {
            parameters: ParameterStore::new(&aws, stage.clone(), table),
            genesys_api,
            time: self.time,
            output: self.output,
            stage,
            context,
            aws,
            ledger,
            now,
        })
    }
}

impl Site {
    /// Another look at the clock.
    pub(crate) async fn renew(&mut self) -> Result<(), Failure> {
        self.now = Time::now(self.time, &self.ledger).await?;
        Ok(())
    }

    /// Which installation this is, for whoever is asked whether they mean it.
    pub(crate) fn whereabouts(&self) -> String {
        let region = self.aws.region().map_or("no region", |region| region.as_ref());
        let context = self.context.as_ref().map_or_else(String::new, |context| format!("context {context}, "));
        format!("stage {} ({context}{region})", self.stage)
    }

    /// Genesys Cloud, as far as a command needs it.
    pub(crate) fn genesys(&self) -> genesys::Place<'_> {
        genesys::Place { aws: &self.aws, stage: &self.stage, api: self.genesys_api.as_deref() }
    }

    /// What a person asks for, with their AWS identity.
    pub(crate) async fn request(&self, why: &Why) -> Request {
        let by = who::asks(&self.aws, why.by.as_deref()).await;
        Request { by, reason: why.reason.clone(), now: self.now, stage: self.stage.clone(), holder: None }
    }

    /// Says what would have been done.
    pub(crate) fn would<L, P, R>(&self, rehearsal: &Rehearsal<'_, L, P, R>) -> Outcome {
        let would = rehearsal.would();
        self.output.tell("DryRun", &json!({"would": would}), || match would.is_empty() {
            true => "nothing would be changed".to_owned(),
            false => format!("{}\nnothing was changed", would.join("\n")),
        })?;
        Ok(Code::Done)
    }

    /// Publishes what was recorded, and wakes the executor. What cannot be published from here is at the next tick.
    pub(crate) async fn publish(&self) {
        match SnsNotifier::of_stage(&self.aws, &self.stage).await {
            Ok(notifier) => drop(outbox::send_few(&self.ledger, &notifier).await),
            Err(reason) => note(&format!("note: alerts and the executor's wake-up go out with the next tick, within a minute: {reason}")),
        }
    }
}
