//! YAML as a tree that remembers where everything stands.
//!
//! Words are read as YAML 1.2 has them, as editors do: only `true` and `false` are truth values, and what looks like a number is one.
//! Anchors, aliases, tags and further documents are refused: whoever reads a line of a rollout file must see what it says.

use super::{NOTHING, Problem};
use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span};
use serde_json::{Map, Number, Value};

/// Deeper than any rollout file; what is read level by level must not run out of stack.
const DEEPEST: usize = 32;

/// Where something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    /// From 1.
    pub(super) line: usize,
    /// In characters, from 1.
    pub(super) column: usize,
    /// Characters, on this line.
    pub(super) width: usize,
}

impl Spot {
    pub(super) const TOP: Spot = Spot { line: 1, column: 1, width: 1 };

    fn of(span: Span) -> Spot {
        let (from, to) = (span.start, span.end);
        let width = if to.line() == from.line() { to.col().saturating_sub(from.col()) } else { 1 };
        Spot { line: from.line().max(1), column: from.col() + 1, width: width.max(1) }
    }
}

/// A value, and where it begins.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) spot: Spot,
    pub(super) is: Is,
    /// A scalar as it was written, without quotes.
    pub(super) written: String,
}

#[derive(Debug)]
pub(super) enum Is {
    Null,
    Bool(bool),
    Number(Number),
    /// `.nan`, `.inf`, and what is too large to be a number.
    NoNumber,
    Text,
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) spot: Spot,
    pub(super) value: Node,
}

impl Node {
    /// The value of a key; of the first one, where it is there twice.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.is {
            Is::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    pub(super) fn json(&self) -> Value {
        match &self.is {
            Is::Null | Is::NoNumber => Value::Null,
            Is::Bool(value) => Value::Bool(*value),
            Is::Number(number) => Value::Number(number.clone()),
            Is::Text => Value::String(self.written.clone()),
            Is::List(items) => items.iter().map(Node::json).collect(),
            Is::Map(entries) => Value::Object(entries.iter().map(|e| (e.key.clone(), e.value.json())).collect::<Map<_, _>>()),
        }
    }
}

/// The tree of a file. What keeps it from being read at all is an error; a key that is there twice is only noted.
pub(super) fn read(text: &str, noted: &mut Vec<Problem>) -> Result<Node, Problem> {
    let mut options = granit_parser::Options::default();
    options.flow_nesting_limit = DEEPEST;
    options.block_nesting_limit = DEEPEST;
    options.set_emit_comments(false);
    let mut events = Events { parser: Parser::new_from_str_with_options(text, options), noted };
    let mut root = None;
    loop {
        let (event, span) = events.next()?;
        match event {
            Event::StreamEnd => return root.ok_or_else(|| Problem::at(Spot::TOP, NOTHING)),
            Event::DocumentStart(..) if root.is_some() => {
                return Err(Problem::at(Spot::of(span), "a second document begins here (`---`): a rollout file has one"));
            }
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
            event => root = Some(events.node(event, span)?),
        }
    }
}

struct Events<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    noted: &'a mut Vec<Problem>,
}

impl<'a> Events<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Problem> {
        match self.parser.next_event() {
            Some(next) => next.map_err(|error| misread(&error)),
            None => Err(Problem::at(Spot::TOP, "the file ends too early")),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span) -> Result<Node, Problem> {
        let spot = Spot::of(span);
        let plain = |anchor: usize, tagged: bool| match (anchor, tagged) {
            (0, false) => Ok(()),
            (0, true) => Err(Problem::at(spot, "a tag (`!…`) is not accepted: write the value alone, in quotes if it is a text")),
            _ => Err(Problem::at(spot, "an anchor (`&…`) is not accepted: write the value out where it belongs")),
        };
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                plain(anchor, tag.is_some())?;
                let is = if style == ScalarStyle::Plain { resolve(&text) } else { Is::Text };
                Ok(Node { spot, is, written: text.into_owned() })
            }
            Event::SequenceStart(_, anchor, tag) => {
                plain(anchor, tag.is_some())?;
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => return Ok(Node { spot, is: Is::List(items), written: String::new() }),
                        (event, span) => items.push(self.node(event, span)?),
                    }
                }
            }
            Event::MappingStart(_, anchor, tag) => {
                plain(anchor, tag.is_some())?;
                let mut entries: Vec<Entry> = Vec::new();
                loop {
                    let key = match self.next()? {
                        (Event::MappingEnd, _) => return Ok(Node { spot, is: Is::Map(entries), written: String::new() }),
                        (event, span) => self.node(event, span)?,
                    };
                    if matches!(key.is, Is::List(_) | Is::Map(_)) {
                        return Err(Problem::at(
                            key.spot,
                            "a key must be a single word; a template such as `{{ name }}` must be filled in before the file is read",
                        ));
                    }
                    let (event, span) = self.next()?;
                    let value = self.node(event, span)?;
                    if let Some(first) = entries.iter().find(|entry| entry.key == key.written) {
                        let said =
                            format!("`{}` is here a second time; it is on line {} already: keep one of them", key.written, first.spot.line);
                        self.noted.push(Problem::at(key.spot, said));
                        continue;
                    }
                    entries.push(Entry { key: key.written, spot: key.spot, value });
                }
            }
            Event::Alias(_) => Err(Problem::at(spot, "an alias (`*…`) is not accepted: write the value out")),
            _ => Err(Problem::at(spot, "a value is expected here")),
        }
    }
}

/// What a word without quotes is.
fn resolve(word: &str) -> Is {
    match word {
        "" | "~" | "null" | "Null" | "NULL" => return Is::Null,
        "true" | "True" | "TRUE" => return Is::Bool(true),
        "false" | "False" | "FALSE" => return Is::Bool(false),
        _ => {}
    }
    let unsigned = word.strip_prefix(['-', '+']).unwrap_or(word);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(word, ".nan" | ".NaN" | ".NAN") {
        return Is::NoNumber;
    }
    let based = |digits: &str, base: u32| u64::from_str_radix(digits, base).map_or(Is::NoNumber, |number| Is::Number(number.into()));
    let all = |digits: &str, base: u32| !digits.is_empty() && digits.chars().all(|c| c.is_digit(base));
    match (word.strip_prefix("0x"), word.strip_prefix("0o")) {
        (Some(digits), _) if all(digits, 16) => return based(digits, 16),
        (_, Some(digits)) if all(digits, 8) => return based(digits, 8),
        _ => {}
    }
    // `f64` also reads `inf` and `nan`, which are words in YAML.
    let numeric = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') && unsigned.contains(|c: char| c.is_ascii_digit());
    if !numeric {
        return Is::Text;
    }
    match word.parse::<f64>() {
        Ok(value) if value.fract() == 0.0 && value.abs() < 9e15 => Is::Number((value as i64).into()),
        Ok(value) => Number::from_f64(value).map_or(Is::NoNumber, Is::Number),
        Err(_) => Is::Text,
    }
}

/// A fault of the YAML itself, in words for people who do not know its grammar.
fn misread(error: &ScanError) -> Problem {
    let marker = error.marker();
    let spot = Spot { line: marker.line().max(1), column: marker.col() + 1, width: 1 };
    let said = match error.kind() {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart
        | ErrorKind::InvalidBlockEntryWhitespace => "a tab is not accepted here: YAML wants spaces".to_owned(),
        ErrorKind::UnclosedFlowCollection { open } => format!("`{open}` is not closed"),
        ErrorKind::UnexpectedEofFlowMapping | ErrorKind::UnexpectedEofImplicitFlowMapping => "`{` is not closed".to_owned(),
        ErrorKind::UnexpectedEofFlowSequence => "`[` is not closed".to_owned(),
        ErrorKind::ExpectedFlowMappingSeparator => "`,` or `}` is expected here; perhaps a `{` above is not closed".to_owned(),
        ErrorKind::ExpectedFlowSequenceSeparator => "`,` or `]` is expected here; perhaps a `[` above is not closed".to_owned(),
        ErrorKind::MismatchedFlowCollectionEnd { open, close } => format!("`{open}` is closed by `{close}`"),
        ErrorKind::InvalidColonPlacement | ErrorKind::MappingValueNotAllowed => {
            "`:` is not accepted here; perhaps a `[` or `{` above is not closed, a space is missing after a colon above, or a text needs quotes".to_owned()
        }
        ErrorKind::InvalidMappingValueWhitespace => "a space is needed after the colon".to_owned(),
        ErrorKind::UnclosedQuotedScalar => "a quote is not closed".to_owned(),
        ErrorKind::UnknownAnchor => "an alias (`*…`) is not accepted: write the value out, in quotes if it begins with `*`".to_owned(),
        ErrorKind::RecursionLimitExceeded => format!("nested more than {DEEPEST} levels deep: no rollout file is"),
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => {
            "`key: value` is expected here, with a space after the colon".to_owned()
        }
        ErrorKind::ExpectedBlockMappingKey | ErrorKind::InvalidIndentation => {
            "this line does not fit the ones above: `key: value` is expected, indented by spaces as far as its neighbours".to_owned()
        }
        kind => format!("this is no YAML: {kind}"),
    };
    Problem::at(spot, said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_without_quotes_are_what_yaml_1_2_says() {
        for (word, json) in [
            ("15.0", "15"),
            ("0.25", "0.25"),
            ("-5", "-5"),
            ("+15550199", "15550199"),
            ("0x1F", "31"),
            ("1e3", "1000"),
            ("yes", "\"yes\""),
            ("on", "\"on\""),
            ("True", "true"),
            ("~", "null"),
            ("inf", "\"inf\""),
            ("v1", "\"v1\""),
            ("1.2.3", "\"1.2.3\""),
            ("7ab1e000-1", "\"7ab1e000-1\""),
            ("12:30", "\"12:30\""),
            (".", "\".\""),
        ] {
            let node = read(&format!("[{word}]"), &mut Vec::new()).unwrap();
            assert_eq!(node.json().to_string(), format!("[{json}]"), "{word}");
        }
    }

    #[test]
    fn everything_knows_where_it_stands() {
        let file = read("a: 1\nb:\n  - {c: \"ü\", d: xy}\n", &mut Vec::new()).unwrap();
        let Is::List(items) = &file.entry("b").unwrap().value.is else { panic!("{file:?}") };
        let spot = |node: &Node| (node.spot.line, node.spot.column, node.spot.width);
        assert_eq!(spot(&file.entry("a").unwrap().value), (1, 4, 1));
        assert_eq!(spot(&items[0].entry("c").unwrap().value), (3, 9, 3));
        assert_eq!(spot(&items[0].entry("d").unwrap().value), (3, 17, 2));
        assert_eq!(file.entry("b").unwrap().spot.line, 2);
    }
}
