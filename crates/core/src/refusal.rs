//! What is not accepted in a rollout file, and where it stands.

use std::fmt;

/// One thing that is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The field, as a path from the top of the file such as `canary.flow_id` or `policy.steps[1]`.
    pub at: String,
    /// What is wrong with it and what is accepted; reads on from the path.
    pub why: String,
}

impl Refusal {
    pub(crate) fn new(at: impl Into<String>, why: impl Into<String>) -> Refusal {
        Refusal { at: at.into(), why: why.into() }
    }

    /// The same, said from one level further out.
    pub(crate) fn within(self, outer: &str) -> Refusal {
        Refusal { at: format!("{outer}.{}", self.at), why: self.why }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.at, self.why)
    }
}

/// The first of them, as a text.
pub(crate) fn first(refusals: Vec<Refusal>) -> Result<(), String> {
    refusals.into_iter().next().map_or(Ok(()), |refusal| Err(refusal.to_string()))
}
