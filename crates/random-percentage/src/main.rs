//! random-percentage: which way, for one call. It runs on every phone call, so it answers from memory, and always answers.

mod cache;
mod handler;
mod source;

use cache::Cache;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;
use source::ParameterStore;
use tokio::sync::Mutex;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let stage = std::env::var("STAGE").map_err(|_| "setting STAGE is missing: the name of the stage, such as `prod`, is accepted")?;
    let mut cache = Cache::new(ParameterStore::from_environment(stage)?);
    // The connection and the first read belong to init, which is not throttled; a read that fails must not fail it.
    cache.warm(std::env::var("FLOWS").unwrap_or_default().split(',').map(str::trim).filter(|f| !f.is_empty())).await;
    let cache = Mutex::new(cache);
    let cache = &cache;
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| async move {
        // One event at a time per sandbox: the lock is never waited for.
        Ok::<Value, Error>(handler::answer(&mut *cache.lock().await, &event.payload).await)
    }))
    .await
}
