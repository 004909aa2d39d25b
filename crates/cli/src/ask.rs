//! Asking whether it is meant, before something dangerous.

use crate::failure::Failure;
use anyhow::anyhow;
use std::io::{BufRead, IsTerminal, Write};

/// Goes on if `yes` was said on the command line, or is said on the terminal now. `what` is what would be done, as a sentence.
pub(crate) fn confirm(yes: bool, what: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(Failure::refused(anyhow!(
            "not confirmed, so nothing was changed. What was asked for: {what} --yes says that it is meant"
        )));
    }
    let mut err = std::io::stderr();
    write!(err, "{what}\nGo on? Type yes: ")?;
    err.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "yes" | "y" => Ok(()),
        _ => Err(Failure::refused(anyhow!("not confirmed; nothing was changed"))),
    }
}
