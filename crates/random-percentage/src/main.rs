//! The function: Lambda's events in, answers out.

#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unreachable, clippy::unwrap_used)]

use futures::FutureExt;
use lambda_runtime::{Error, LambdaEvent, LambdaInvocation, Runtime, service_fn};
use random_percentage::cache::Cache;
use random_percentage::clock::{Clock, Machine};
use random_percentage::endpoint::{Endpoint, Said};
use random_percentage::source::{Chosen, Source};
use serde_json::value::RawValue;
use serin_core::rollout::FlowName;
use std::cell::RefCell;
use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::sync::Mutex;
use tower::{Service, layer::layer_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let stage = std::env::var("STAGE").ok().filter(|stage| !stage.is_empty());
    let stage = stage.ok_or("setting STAGE is missing: the name of the stage, such as `prod`, is accepted")?;
    let mut cache = Cache::new(Chosen::from_environment(&stage, Machine)?, Machine, chance);
    // The connection and the first read belong to init, which is not throttled.
    let flows = std::env::var("FLOWS").unwrap_or_default();
    let flows = flows.split(',').map(str::trim).filter(|flow| FlowName::accepts(flow));
    // A fault in here would be one in every init, and no call would be answered.
    let _ = AssertUnwindSafe(cache.warm(flows)).catch_unwind().await;
    // One event at a time per sandbox: the lock is never waited for.
    let endpoint = Rc::new(Mutex::new(Endpoint::new(stage, cache)));
    let asked = endpoint.clone();
    let answer = service_fn(move |event: LambdaEvent<Box<RawValue>>| {
        let endpoint = asked.clone();
        async move { Ok::<Said, Error>(endpoint.lock().await.answer(event.payload.get().as_bytes()).await) }
    });
    Runtime::new(answer).layer(layer_fn(|inner| Between { inner, endpoint: endpoint.clone() })).run().await
}

/// From the operating system, which is asked for 64 at once: a question to it for each call would cost more than all of the drawing. Without it, and
/// that does not happen on Lambda, everybody draws the last bucket: stable at any weight below 100 %.
fn chance() -> u64 {
    thread_local!(static KEPT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });
    KEPT.with_borrow_mut(|kept| {
        if kept.is_empty() {
            kept.resize(64 * size_of::<u64>(), 0);
            if getrandom::fill(kept).is_err() {
                kept.clear();
            }
        }
        let rest = kept.len().saturating_sub(size_of::<u64>());
        let mut drawn = [0; size_of::<u64>()];
        match kept.get(rest..).filter(|some| some.len() == drawn.len()) {
            Some(some) => drawn.copy_from_slice(some),
            None => return 9_999,
        }
        kept.truncate(rest);
        u64::from_le_bytes(drawn)
    })
}

/// What comes after an answer has been posted and before the next event is asked for.
struct Between<I, S, C> {
    inner: I,
    endpoint: Rc<Mutex<Endpoint<S, C>>>,
}

impl<I, S, C> Service<LambdaInvocation> for Between<I, S, C>
where
    I: Service<LambdaInvocation, Response = ()>,
    I::Future: 'static,
    S: Source + 'static,
    C: Clock + 'static,
{
    type Response = ();
    type Error = I::Error;
    type Future = Pin<Box<dyn Future<Output = Result<(), I::Error>>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), I::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, invocation: LambdaInvocation) -> Self::Future {
        let answered = self.inner.call(invocation);
        let endpoint = self.endpoint.clone();
        Box::pin(async move {
            answered.await?;
            let (lines, ends) = endpoint.lock().await.between().await;
            tell(&lines);
            if ends {
                std::process::exit(1);
            }
            Ok(())
        })
    }
}

/// A function's standard output is its log.
fn tell(lines: &[serde_json::Value]) {
    for line in lines {
        // Nobody can be told that nothing can be told.
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}
