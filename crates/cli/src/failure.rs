//! Why a command did not do what it was asked, by what its caller does next: the exit code.

use serin_controller::intervene::InterventionError;
use serin_controller::ports::LedgerError;

/// How a command ended, in the one table of exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// Done; yes.
    Done = 0,
    /// It could not be done: something could not be reached, or failed.
    Failed = 1,
    /// The command line, the configuration or a file is not accepted; nothing was contacted. Clap exits with it too.
    NotAccepted = 2,
    /// It makes no sense now, or nobody confirmed it; nothing was changed.
    Refused = 3,
    /// A gate: a rollout is not finished, or another pipeline holds the flow. A check: no.
    No = 10,
    /// A gate: the last rollback is too recent.
    Lockout = 11,
    /// A gate: maintenance window, freeze or stop.
    Restricted = 12,
    /// A gate or a check that could not tell: a no.
    CouldNotTell = 20,
}

impl Code {
    /// The table.
    pub(crate) const TABLE: [(Code, &'static str); 8] = [
        (Code::Done, "done; a gate or a check says yes"),
        (Code::Failed, "could not be done: something could not be reached, or failed. What was done and what was not is said"),
        (Code::NotAccepted, "the command line, the configuration or a file is not accepted; nothing was contacted"),
        (Code::Refused, "refused: it makes no sense now, or nobody confirmed it (--yes); nothing was changed"),
        (
            Code::No,
            "gate: a rollout is not finished, or another pipeline has its turn. ledger verify, preflight, doctor: something is wrong",
        ),
        (Code::Lockout, "gate: the last rollback is less than 15 minutes ago"),
        (Code::Restricted, "gate: a maintenance window, a freeze or a stop"),
        (Code::CouldNotTell, "gate, ledger verify, doctor: could not tell, which is a no"),
    ];

    /// The code of a gate's answer.
    pub(crate) fn of_gate(code: u8) -> Code {
        Code::TABLE.into_iter().map(|(known, _)| known).find(|known| *known as u8 == code).unwrap_or(Code::CouldNotTell)
    }
}

/// What went wrong, and the exit code that says so.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) error: anyhow::Error,
}

/// How a command ends.
pub(crate) type Outcome = Result<Code, Failure>;

impl Failure {
    /// Nothing was contacted.
    pub(crate) fn not_accepted(error: impl Into<anyhow::Error>) -> Failure {
        Failure { code: Code::NotAccepted, error: error.into() }
    }

    /// Nothing was changed.
    pub(crate) fn refused(error: impl Into<anyhow::Error>) -> Failure {
        Failure { code: Code::Refused, error: error.into() }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        let error = error.into();
        let refused = error.chain().any(|cause| matches!(cause.downcast_ref(), Some(InterventionError::Refused(_))))
            || matches!(error.downcast_ref(), Some(LedgerError::Lost { .. }));
        Failure { code: if refused { Code::Refused } else { Code::Failed }, error }
    }
}
