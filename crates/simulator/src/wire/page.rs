//! The vendor's paging: `pageNumber` from 1, `pageSize` 25 unless asked otherwise.

use super::error::ApiError;
use serde_json::{Value, json};
use std::collections::HashMap;

/// A page of `entities` as the query asks for it; `path` is where the list lives.
pub(super) fn page(entities: Vec<Value>, query: &HashMap<String, String>, path: &str) -> Result<Value, ApiError> {
    let number = positive(query, "pageNumber", 1, usize::MAX)?;
    let size = positive(query, "pageSize", 25, 500)?;
    let total = entities.len();
    let pages = total.div_ceil(size);
    let uri = |number: usize| format!("{path}?pageNumber={number}&pageSize={size}");
    let first = (number - 1).saturating_mul(size);
    let mut listing = json!({
        "entities": entities.into_iter().skip(first).take(size).collect::<Vec<_>>(),
        "pageSize": size, "pageNumber": number, "total": total, "pageCount": pages,
        "firstUri": uri(1), "lastUri": uri(pages.max(1)), "selfUri": uri(number),
    });
    if number < pages {
        listing["nextUri"] = json!(uri(number + 1));
    }
    if number > 1 {
        listing["previousUri"] = json!(uri(number - 1));
    }
    Ok(listing)
}

fn positive(query: &HashMap<String, String>, name: &str, default: usize, most: usize) -> Result<usize, ApiError> {
    let Some(text) = query.get(name) else { return Ok(default) };
    let number = text.parse().ok().filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| ApiError::bad_request(format!("{name} `{text}` is not accepted")))
}
