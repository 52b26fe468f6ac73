//! Publishing a pricing version. It is the installation's, and no organization's.

use billing::pricing::{PricingVersion, in_force};
use chrono::{DateTime, Utc};
use domain::Refused;
use serde_json::json;
use store::{Tx, audit::Chain};

use super::super::{
    convert,
    prices::{self, NOTICE},
};
use crate::app::{
    App,
    audit::{self, Act, Actor},
    error::{Error, Result},
};

/// Publishes a pricing version in a transaction of its own.
///
/// # Errors
/// As [`write_pricing`].
pub async fn publish_pricing(app: &App, actor: &Actor, version: &PricingVersion) -> Result<()> {
    let now = app.clock.now();
    let tx = app.db.begin().await?;
    let act = write_pricing(&tx, version, now).await?;
    audit::write(&tx, Chain::Installation, actor, &[act], now).await?;
    tx.commit().await?;
    app.prices.forget();
    Ok(())
}

/// Writes a new pricing version, and says what is to be written down. It may not become valid sooner
/// than every server can know it, nor before a version that is published already. Whoever commits it
/// forgets the price lists that this server remembers.
///
/// # Errors
/// `invalid_request` naming the field.
pub async fn write_pricing(tx: &Tx, version: &PricingVersion, now: DateTime<Utc>) -> Result<Act> {
    version.check().map_err(|error| {
        let mut field = "pricing";
        let text = error.to_string();
        if let billing::Error::Pricing(wrong) = &error {
            // It begins with the name of the field.
            field = wrong.split(' ').next().unwrap_or(field);
        }
        Refused::invalid(field, text)
    })?;
    if version.valid_from < now + NOTICE {
        let text = format!("validFrom must be at least {} s from now", NOTICE.num_seconds());
        return Err(Refused::invalid("validFrom", text).into());
    }
    // Two that are published at the same time must see each other.
    store::billing::pricing::lock(tx).await?;
    let known = prices::read(tx).await?;
    if let Some(last) = in_force(known.all().values(), DateTime::<Utc>::MAX_UTC) {
        if last.valid_from >= version.valid_from {
            let text = format!("validFrom must be after that of {}", last.name);
            return Err(Refused::invalid("validFrom", text).into());
        }
        if last.currency != version.currency {
            let text = format!("currency must be {}, as that of all others", last.currency);
            return Err(Refused::invalid("currency", text).into());
        }
    }
    if known.all().contains_key(&version.name) {
        let text = "a version of this name is published already";
        return Err(Refused::invalid("name", text).into());
    }
    let row = convert::version_row(version);
    store::billing::pricing::insert(tx, &row, now).await.map_err(Error::Store)?;
    let details = json!({ "validFrom": version.valid_from });
    Ok(Act::done("pricing.publish", &version.name, details))
}
