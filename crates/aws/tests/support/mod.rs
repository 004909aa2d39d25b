//! An AWS that a test answers for.

use axum::Router;
use serin_aws::Config;

/// Serves on a port of this machine, and says how to reach it: with some credentials, in eu-west-1.
pub(crate) async fn serve(router: Router) -> Config {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let credentials = aws_credential_types::Credentials::new("key-id", "secret", None, None, "test");
    Config::builder()
        .endpoint_url(url)
        .region(aws_config::Region::new("eu-west-1"))
        .behavior_version(aws_config::BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .credentials_provider(aws_credential_types::provider::SharedCredentialsProvider::new(credentials))
        .build()
}
