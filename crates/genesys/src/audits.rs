//! The vendor's audit: who changed something last.
//!
//! Left out: the audits of more than 14 days ago, which the vendor tells by another way.

use crate::analytics::interval;
use crate::client::{Genesys, Request};
use crate::error::{Error, redact};
use crate::operations;
use crate::token::CredentialsSource;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use serin_controller::ports::{Changed, Clock};

/// The vendor's clock may be ahead of ours.
const AHEAD: SignedDuration = SignedDuration::from_mins(1);

impl<S: CredentialsSource, C: Clock> Genesys<S, C> {
    /// Who changed something last since then, other than our own client.
    pub(crate) async fn last_change(&self, what: Changed<'_>, since: Timestamp) -> Result<Option<String>, Error> {
        let doing = match what {
            Changed::Flow(id) => format!("asking who changed flow {id}"),
            Changed::Row { table, row } => format!("asking who changed row {row} of data table {table}"),
        };
        let request = Request {
            query: &[("expand", "user")],
            body: Some(query(what, since, self.clock.now() + AHEAD)),
            ..Request::of(&operations::QUERY_AUDITS, doing)
        };
        let audits: Audits = self.call(&request, self.deadline()).await?;
        let own = self.client_id().await;
        let by = |audit: Audit| audit.by(what, own.as_deref());
        Ok(audits.entities.unwrap_or_default().into_iter().find_map(by))
    }
}

/// Newest first.
pub(crate) fn query(what: Changed<'_>, from: Timestamp, to: Timestamp) -> Value {
    let (service, id) = match what {
        Changed::Flow(id) => ("Architect", id),
        Changed::Row { table, .. } => ("Datatables", table),
    };
    json!({
        "interval": interval(from, to),
        "serviceName": service,
        "filters": [{"property": "EntityId", "value": id}],
        "sort": [{"name": "Timestamp", "sortOrder": "descending"}],
        "pageNumber": 1,
        "pageSize": 100,
    })
}

#[derive(Deserialize)]
struct Audits {
    #[serde(default)]
    entities: Option<Vec<Audit>>,
}

#[derive(Deserialize)]
struct Audit {
    user: Option<Named>,
    client: Option<Named>,
    entity: Option<Named>,
    status: Option<String>,
}

#[derive(Deserialize)]
struct Named {
    id: Option<String>,
    name: Option<String>,
}

impl Audit {
    /// Who it was, if this was changed and it was not us. Rather nobody than somebody who changed another row of the table.
    fn by(self, what: Changed<'_>, own: Option<&str>) -> Option<String> {
        let client = self.client.and_then(|client| client.id);
        let is_ours = own.is_some() && client.as_deref() == own;
        let named = self.entity.and_then(|entity| entity.name);
        let is_another = matches!((what, &named), (Changed::Row { row, .. }, Some(name)) if name != row);
        if is_ours || is_another || self.status.as_deref() == Some("FAILURE") {
            return None;
        }
        let user = self.user.and_then(|user| user.name.or(user.id).filter(|name| !name.is_empty()));
        user.or_else(|| Some(format!("oauth client {}", client?))).map(|by| redact(&by))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_named_and_a_client_by_its_id() {
        let by = |audit: Value| serde_json::from_value::<Audit>(audit).unwrap().by(Changed::Flow("f"), Some("us"));
        assert_eq!(by(json!({"user": {"id": "u-1", "name": "Pat Doe"}, "client": {"id": "c-1"}})).as_deref(), Some("Pat Doe"));
        assert_eq!(by(json!({"user": {"id": "u-1"}})).as_deref(), Some("u-1"));
        assert_eq!(by(json!({"client": {"id": "c-1"}, "status": "SUCCESS"})).as_deref(), Some("oauth client c-1"));
        assert_eq!(by(json!({"client": {"id": "us"}, "status": "SUCCESS"})), None);
        assert_eq!(by(json!({"user": {"id": "u-1", "name": "Pat Doe"}, "status": "FAILURE"})), None);
        assert_eq!(by(json!({"status": "SUCCESS"})), None);
    }

    #[test]
    fn who_changed_another_row_is_not_named() {
        let row = Changed::Row { table: "t", row: "main_ivr" };
        let by = |name: &str| {
            let audit = json!({"user": {"id": "u-1", "name": "Pat Doe"}, "entity": {"id": "t", "name": name}});
            serde_json::from_value::<Audit>(audit).unwrap().by(row, None)
        };
        assert_eq!((by("main_ivr").as_deref(), by("billing")), (Some("Pat Doe"), None));
    }
}
