//! canary-evaluator: every minute it looks at every rollout, and every quarter of an hour it judges.

mod handler;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;
use serin_aws::settings::Settings;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serin_aws::log::init();
    let settings = Settings::from_environment()?;
    let world = handler::World::connect(settings).await?;
    let world = &world;
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| async move {
        handler::handle(world, &event.payload, &event.context.request_id).await.map_err(|e| Error::from(e.to_string()))
    }))
    .await
}
