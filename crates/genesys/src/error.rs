//! Why Genesys Cloud did not do as asked, by what the caller does next. Nothing here ever holds a token, a secret or an address.

use jiff::SignedDuration;
use serin_controller::ports::{FlowError, Unmeasured};

/// Why Genesys Cloud did not do as asked, by what the caller does next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Too many requests: wait.
    #[error("{doing}: genesys cloud asks for fewer requests; try again in {} s", .retry_after.as_secs())]
    Throttled {
        /// What was being done.
        doing: String,
        /// How long to wait.
        retry_after: SignedDuration,
    },
    /// Somebody holds the lock: ask them.
    #[error("flow {flow} is locked by {holder}; it is never unlocked by force")]
    FlowLocked {
        /// The flow.
        flow: String,
        /// Who.
        holder: String,
    },
    /// The version is not there: choose another.
    #[error("flow {flow} has no version {version}; choose one of its version list")]
    VersionGone {
        /// The flow.
        flow: String,
        /// The version.
        version: String,
    },
    /// It is not there.
    #[error("{doing}: genesys cloud does not know it ({code}); check the id and the division that the oauth client may see")]
    NotFound {
        /// What was being done.
        doing: String,
        /// The vendor's code.
        code: String,
    },
    /// Somebody else is at it: look again.
    #[error("{doing}: {reason}")]
    Conflict {
        /// What was being done.
        doing: String,
        /// What was in the way.
        reason: String,
    },
    /// Credentials or permissions: a person must mend them.
    #[error("{doing}: {reason}")]
    Unauthorized {
        /// What was being done.
        doing: String,
        /// What is missing.
        reason: String,
    },
    /// It did not answer, or not in time: try later.
    #[error("{doing}: {reason}")]
    Unavailable {
        /// What was being done.
        doing: String,
        /// How it failed.
        reason: String,
    },
    /// It will not work by waiting.
    #[error("{doing}: {reason}")]
    Refused {
        /// What was being done.
        doing: String,
        /// Why.
        reason: String,
    },
    /// An answer that nobody expected.
    #[error("{doing}: unexpected answer {status} {code}: {message}")]
    Unexpected {
        /// What was being done.
        doing: String,
        /// HTTP status.
        status: u16,
        /// The vendor's code.
        code: String,
        /// The vendor's message, bounded, without addresses and tokens.
        message: String,
    },
}

const TOO_LARGE: &str = "too.large";

impl Error {
    /// An answer of success that makes no sense.
    pub(crate) fn unreadable(doing: &str, message: &str) -> Error {
        Error::Unexpected { doing: doing.to_owned(), status: 200, code: "unreadable".to_owned(), message: message.to_owned() }
    }

    /// An answer of which nobody would see the end.
    pub(crate) fn too_large(doing: &str, message: &str) -> Error {
        Error::Unexpected { doing: doing.to_owned(), status: 200, code: TOO_LARGE.to_owned(), message: message.to_owned() }
    }

    /// Whether half of the question may get an answer. No source lists how the vendor says so: any refusal that speaks of too much is
    /// taken for one, and a question that cannot be halved is refused all the same.
    pub(crate) fn is_too_much(&self) -> bool {
        const WORDS: [&str; 9] =
            ["too large", "too.large", "too many", "too.many", "too big", "exceeds", "limit", "maximum", "predicates: at most"];
        match self {
            Error::Unexpected { status: 413, .. } => true,
            Error::Unexpected { status: 200, code, .. } => code == TOO_LARGE,
            Error::Unexpected { status: 400, code, message, .. } => {
                let said = format!("{code} {message}").to_ascii_lowercase();
                WORDS.iter().any(|word| said.contains(word))
            }
            _ => false,
        }
    }
}

impl From<Error> for FlowError {
    fn from(error: Error) -> FlowError {
        let said = error.to_string();
        match error {
            Error::FlowLocked { flow, holder } => FlowError::Locked { flow, holder },
            Error::VersionGone { .. } | Error::NotFound { .. } => FlowError::Gone(said),
            Error::Throttled { .. } | Error::Unavailable { .. } | Error::Conflict { .. } => FlowError::TryLater(said),
            Error::Unauthorized { .. } | Error::Refused { .. } | Error::Unexpected { .. } => FlowError::Refused(said),
        }
    }
}

impl From<Error> for Unmeasured {
    fn from(error: Error) -> Unmeasured {
        Unmeasured(error.to_string())
    }
}

/// Longest piece of the vendor's text that is repeated.
const LONGEST: usize = 500;
/// From this length on a run of letters and digits could be a token; ids are shorter.
const TOKEN_LENGTH: usize = 40;

/// The vendor's words on one line, bounded, with addresses and whatever could be a token left out.
pub(crate) fn redact(text: &str) -> String {
    let mut words = Vec::new();
    let mut secret_follows = false;
    for word in text.split_whitespace() {
        let shown = match word {
            _ if secret_follows => "<token>",
            _ if word.contains("://") => "<address>",
            _ if has_long_run(word) => "<token>",
            _ => word,
        };
        secret_follows = word.trim_matches(|c: char| !c.is_ascii_alphanumeric()).eq_ignore_ascii_case("bearer");
        words.push(shown);
    }
    let line = words.join(" ").replace(|c: char| c.is_control(), "");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn has_long_run(word: &str) -> bool {
    let in_token = |c: char| c.is_ascii_alphanumeric() || "-_.~+/=%".contains(c);
    word.split(|c| !in_token(c)).any(|run| run.len() >= TOKEN_LENGTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_vendor_says_is_repeated_without_addresses_and_tokens() {
        let said = "request to https://s3.example.com/x?X-Amz-Signature=abc failed,\n Authorization: Bearer c2VjcmV0, id 5e91c0de-1111-4222-8333-444455556666";
        assert_eq!(redact(said), "request to <address> failed, Authorization: Bearer <token> id 5e91c0de-1111-4222-8333-444455556666");
        assert_eq!(redact(&format!("token={}", "a1".repeat(30))), "<token>");
        assert_eq!(redact(&"word ".repeat(1000)).chars().count(), LONGEST + 1);
    }
}
