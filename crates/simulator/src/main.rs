//! Serves a simulated Genesys Cloud organization until it is told to stop.

use anyhow::Context;
use clap::Parser;
use serin_simulator::{Organization, Settings, serve};
use std::io::Write;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// A Genesys Cloud organization and its callers over HTTP, with a virtual clock and faults.
///
/// Genesys API and login share the address: POST /oauth/token (any client), /api/v2/...
/// Control, JSON, under /_simulator/: GET clock, POST reset, POST versions, POST arrivals, POST advance, POST call,
/// POST and DELETE faults, POST script, POST by_hand, GET requests, GET meter, POST meter/reset, POST and GET webhook.
///
/// At start there is one slot, main_ivr: Main_IVR_TrafficCop hands calls to Main_IVR_Blue (stable) or Main_IVR_Green (canary).
/// The clock stands at 2026-11-20T09:00:00Z until POST /_simulator/advance moves it.
#[derive(Parser)]
#[command(version, about, long_about, verbatim_doc_comment)]
struct Arguments {
    /// Address to listen on; port 0 takes a free one, which is printed
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Seed of the callers: the same seed gives the same run
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let settings = Settings { seed: arguments.seed, ..Settings::default() };
    let organization = Organization::new(settings).map_err(anyhow::Error::msg)?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let listener = TcpListener::bind(arguments.listen).await.with_context(|| format!("cannot listen on {}", arguments.listen))?;
    let mut out = std::io::stdout();
    writeln!(out, "listening on {}", listener.local_addr()?)?;
    out.flush()?;
    tokio::select! {
        ended = serve(listener, organization) => ended.context("the server ended"),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}
