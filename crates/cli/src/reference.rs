//! `docs/reference.md`, made of the command line's own definition. A test keeps it what it is; `UPDATE_SNAPSHOTS=1` writes it.

use crate::Cli;
use crate::failure::Code;
use clap::{Arg, ArgAction, Command, CommandFactory};
use std::fmt::Write as _;

/// The whole reference.
fn reference() -> String {
    let mut cli = Cli::command().disable_help_subcommand(true);
    cli.build();
    let mut text = "# Reference\n\n<!-- Made of the code: UPDATE_SNAPSHOTS=1 cargo test -p serin-cli reference -->\n\n".to_owned();
    text.push_str("What every document of `-o json` and `-o yaml` holds stands in [output.md](output.md), the rollout file in\n");
    text.push_str("[rollout.schema.json](rollout.schema.json) and with words in [examples](../examples).\n\n## Commands\n\n| command | does |\n|---|---|\n");
    for command in leaves(&cli, "serin") {
        let _ = writeln!(text, "| [`{}`](#{}) | {} |", command.0, anchor(&command.0), about(command.1));
    }
    text.push_str("\n## Exit codes\n\n| code | means |\n|--:|---|\n");
    for (code, means) in Code::TABLE {
        let _ = writeln!(text, "| {} | {means} |", code as u8);
    }
    text.push_str(
        "\nA process that was killed has no code of these: a pipeline takes every code but 0 for a no.\n\n## Options of every command\n\n",
    );
    options(&mut text, cli.get_arguments().filter(|arg| !is_clap(arg)));
    for (name, command) in leaves(&cli, "serin") {
        let _ = write!(text, "\n## {name}\n\n{}\n\n", said(command));
        let usage = command.clone().render_usage().to_string();
        let _ = writeln!(text, "```\n{}\n```\n", usage.trim_start_matches("Usage: "));
        options(&mut text, command.get_arguments().filter(|arg| !is_clap(arg) && !arg.is_global_set()));
    }
    text.trim_end().to_owned() + "\n"
}

/// Commands that do something, with their whole names.
fn leaves<'a>(command: &'a Command, name: &str) -> Vec<(String, &'a Command)> {
    let below: Vec<_> = command.get_subcommands().filter(|below| below.get_name() != "help").collect();
    if below.is_empty() {
        return vec![(name.to_owned(), command)];
    }
    below.into_iter().flat_map(|below| leaves(below, &format!("{name} {}", below.get_name()))).collect()
}

fn is_clap(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version)
}

fn anchor(name: &str) -> String {
    name.replace(' ', "-")
}

fn about(command: &Command) -> String {
    cell(&command.get_about().map(ToString::to_string).unwrap_or_default())
}

fn said(command: &Command) -> String {
    command.get_long_about().or_else(|| command.get_about()).map(ToString::to_string).unwrap_or_default()
}

fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

fn options<'a>(text: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    let arguments: Vec<&Arg> = arguments.filter(|arg| !arg.is_hide_set()).collect();
    if arguments.is_empty() {
        return;
    }
    text.push_str("| argument | means |\n|---|---|\n");
    for arg in arguments {
        let value = || {
            let names = arg.get_value_names().unwrap_or_default();
            names.iter().map(|name| format!("<{name}>")).collect::<Vec<_>>().join(" ")
        };
        let takes = arg.get_action().takes_values();
        let name = match (arg.get_short(), arg.get_long()) {
            (None, None) => value(),
            (short, long) => {
                let short = short.map(|short| format!("-{short}"));
                let names: Vec<String> = short.into_iter().chain(long.map(|long| format!("--{long}"))).collect();
                if takes { format!("{} {}", names.join(", "), value()) } else { names.join(", ") }
            }
        };
        let mut means = cell(&arg.get_long_help().or_else(|| arg.get_help()).map(ToString::to_string).unwrap_or_default());
        let values: Vec<String> =
            arg.get_possible_values().iter().filter(|_| takes).map(|value| format!("`{}`", value.get_name())).collect();
        if !values.is_empty() {
            let _ = write!(means, ": {}", values.join(", "));
        }
        if let Some(variable) = arg.get_env() {
            let _ = write!(means, " (environment: `{}`)", variable.to_string_lossy());
        }
        let _ = writeln!(text, "| `{}` | {means} |", name.replace('|', "\\|"));
    }
}

#[test]
fn the_reference_says_what_the_code_does() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference.md");
    let made = reference();
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(path, &made).expect("written");
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(kept == made, "docs/reference.md is not what the code says: UPDATE_SNAPSHOTS=1 cargo test -p serin-cli reference");
}

#[test]
fn the_command_line_is_sound_and_every_part_of_it_is_explained() {
    let mut cli = Cli::command();
    cli.clone().debug_assert();
    cli.build();
    for (name, command) in leaves(&cli, "serin") {
        assert!(!about(command).is_empty(), "{name} says nothing");
        for arg in command.get_arguments().filter(|arg| !is_clap(arg)) {
            assert!(arg.get_help().is_some(), "{name}: {} says nothing", arg.get_id());
        }
    }
}
