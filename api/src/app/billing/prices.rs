//! The price lists. Few and immutable, so every server remembers them; a new one is published some time
//! before it becomes valid, so that by then all servers have read it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use billing::pricing::{PricingVersion, in_force};
use chrono::{DateTime, TimeDelta, Utc};
use store::ConnectionTrait;

use super::convert::{corrupt, version};
use crate::app::error::Result;

/// Read again after this.
const MAX_AGE: TimeDelta = TimeDelta::seconds(15);
/// How long before it becomes valid a version must be published at the latest.
pub const NOTICE: TimeDelta = TimeDelta::seconds(60);

/// Every pricing version.
#[derive(Debug, Clone)]
pub struct PriceLists(BTreeMap<String, Arc<PricingVersion>>);

impl PriceLists {
    /// The version of this name.
    ///
    /// # Errors
    /// When a row names one that does not exist.
    pub fn get(&self, name: &str) -> Result<&Arc<PricingVersion>> {
        self.0.get(name).ok_or_else(|| corrupt(format!("there is no pricing version {name:?}")))
    }

    /// The version in force.
    ///
    /// # Errors
    /// When none is: the one that every installation starts with is gone.
    pub fn in_force(&self, at: DateTime<Utc>) -> Result<&Arc<PricingVersion>> {
        let found = in_force(self.0.values(), at).or_else(|| self.0.values().next());
        found.ok_or_else(|| corrupt("there is no pricing version"))
    }

    /// All of them by name.
    #[must_use]
    pub const fn all(&self) -> &BTreeMap<String, Arc<PricingVersion>> {
        &self.0
    }
}

/// Reads the price lists.
///
/// # Errors
/// When the database does not answer, or a version breaks the rules.
pub async fn read(c: &impl ConnectionTrait) -> Result<PriceLists> {
    let mut versions = BTreeMap::new();
    for row in store::billing::pricing::list(c).await? {
        versions.insert(row.name.clone(), Arc::new(version(&row)?));
    }
    Ok(PriceLists(versions))
}

/// The price lists as this server remembers them.
#[derive(Debug, Default)]
pub struct Remembered(Mutex<Option<(DateTime<Utc>, Arc<PriceLists>)>>);

impl Remembered {
    /// The price lists, read anew if they were last read a while ago.
    ///
    /// # Errors
    /// As [`read`].
    pub async fn get(
        &self,
        c: &impl ConnectionTrait,
        now: DateTime<Utc>,
    ) -> Result<Arc<PriceLists>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((read_at, lists)) = known
            && (now - read_at).abs() < MAX_AGE
        {
            return Ok(lists);
        }
        let lists = Arc::new(read(c).await?);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, Arc::clone(&lists)));
        Ok(lists)
    }

    /// Forgets them: the next reader gets what is stored.
    pub fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use store::testing;

    use super::*;
    use crate::app::billing::convert::version_row;

    #[tokio::test]
    async fn an_installation_starts_with_the_built_in_version() {
        for database in testing::databases().await {
            let lists = read(database.db.read()).await.unwrap();
            let versions: Vec<_> = lists.all().values().map(|list| (**list).clone()).collect();
            assert_eq!(versions, [PricingVersion::built_in()], "on {}", database.name);
            let rows = store::billing::pricing::list(database.db.read()).await.unwrap();
            let written = version_row(&PricingVersion::built_in());
            assert_eq!(rows, [written], "on {}", database.name);
        }
    }
}
