//! Where Genesys Cloud is, and how patient to be with it.

use jiff::SignedDuration;
use reqwest::Url;

/// Where Genesys Cloud is, and how patient to be with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub(crate) api: Url,
    pub(crate) login: Url,
    pub(crate) patience: SignedDuration,
    pub(crate) copy_patience: SignedDuration,
    pub(crate) detail_pages: u32,
}

/// An address that cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("setting {name} is `{value}`; accepted is {accepted}")]
pub struct SettingsError {
    /// The setting.
    pub name: &'static str,
    /// What it is.
    pub value: String,
    /// What it may be.
    pub accepted: &'static str,
}

/// 1,200 conversations, which is a quarter of an hour of a contact center that hands 4,800 calls an hour to agents; and with one tick
/// a minute a twenty-fifth of the 300 requests a minute that the vendor allows.
const DETAIL_PAGES: u32 = 12;

const ADDRESS: &str = "https://api.<region domain>, such as https://api.mypurecloud.com, without path, user or query; plain http only on the loopback address";

/// The vendor's addresses and the AWS regions behind them.
const REGIONS: [(&str, &str); 17] = [
    ("api.mypurecloud.com", "us-east-1"),
    ("api.mypurecloud.ie", "eu-west-1"),
    ("api.mypurecloud.de", "eu-central-1"),
    ("api.mypurecloud.jp", "ap-northeast-1"),
    ("api.mypurecloud.com.au", "ap-southeast-2"),
    ("api.usw2.pure.cloud", "us-west-2"),
    ("api.cac1.pure.cloud", "ca-central-1"),
    ("api.apne2.pure.cloud", "ap-northeast-2"),
    ("api.euw2.pure.cloud", "eu-west-2"),
    ("api.aps1.pure.cloud", "ap-south-1"),
    ("api.sae1.pure.cloud", "sa-east-1"),
    ("api.mec1.pure.cloud", "me-central-1"),
    ("api.apne3.pure.cloud", "ap-northeast-3"),
    ("api.euc2.pure.cloud", "eu-central-2"),
    ("api.mxc1.pure.cloud", "mx-central-1"),
    ("api.apse1.pure.cloud", "ap-southeast-1"),
    ("api.use2.us-gov-pure.cloud", "us-east-2"),
];

impl Settings {
    /// The addresses of the API and of the login; an absent or empty login is the API's with `login.` in place of a leading `api.`.
    pub fn new(api: &str, login: Option<&str>) -> Result<Settings, SettingsError> {
        let api = address("GENESYS_API", api)?;
        let login = match login.map(str::trim).filter(|l| !l.is_empty()) {
            Some(login) => address("GENESYS_LOGIN", login)?,
            None => login_of(&api),
        };
        // 20 s leave a function of 60 s room to record what happened; an export and a publish job take longer than one call.
        Ok(Settings {
            api,
            login,
            patience: SignedDuration::from_secs(20),
            copy_patience: SignedDuration::from_secs(40),
            detail_pages: DETAIL_PAGES,
        })
    }

    /// The AWS region in which the organization lives; `None` where the API's address tells none.
    pub(crate) fn region(&self) -> Option<&'static str> {
        let host = self.api.host_str()?;
        REGIONS.iter().find(|(api, _)| *api == host).map(|(_, region)| *region)
    }

    /// How long one call of a port may take, with all its retries.
    pub fn with_patience(self, patience: SignedDuration) -> Settings {
        Settings { patience, ..self }
    }

    /// Pages of conversation details, 100 conversations each, that a tick may read for all flows together; 0 reads none, and handle
    /// times stay unknown.
    pub fn with_detail_pages(self, detail_pages: u32) -> Settings {
        Settings { detail_pages, ..self }
    }

    /// How long copying a configuration, or another job of the vendor's, may take before it is left to the next tick.
    pub fn with_copy_patience(self, copy_patience: SignedDuration) -> Settings {
        Settings { copy_patience, ..self }
    }
}

fn address(name: &'static str, value: &str) -> Result<Url, SettingsError> {
    // The value is shown without what could be a password in it.
    let refused = |shown: &str| SettingsError { name, value: shown.to_owned(), accepted: ADDRESS };
    let url = Url::parse(value.trim()).map_err(|_| refused(if value.contains('@') { "…" } else { value }))?;
    let bare = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    match bare && url.path() == "/" && is_safe(&url) {
        true => Ok(url),
        false => Err(refused(&url.host_str().map_or_else(|| "…".to_owned(), |host| format!("{}://{host}…", url.scheme())))),
    }
}

/// Tokens and flows travel under TLS, except to a simulator on this machine.
pub(crate) fn is_safe(url: &Url) -> bool {
    match url.scheme() {
        "https" => url.host_str().is_some(),
        "http" => url.host_str().is_some_and(is_loopback),
        _ => false,
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn login_of(api: &Url) -> Url {
    let mut login = api.clone();
    if let Some(region) = api.host_str().and_then(|host| host.strip_prefix("api.")) {
        login.set_host(Some(&format!("login.{region}"))).expect("a host with another first label stays a host");
    }
    login
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_login_address_follows_the_api() {
        let login = |api: &str, login: Option<&str>| Settings::new(api, login).unwrap().login.to_string();
        assert_eq!(login("https://api.mypurecloud.ie", None), "https://login.mypurecloud.ie/");
        assert_eq!(login("https://api.usw2.pure.cloud/", Some("")), "https://login.usw2.pure.cloud/");
        assert_eq!(login("http://127.0.0.1:8080", None), "http://127.0.0.1:8080/");
        assert_eq!(login("https://gateway.example.com", None), "https://gateway.example.com/");
        assert_eq!(login("https://api.mypurecloud.de", Some("https://sso.example.com")), "https://sso.example.com/");
    }

    #[test]
    fn the_region_follows_the_api() {
        let region = |api: &str| Settings::new(api, None).unwrap().region();
        assert_eq!(region("https://api.mypurecloud.ie"), Some("eu-west-1"));
        assert_eq!(region("https://API.usw2.pure.cloud/"), Some("us-west-2"));
        for unknown in ["https://api.edee1.eusc-pure.cloud", "https://gateway.example.com", "http://127.0.0.1:8080"] {
            assert_eq!(region(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn addresses_that_would_leak_are_refused_without_being_repeated() {
        for bad in [
            "http://api.mypurecloud.com",
            "api.mypurecloud.com",
            "ftp://127.0.0.1",
            "https://user:pass@api.mypurecloud.com",
            "https://api.mypurecloud.com/platform",
            "https://api.mypurecloud.com?token=pass",
            "",
        ] {
            let refused = Settings::new(bad, None).unwrap_err().to_string();
            assert!(refused.starts_with("setting GENESYS_API is"), "{refused}");
            assert!(!refused.contains("pass"), "{refused}");
        }
        for good in ["http://localhost:1", "http://[::1]:8080", "http://127.0.0.2:9"] {
            Settings::new(good, None).unwrap();
        }
    }
}
