//! The price lists for operators: few, so a page of them is cut from all.

use std::{cmp::Reverse, sync::Arc};

use billing::pricing::PricingVersion;
use domain::Refused;
use store::Page;

use crate::app::{App, billing::prices, error::Result};

/// Lists the versions behind the one of this name; the one that becomes valid last comes first.
///
/// # Errors
/// `invalid_request` for a cursor that is the name of none.
pub async fn list(app: &App, after: Option<&str>, limit: u32) -> Result<Page<Arc<PricingVersion>>> {
    let lists = prices::read(app.db.read()).await?;
    let mut versions: Vec<_> = lists.all().values().cloned().collect();
    versions.sort_by_key(|version| Reverse((version.valid_from, version.name.clone())));
    if let Some(after) = after {
        let place = versions.iter().position(|version| version.name == after);
        let place = place
            .ok_or_else(|| Refused::invalid("cursor", "cursor must be a page's nextCursor"))?;
        versions.drain(..=place);
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = versions.len() > limit;
    versions.truncate(limit);
    Ok(Page { items: versions, has_more })
}

/// Gets a version.
///
/// # Errors
/// `not_found`.
pub async fn get(app: &App, name: &str) -> Result<Arc<PricingVersion>> {
    let lists = prices::read(app.db.read()).await?;
    let found = lists.all().get(name).cloned();
    Ok(found.ok_or(store::Error::Missing("pricing version"))?)
}
