//! What Architect asks, in both of its shapes: a data action of the AWS Lambda integration sends the question itself, a function URL and an HTTP API
//! send it as the body of an envelope.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serin_core::rollout::FlowName;
use std::borrow::Cow;

/// No question is that long, and reading a long one costs the calls after it.
const MOST_BYTES: usize = 64 * 1024;

/// How a question came, and so how it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// As it is.
    Flat,
    /// As the body of an HTTP request.
    Http,
}

/// One question, as its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'a> {
    /// How it came.
    pub shape: Shape,
    /// JSON, as far as we know.
    text: Cow<'a, [u8]>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "requestContext")]
    context: Option<serde::de::IgnoredAny>,
    #[serde(borrow)]
    body: Option<Cow<'a, str>>,
    /// So are bodies whose type says nothing of text, such as those of curl without a header.
    #[serde(rename = "isBase64Encoded")]
    encoded: Option<bool>,
}

impl Event<'_> {
    /// Finds the question in an event, whatever that is.
    pub fn of(event: &[u8]) -> Event<'_> {
        let flat = Event { shape: Shape::Flat, text: Cow::Borrowed(event) };
        // Only envelopes have it, and few events are envelopes: most are parsed once.
        if event.len() > 2 * MOST_BYTES || !contains(event, b"\"requestContext\"") {
            return flat;
        }
        let Ok(envelope) = serde_json::from_slice::<Envelope<'_>>(event) else { return flat };
        if envelope.context.is_none() {
            return flat;
        }
        let body = envelope.body.unwrap_or_default();
        let text = if envelope.encoded == Some(true) {
            STANDARD.decode(body.as_bytes()).unwrap_or_default()
        } else {
            body.into_owned().into_bytes()
        };
        Event { shape: Shape::Http, text: Cow::Owned(text) }
    }

    /// The question, or what is wrong with it and what is accepted.
    pub fn question(&self) -> Result<Question<'_>, String> {
        if self.text.len() > MOST_BYTES {
            return Err(format!("{} bytes are not accepted: up to {MOST_BYTES} are", self.text.len()));
        }
        let question: Question<'_> = serde_json::from_slice(&self.text)
            .map_err(|error| format!("{error}; an object such as {{\"flow\":\"main_ivr\",\"conversationId\":\"…\"}} is accepted"))?;
        if !FlowName::accepts(&question.flow) {
            let shown: String = question.flow.chars().take(80).collect();
            return Err(format!("flow `{shown}` is not accepted: 1 to 64 letters, digits, `_` or `-` are"));
        }
        Ok(question)
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Which way?
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Question<'a> {
    /// The flow.
    #[serde(borrow)]
    pub flow: Cow<'a, str>,
    /// Genesys' id of the conversation.
    #[serde(rename = "conversationId", borrow, default)]
    pub conversation: Option<Cow<'a, str>>,
    /// The caller's number. Neither logged nor stored.
    #[serde(borrow, default)]
    pub caller: Option<Cow<'a, str>>,
}
