//! What a command has to say: for people as plain text, for programs as one document of a known kind and version.

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use std::io::{IsTerminal, Write};

/// How to print.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people
    #[default]
    Table,
    /// For programs: one JSON document
    Json,
    /// The same as YAML
    Yaml,
}

/// Version of the documents. Fields may be added within a version; what is there keeps its name and its meaning.
pub(crate) const VERSION: u32 = 1;

/// A document for programs.
#[derive(Serialize)]
struct Document<'a, T> {
    version: u32,
    kind: &'a str,
    #[serde(flatten)]
    content: &'a T,
}

/// Fields of the same name would stand twice.
fn is_map_of_its_own<T: Serialize>(content: &T) -> bool {
    let value = serde_json::to_value(content);
    value.is_ok_and(|value| value.as_object().is_some_and(|map| !map.contains_key("version") && !map.contains_key("kind")))
}

/// Several of one kind.
#[derive(Serialize)]
pub(crate) struct Items<T> {
    pub(crate) items: Vec<T>,
}

impl Output {
    /// Prints a document for programs, or the text for people. `content` serializes as a map.
    pub(crate) fn tell<T: Serialize>(self, kind: &str, content: &T, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        print(&match self {
            Output::Table => text(),
            _ => self.document(kind, content)?,
        })
    }

    /// A document as text.
    pub(crate) fn document<T: Serialize>(self, kind: &str, content: &T) -> anyhow::Result<String> {
        let document = Document { version: VERSION, kind, content };
        debug_assert!(is_map_of_its_own(content), "{kind}: its content is no map, or has a version or kind of its own");
        Ok(match self {
            Output::Yaml => serde_saphyr::to_string(&document)?,
            _ => serde_json::to_string_pretty(&document)?,
        })
    }
}

/// Prints what may be long. A reader that has seen enough, such as `head`, is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Says something beside the output: progress, warnings, advice.
pub(crate) fn note(text: &str) {
    // Nobody reads it if it cannot be written.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// What a color says besides the word that it is on: never the only thing that says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Busy,
    Bad,
}

impl Tone {
    pub(crate) fn style(self) -> Style {
        match self {
            Tone::Plain => Style::new(),
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Busy => AnsiColor::Yellow.on_default(),
            Tone::Bad => AnsiColor::Red.on_default().bold(),
        }
    }

    /// The text in its color, if standard output is a terminal that wants any.
    pub(crate) fn paint(self, text: &str) -> String {
        match self != Tone::Plain && has_colors() {
            true => format!("{}{text}{}", self.style().render(), self.style().render_reset()),
            false => text.to_owned(),
        }
    }
}

/// Colors only on a terminal, and not for whoever asks for none (no-color.org).
pub(crate) fn has_colors() -> bool {
    std::io::stdout().is_terminal() && wants_colors(|name| std::env::var_os(name))
}

fn wants_colors(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> bool {
    let none = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
    !none && variable("TERM").is_none_or(|term| term != "dumb")
}

/// What somebody wrote, on one line and without what drives a terminal: whoever may record a reason must not forge other lines.
pub(crate) fn plain(text: &str) -> String {
    let shown = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    shown.collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// So many of something: `1 flow`, `2 flows`.
pub(crate) fn counted(n: usize, one: &str, more: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { more })
}

/// Columns as wide as their widest cell, two spaces apart; the last one is as long as it is.
pub(crate) fn columns(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|name| width(name)).collect();
    for row in rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(width(cell));
        }
    }
    let line = |cells: &[String]| {
        let mut line = String::new();
        for (n, cell) in cells.iter().enumerate() {
            line.push_str(cell);
            if n + 1 < cells.len() {
                line.push_str(&" ".repeat(widths[n] - width(cell) + 2));
            }
        }
        line.trim_end().to_owned()
    };
    let head: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    std::iter::once(line(&head)).chain(rows.iter().map(|row| line(row))).collect::<Vec<_>>().join("\n")
}

/// Characters that are seen: a color has none.
fn width(text: &str) -> usize {
    let mut in_color = false;
    let seen = text.chars().filter(|c| {
        let hidden = in_color || *c == '\u{1b}';
        in_color = hidden && *c != 'm';
        !hidden
    });
    seen.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_are_for_whoever_did_not_refuse_them() {
        let with = |set: &'static [(&str, &str)]| {
            wants_colors(|name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into()))
        };
        assert!(with(&[]) && with(&[("NO_COLOR", ""), ("TERM", "xterm")]));
        assert!(!with(&[("NO_COLOR", "1")]) && !with(&[("TERM", "dumb")]));
    }

    #[test]
    fn both_formats_of_a_document_say_the_same() {
        let items = Items { items: vec![serde_json::json!({"weight": 2.5, "yes": "no", "since": null})] };
        let json: serde_json::Value = serde_json::from_str(&Output::Json.document("Test", &items).unwrap()).unwrap();
        let yaml: serde_json::Value = serde_saphyr::from_str(&Output::Yaml.document("Test", &items).unwrap()).unwrap();
        assert_eq!(json, yaml);
        assert_eq!((&json["version"], &json["kind"], &json["items"][0]["yes"]), (&1.into(), &"Test".into(), &"no".into()));
    }

    #[test]
    fn columns_line_up_and_end_where_they_end() {
        let rows = [vec!["main_ivr".to_owned(), "5 %".to_owned()], vec!["a".to_owned(), "100 %".to_owned()]];
        assert_eq!(columns(&["FLOW", "WEIGHT"], &rows), "FLOW      WEIGHT\nmain_ivr  5 %\na         100 %");
        let red = format!("{}a{}", Tone::Bad.style().render(), Tone::Bad.style().render_reset());
        assert_eq!(width(&red), 1);
    }
}
