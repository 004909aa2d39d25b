//! `serin completions`: what a shell needs to complete command lines.

use crate::failure::{Code, Outcome};
use clap::CommandFactory;
use clap_complete::Shell;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// For which shell
    ///
    /// bash: `serin completions bash > ~/.local/share/bash-completion/completions/serin`; zsh: into a directory of $fpath as `_serin`;
    /// fish: `serin completions fish > ~/.config/fish/completions/serin.fish`.
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::Cli::command(), "serin", &mut script);
    crate::output::print(&String::from_utf8(script)?)?;
    Ok(Code::Done)
}
