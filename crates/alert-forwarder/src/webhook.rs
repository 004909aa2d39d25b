//! The plain webhook: the alert's JSON as it came, signed if its secret holds a key.
//!
//! A receiver computes the HMAC-SHA256 of `<X-Serin-Timestamp>.<body>` under the key, compares it with `X-Serin-Signature` in constant
//! time, and refuses a timestamp that is more than five minutes away: what was recorded cannot be played again later. Within these
//! minutes the body's `dedup_key` tells a repeated alert.

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;

pub(crate) const TIMESTAMP: &str = "x-serin-timestamp";
pub(crate) const SIGNATURE: &str = "x-serin-signature";

/// The timestamp's and the signature's headers.
pub(crate) fn signed(key: &str, now: Timestamp, body: &str) -> [(&'static str, String); 2] {
    let timestamp = now.as_second().to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes a key of any length");
    for part in [&timestamp, ".", body] {
        mac.update(part.as_bytes());
    }
    let digest: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    [(TIMESTAMP, timestamp), (SIGNATURE, format!("sha256={digest}"))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_other_implementations() {
        // printf '1795251600.{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef
        let [timestamp, signature] = signed("0123456789abcdef", Timestamp::from_second(1_795_251_600).unwrap(), r#"{"a":1}"#);
        assert_eq!(timestamp.1, "1795251600");
        assert_eq!(signature.1, "sha256=fa3e4638be2b32ef4a14b23ac4dbc6e2cb0643832da0f8b87b2a174b61745896");
    }
}
