//! Who asks: the AWS identity that the credentials belong to, which nobody can choose, and the name that was given with it.

use serin_aws::Config;
use std::time::Duration;

/// Taking calls away must not wait for a name.
const PATIENCE: Duration = Duration::from_secs(1);

/// The identity, with the given name in front of it.
pub(crate) async fn asks(aws: &Config, name: Option<&str>) -> String {
    let identity = match tokio::time::timeout(PATIENCE, serin_aws::identity(aws)).await {
        Ok(Ok(arn)) => Ok(arn),
        Ok(Err(_)) | Err(_) => Err("AWS identity not known"),
    };
    said(name, identity)
}

fn said(name: Option<&str>, identity: Result<String, &str>) -> String {
    let name = name.map(str::trim).filter(|name| !name.is_empty());
    match (name, identity) {
        (Some(name), Ok(arn)) => format!("{name} ({arn})"),
        (None, Ok(arn)) => arn,
        (name, Err(unknown)) => {
            let user = std::env::var("USER").unwrap_or_else(|_| "somebody".to_owned());
            format!("{} ({unknown})", name.unwrap_or(&user))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_never_stands_in_for_the_identity() {
        let arn = || Ok("arn:aws:sts::111122223333:assumed-role/oncall/alice".to_owned());
        assert_eq!(said(None, arn()), "arn:aws:sts::111122223333:assumed-role/oncall/alice");
        assert_eq!(said(Some("night shift"), arn()), "night shift (arn:aws:sts::111122223333:assumed-role/oncall/alice)");
        assert_eq!(said(Some("night shift"), Err("AWS identity not known")), "night shift (AWS identity not known)");
    }
}
