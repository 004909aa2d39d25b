//! Which credentials and which region a command gets, and who that is. Environment variables belong to a whole process, so each look
//! is one of its own: this program, started again.

use std::process::Command;

/// What the process in between reports: key id, region, and what `identity` answers.
const LOOK: &str = "look";
const MARK: &str = "looked: ";

const CONFIG: &str = "\
[profile prod]
region = eu-central-1
aws_access_key_id = PROD
aws_secret_access_key = secret

[profile handed-out]
credential_process = printf '{\"Version\":1,\"AccessKeyId\":\"HANDED\",\"SecretAccessKey\":\"secret\"}'

[profile single-sign-on]
sso_session = office
sso_account_id = 123456789012
sso_role_name = operator

[sso-session office]
sso_start_url = https://example.com/start
sso_region = eu-central-1
";

#[tokio::test]
#[ignore = "the process in between, started by the others"]
async fn look() {
    use aws_credential_types::provider::ProvideCredentials;
    let named = |name: &str| std::env::var(name).ok();
    let config = serin_aws::load_with(named("PROFILE").as_deref(), named("REGION").as_deref()).await;
    let credentials = config.credentials_provider().unwrap().provide_credentials().await;
    let key = credentials.map_or_else(|e| format!("{e:?}"), |c| c.access_key_id().to_owned());
    let region = config.region().map_or("none".to_owned(), |r| r.to_string());
    let who = match named("AWS_ENDPOINT_URL_STS") {
        Some(_) => format!("{:?}", serin_aws::identity(&config).await),
        None => String::new(),
    };
    println!("{MARK}{key} {region} {who}");
}

/// What a process with these variables finds.
fn looked(variables: &[(&str, &str)]) -> String {
    let home = std::env::temp_dir().join(format!("serin-profiles-{}-{:?}", std::process::id(), std::thread::current().id()));
    std::fs::create_dir_all(&home).expect("a temporary folder can be made");
    let config = home.join("config");
    std::fs::write(&config, CONFIG).expect("it can be written to");
    let mut look = Command::new(std::env::current_exe().expect("a test is a program"));
    look.args(["--exact", LOOK, "--ignored", "--nocapture"]).env_clear();
    look.env("HOME", &home).env("PATH", std::env::var_os("PATH").unwrap_or_default());
    look.env("AWS_CONFIG_FILE", &config).env("AWS_SHARED_CREDENTIALS_FILE", home.join("credentials"));
    look.env("AWS_EC2_METADATA_DISABLED", "true").envs(variables.iter().copied());
    let output = look.output().expect("which can be started again");
    std::fs::remove_dir_all(&home).expect("what was made can be removed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = said.lines().find_map(|line| line.split_once(MARK)).map(|(_, found)| found.trim().to_owned());
    found.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)))
}

const OWN: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "ENVIRONMENT"), ("AWS_SECRET_ACCESS_KEY", "secret")];

#[test]
fn a_profile_that_was_named_is_taken_over_credentials_in_the_environment_and_one_in_a_variable_is_not() {
    let with = |more: &[(&str, &str)]| looked(&[&OWN[..], more].concat());
    assert_eq!(with(&[("PROFILE", "prod")]), "PROD eu-central-1");
    assert_eq!(with(&[("AWS_PROFILE", "prod")]), "ENVIRONMENT eu-central-1");
    assert_eq!(looked(&[("AWS_PROFILE", "prod")]), "PROD eu-central-1");
}

#[test]
fn a_region_that_was_named_is_taken_over_the_variables_and_these_over_the_profiles() {
    let with = |more: &[(&str, &str)]| looked(&[&[("PROFILE", "prod")], more].concat());
    assert_eq!(with(&[("AWS_REGION", "us-east-1")]), "PROD us-east-1");
    assert_eq!(with(&[("AWS_REGION", "us-east-1"), ("REGION", "eu-west-1")]), "PROD eu-west-1");
}

#[test]
fn a_profile_that_is_not_there_is_named() {
    let said = looked(&[&OWN[..], &[("PROFILE", "prd")]].concat());
    assert!(said.contains("prd") && !said.contains("ENVIRONMENT"), "{said}");
}

#[test]
#[cfg(feature = "operator")]
fn credentials_that_a_program_hands_out_are_taken_and_single_sign_on_asks_for_its_session() {
    assert_eq!(looked(&[("PROFILE", "handed-out"), ("REGION", "eu-west-1")]), "HANDED eu-west-1");
    let said = looked(&[("PROFILE", "single-sign-on"), ("REGION", "eu-west-1")]);
    assert!(said.to_lowercase().contains("token") && !said.contains("FeatureNotEnabled"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_says_who_calls_or_why_it_does_not() {
    let answers = |status: u16, body: &'static str| async move {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = axum::Router::new().fallback(move || async move { (axum::http::StatusCode::from_u16(status).unwrap(), body) });
        tokio::spawn(async move { axum::serve(listener, app).await });
        let found = tokio::task::spawn_blocking(move || {
            looked(&[&OWN[..], &[("AWS_REGION", "eu-west-1"), ("AWS_ENDPOINT_URL_STS", url.as_str())]].concat())
        });
        found.await.unwrap()
    };
    let arn = "arn:aws:sts::123456789012:assumed-role/operator/kim";
    let known = "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
                 <Arn>arn:aws:sts::123456789012:assumed-role/operator/kim</Arn></GetCallerIdentityResult></GetCallerIdentityResponse>";
    assert_eq!(answers(200, known).await, format!("ENVIRONMENT eu-west-1 Ok({arn:?})"));
    let refused = "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidClientTokenId</Code><Message>The security token included in \
                   the request is invalid.</Message></Error></ErrorResponse>";
    let said = answers(403, refused).await;
    assert!(said.contains("AWS does not say who you are: ") && said.contains("token included in the request is invalid"), "{said}");
}
