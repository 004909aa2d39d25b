//! Named contexts: which installation, in which account and region, with which organization. One file, in which the current one is
//! remembered; nothing in it is secret.

use crate::failure::Failure;
use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The one that counts where no other is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
}

/// One of them; what is left out comes from the environment, as everywhere.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stage: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) profile: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) region: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) table: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) genesys_api: Option<String>,
}

impl Contexts {
    /// Where they are kept: `SERIN_CONFIG`, or `serin/contexts.yaml` where the system keeps configurations.
    pub(crate) fn path() -> Result<PathBuf, Failure> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let directory = || variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| home.join(".config")));
        let place = variable("SERIN_CONFIG").or_else(|| Some(directory()?.join("serin").join("contexts.yaml")));
        place.ok_or_else(|| Failure::not_accepted(anyhow!("where contexts are kept is not known: set SERIN_CONFIG or HOME")))
    }

    /// Reads them; none if there is no file.
    pub(crate) fn read() -> Result<Contexts, Failure> {
        let path = Contexts::path()?;
        let shown = path.display();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Contexts::default()),
            Err(error) => return Err(Failure::not_accepted(anyhow!(error).context(format!("contexts {shown} cannot be read")))),
        };
        let read = match text.trim() {
            "" => Ok(Contexts::default()),
            text => serde_saphyr::from_str(text),
        };
        read.map_err(|error| Failure::not_accepted(anyhow!("contexts {shown}: {error}")))
    }

    /// Writes them, whole or not at all.
    pub(crate) fn write(&self) -> Result<(), Failure> {
        let path = Contexts::path()?;
        let text = serde_saphyr::to_string(self)?;
        let directory = path.parent().unwrap_or(&path);
        std::fs::create_dir_all(directory).with_context(|| format!("{} cannot be made", directory.display()))?;
        let beside = path.with_extension(format!("{}.tmp", std::process::id()));
        std::fs::write(&beside, text)
            .and_then(|()| std::fs::rename(&beside, &path))
            .with_context(|| format!("contexts {} cannot be written", path.display()))?;
        Ok(())
    }

    /// The one that was named, or the current one, or none.
    pub(crate) fn chosen(self, named: Option<&str>) -> Result<(Option<String>, Context), Failure> {
        let Some(name) = named.map(str::to_owned).or(self.current) else { return Ok((None, Context::default())) };
        match self.contexts.get(&name) {
            Some(context) => Ok((Some(name), context.clone())),
            None => {
                let known: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
                let known = if known.is_empty() { "there are none".to_owned() } else { format!("there are {}", known.join(", ")) };
                Err(Failure::not_accepted(anyhow!("context `{name}` is not known: {known}; `serin context add {name} …` makes it")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_chosen_by_name_or_is_the_current_one() {
        let file = "current: eu\ncontexts:\n  eu: {stage: prod, region: eu-central-1}\n  us: {profile: acme}\n";
        let contexts: Contexts = serde_saphyr::from_str(file).unwrap();
        let stage = |named| contexts.clone().chosen(named).map(|(name, context)| (name.unwrap_or_default(), context.stage)).ok();
        assert_eq!(stage(None), Some(("eu".to_owned(), Some("prod".to_owned()))));
        assert_eq!(stage(Some("us")), Some(("us".to_owned(), None)));
        let refused = contexts.clone().chosen(Some("ap")).unwrap_err();
        assert!(refused.error.to_string().contains("there are eu, us"), "{:?}", refused.error);
        let kept: Contexts = serde_saphyr::from_str(&serde_saphyr::to_string(&contexts).unwrap()).unwrap();
        assert_eq!(kept, contexts);
        assert!(serde_saphyr::from_str::<Contexts>("contexts: {eu: {stge: prod}}").is_err());
    }
}
