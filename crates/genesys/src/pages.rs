//! Lists that come in pages, read to their ends.

use crate::client::{Genesys, Request};
use crate::error::Error;
use crate::token::CredentialsSource;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serin_controller::ports::Clock;

const SIZE: &str = "100";
/// More than any list has that Serin reads; a bound against one that does not end.
const MOST: u32 = 100;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<T> {
    #[serde(default = "Vec::new")]
    entities: Vec<T>,
    #[serde(default)]
    page_count: u32,
}

impl<S: CredentialsSource, C: Clock> Genesys<S, C> {
    /// All entities, as the vendor orders them. The page is added to the request's own parameters.
    pub(crate) async fn list<T: DeserializeOwned>(&self, request: &Request<'_>, until: Timestamp) -> Result<Vec<T>, Error> {
        let mut all = Vec::new();
        for number in 1..=MOST {
            let text = number.to_string();
            let query = [request.query, &[("pageNumber", &text), ("pageSize", SIZE)]].concat();
            let page = Request { path: request.path, query: &query, ..Request::of(request.operation, &request.doing) };
            let page: Page<T> = self.call(&page, until).await?;
            let is_last = page.entities.is_empty() || number >= page.page_count;
            all.extend(page.entities);
            if is_last {
                return Ok(all);
            }
        }
        Err(Error::unreadable(&request.doing, "the list does not end"))
    }
}
