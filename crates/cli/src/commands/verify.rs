//! `serin ledger verify`: is a ledger what it was?

use crate::failure::{Code, Outcome};
use crate::file;
use crate::output::Output;
use anyhow::{Context, anyhow};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serin_controller::ports::Ledger;
use serin_core::ledger::{Anchor, Audited, BrokenLedger, Hash, audit};
use serin_core::rollout::FlowName;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The flow
    #[arg(required_unless_present = "file")]
    flow: Option<FlowName>,
    /// What an entry's hash was: a file with an alert as it was sent, or REVISION:HASH of one
    ///
    /// Whoever can write the table can make a whole chain anew, head included, and it holds. It cannot have the hash that an alert
    /// told before.
    #[arg(long, value_name = "ALERT.json|REVISION:HASH")]
    anchor: Option<String>,
    /// Check a file of `serin ledger export` instead; nothing is contacted
    #[arg(long, value_name = "EXPORT")]
    pub(crate) file: Option<PathBuf>,
}

/// What was checked, and what it is.
#[derive(Serialize)]
struct Checked {
    flow: FlowName,
    intact: bool,
    /// Which entry does not hold, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<String>,
    entries: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    holds: Option<Holds>,
    /// What was checked against.
    anchor: Option<Anchor>,
    /// A copy has no head.
    copy: bool,
}

#[derive(Serialize)]
struct Holds {
    rollouts: usize,
    first: u64,
    revision: u64,
    head_hash: Hash,
}

impl Holds {
    fn of(audited: &Audited) -> Holds {
        let (revision, head_hash) = audited.end();
        let first = audited.entries().next().map_or(0, |first| first.entry.revision);
        Holds { rollouts: audited.rollouts.len(), first, revision, head_hash }
    }
}

/// Checks a flow's ledger in the table.
pub(crate) async fn table(ledger: &impl Ledger, args: Args, output: Output) -> Outcome {
    let flow = args.flow.context("a flow or a file is named")?;
    let anchor = args.anchor.map(|text| anchor(&text, &flow)).transpose()?;
    let archive = ledger.archive(&flow).await?;
    if archive.entries.is_empty() && archive.head.as_ref().is_none_or(|head| head.revision == 0) && anchor.is_none() {
        let reason = anyhow!("flow {flow} has no ledger here: nothing was ever recorded, or everything was removed");
        return Err(reason.into());
    }
    tell(flow.clone(), archive.entries.len(), archive.audit(&flow, anchor.as_ref()), anchor, false, output)
}

/// Checks a copy.
pub(crate) fn copy(args: &Args, output: Output) -> Outcome {
    let path = args.file.as_deref().context("a copy is a file")?;
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("export {shown} cannot be read"))?;
    let mut lines = text.lines().filter(|line| !line.trim().is_empty()).peekable();
    /// What tells whose copy it is, and from where.
    #[derive(Deserialize)]
    struct First {
        flow: FlowName,
        revision: u64,
    }
    let first = lines.peek().and_then(|line| serde_json::from_str(line).ok());
    let First { flow, revision } =
        first.ok_or_else(|| anyhow!("{shown} does not begin with a ledger entry; write it with `serin ledger export FLOW`"))?;
    if let Some(asked) = args.flow.as_ref().filter(|asked| **asked != flow) {
        return Err(anyhow!("{shown} is a copy of the ledger of flow {flow}, not of {asked}").into());
    }
    let anchor = args.anchor.as_ref().map(|text| anchor(text, &flow)).transpose()?;
    if let Some(anchor) = anchor.as_ref().filter(|anchor| anchor.revision < revision) {
        return Err(anyhow!(
            "the anchor names entry {}, {shown} begins at {revision}; `serin ledger export --all` has them all",
            anchor.revision
        )
        .into());
    }
    let measured = |line: &&str| serde_json::from_str::<Value>(line).is_ok_and(|line| line.get("window").is_some());
    let entries: Vec<(u64, String)> = (revision..).zip(lines.filter(|line| !measured(line)).map(str::to_owned)).collect();
    tell(flow.clone(), entries.len(), audit(&flow, &entries, anchor.as_ref()), anchor, true, output)
}

fn tell(
    flow: FlowName,
    entries: usize,
    audited: Result<Audited, BrokenLedger>,
    anchor: Option<Anchor>,
    copy: bool,
    output: Output,
) -> Outcome {
    // It may well be sound: this code cannot read it.
    if let Err(newer @ BrokenLedger::Newer { .. }) = audited {
        return Err(newer.into());
    }
    let broken = audited.as_ref().err().map(ToString::to_string);
    let holds = audited.ok().as_ref().map(Holds::of);
    let checked = Checked { flow, intact: holds.is_some(), broken, entries, holds, anchor, copy };
    output.tell("Checked", &checked, || checked.in_words())?;
    Ok(if checked.intact { Code::Done } else { Code::No })
}

impl Checked {
    fn in_words(&self) -> String {
        let Checked { flow, entries, .. } = self;
        let Some(Holds { rollouts, first, revision, head_hash }) = &self.holds else {
            return format!("{flow}: NOT INTACT: {}\n{entries} entries were looked at", self.broken.as_deref().unwrap_or_default());
        };
        let to = if self.copy { "to the copy's end (a copy has no head: more may have followed)" } else { "to the head" };
        let anchored = match &self.anchor {
            Some(anchor) => format!("entry {} is the one of the anchor: up to there nothing was rewritten", anchor.revision),
            None => {
                "no anchor: a chain that was made anew as a whole would look the same. Every alert is one: --anchor ALERT.json".to_owned()
            }
        };
        format!(
            "{flow}: intact: {entries} entries ({first} to {revision}) of {rollouts} rollouts, chained {to}, each rollout replayed\n\
             head {head_hash}\n{anchored}"
        )
    }
}

/// Reads what an entry's hash was.
fn anchor(text: &str, flow: &FlowName) -> anyhow::Result<Anchor> {
    let written = text.split_once(':').and_then(|(revision, hash)| {
        let is_hash = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        let hash = is_hash.then(|| Hash::from_stored(hash.to_ascii_lowercase()))?;
        Some(Anchor { revision: revision.parse().ok()?, hash })
    });
    if let Some(anchor) = written {
        return Ok(anchor);
    }
    /// What an alert has of it.
    #[derive(Deserialize)]
    struct Alert {
        flow_id: String,
        #[serde(flatten)]
        anchor: Anchor,
    }
    let accepted = "REVISION:HASH (64 hexadecimal digits), or a file with an alert as it was sent, is accepted";
    let alert = file::text(Path::new(text), "anchor").with_context(|| accepted.to_owned())?;
    let Alert { flow_id, anchor } = serde_json::from_str(&alert).map_err(|e| anyhow!("anchor {text}: {e}; {accepted}"))?;
    if flow_id != flow.as_str() {
        return Err(anyhow!("anchor {text} is of flow {flow_id}, and says nothing about {flow}"));
    }
    Ok(anchor)
}
