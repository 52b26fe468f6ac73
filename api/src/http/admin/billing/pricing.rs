//! Pricing versions: the file format of the command line, as JSON.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use poem::http::StatusCode;
use poem_openapi::{Object, OpenApi, param::Path};
use rust_decimal::Decimal;
use serde::Deserialize;

use billing::pricing::{PricingVersion, Rounding};

use super::{Instant, precise};
use crate::{
    app::{
        admin::{accounts, pricing},
        billing::manage::price_sheet::{Number, PriceSheet, SheetRate},
    },
    http::{
        admin::Tag,
        error::ApiError,
        extract::{Admin, IdempotencyKey, Limit, Query, StrictBody},
        responses::{Json, Stored, answer, list_view},
        wire::Wire,
    },
};

/// A pricing version. It is never changed.
#[derive(Debug, Object)]
#[oai(rename = "PricingVersion", rename_all = "camelCase")]
struct VersionView {
    /// Unique.
    name: String,
    /// ISO 4217.
    currency: String,
    /// Compute unit seconds that one credit buys.
    compute_unit_seconds_per_credit: u32,
    /// Price of a credit.
    currency_per_credit: Wire<Decimal>,
    /// Compute units of the instance sizes.
    sizes: BTreeMap<String, Wire<Decimal>>,
    /// What a second without an active command counts.
    idle_factor: Wire<Decimal>,
    /// Prices of the counted metrics; what is not named is free.
    rates: BTreeMap<String, RateView>,
    rounding: Wire<Rounding>,
    /// Sandboxes created from this instant on have this version, until the next one's.
    valid_from: Instant,
}

/// So much credit for so many units.
#[derive(Debug, Object)]
#[oai(rename = "PricingRate")]
struct RateView {
    credits: Wire<Decimal>,
    /// For this many units.
    per: i64,
}

impl From<&PricingVersion> for VersionView {
    fn from(version: &PricingVersion) -> Self {
        let sheet = PriceSheet::from(version);
        let rate = |rate: SheetRate| RateView { credits: Wire(rate.credits.0), per: rate.per };
        Self {
            name: sheet.name,
            currency: sheet.currency,
            compute_unit_seconds_per_credit: sheet.compute_unit_seconds_per_credit,
            currency_per_credit: Wire(sheet.currency_per_credit.0),
            sizes: sheet.sizes.into_iter().map(|(name, units)| (name, Wire(units.0))).collect(),
            idle_factor: Wire(sheet.idle_factor.0),
            rates: sheet.rates.into_iter().map(|(name, of)| (name, rate(of))).collect(),
            rounding: Wire(version.rounding),
            valid_from: precise(sheet.valid_from),
        }
    }
}

list_view! {
    /// A page of pricing versions; the one that becomes valid last comes first.
    PricingVersionList of VersionView, by |version| version.name
}

/// A pricing version to publish.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "PublishPricingBody", rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
struct PublishPricing {
    /// Unique: 1 to 64 letters, digits, `-`, `_` or `.`.
    #[oai(validator(min_length = 1, max_length = 64))]
    name: String,
    /// ISO 4217; that of all other versions.
    #[oai(validator(min_length = 3, max_length = 3))]
    currency: String,
    /// Compute unit seconds that one credit buys.
    #[oai(validator(minimum(value = "1")))]
    compute_unit_seconds_per_credit: u32,
    /// Price of a credit, with at most nine places.
    currency_per_credit: Wire<Decimal>,
    /// Compute units of the instance sizes; `base` is 1 unless it says otherwise.
    sizes: Option<BTreeMap<String, Wire<Decimal>>>,
    /// What a second without an active command counts, 0 to 1; absent: 1.
    idle_factor: Option<Wire<Decimal>>,
    /// Prices of the counted metrics; what is not named is free.
    rates: Option<BTreeMap<String, Rate>>,
    /// Of a sandbox's price, to billionths; absent: `down`.
    rounding: Option<Wire<Rounding>>,
    /// For sandboxes created from then on; at least a minute from now, and after all other versions.
    valid_from: Wire<DateTime<Utc>>,
}

/// So much credit for so many units.
#[derive(Debug, Object, Deserialize)]
#[oai(rename = "PublishPricingRate")]
struct Rate {
    credits: Wire<Decimal>,
    /// For this many units; absent: 1.
    #[oai(validator(minimum(value = "1")))]
    per: Option<i64>,
}

impl From<PublishPricing> for PriceSheet {
    fn from(body: PublishPricing) -> Self {
        let number = |number: Wire<Decimal>| Number(number.0);
        let rate =
            |rate: Rate| SheetRate { credits: number(rate.credits), per: rate.per.unwrap_or(1) };
        let rates = body.rates.unwrap_or_default().into_iter();
        let sizes = body.sizes.unwrap_or_default().into_iter();
        let rounding = body.rounding.map_or(Rounding::Down, |rounding| rounding.0);
        Self {
            name: body.name,
            currency: body.currency,
            compute_unit_seconds_per_credit: body.compute_unit_seconds_per_credit,
            currency_per_credit: number(body.currency_per_credit),
            sizes: sizes.map(|(name, units)| (name, number(units))).collect(),
            idle_factor: body.idle_factor.map_or(Number(Decimal::ONE), number),
            rates: rates.map(|(name, of)| (name, rate(of))).collect(),
            rounding: rounding.as_str().to_owned(),
            valid_from: body.valid_from.0,
        }
    }
}

/// The routes of pricing versions.
#[derive(Debug)]
pub struct Pricing;

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Pricing")]
impl Pricing {
    /// List the pricing versions; the one that becomes valid last comes first.
    #[oai(path = "/pricing-versions", method = "get", operation_id = "listPricingVersions")]
    async fn list(
        &self,
        caller: Admin,
        limit: Query<Limit<50>>,
        cursor: Query<Option<String>>,
    ) -> Result<Json<PricingVersionList>, ApiError> {
        let found = pricing::list(caller.app(), cursor.0.as_deref(), limit.0.0).await?;
        let views = found.items.iter().map(|version| VersionView::from(&**version)).collect();
        Ok(Json(PricingVersionList::new(views, found.has_more)))
    }

    /// Get a pricing version.
    #[oai(path = "/pricing-versions/:name", method = "get", operation_id = "getPricingVersion")]
    async fn get(&self, caller: Admin, name: Path<String>) -> Result<Json<VersionView>, ApiError> {
        Ok(Json((&*pricing::get(caller.app(), &name.0).await?).into()))
    }

    /// Publish a pricing version, for sandboxes that are created from an instant to come on.
    ///
    /// It can never be changed. Sandboxes that were created before keep their prices.
    #[oai(path = "/pricing-versions", method = "post", operation_id = "publishPricingVersion")]
    async fn publish(
        &self,
        caller: Admin,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        body: StrictBody<PublishPricing>,
    ) -> Result<Stored<VersionView, 201>, ApiError> {
        let idempotent = key.of(&body.json);
        let version = PriceSheet::from(body.value).version()?;
        let print = || answer(StatusCode::CREATED, &VersionView::from(&version));
        let made = accounts::publish_pricing(caller.app(), &caller, idempotent, &version, print);
        Ok(made.await?.into())
    }
}
