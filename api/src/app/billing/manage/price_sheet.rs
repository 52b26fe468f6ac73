//! A pricing version as people write and read it: whole units, decimal numbers in strings. Checks that
//! nothing is lost on the way to the stored scale; what makes sense is the version's own to say.

use std::collections::BTreeMap;

use billing::{
    money::{Currency, decimal, nano},
    pricing::{BASE_SIZE, PricingVersion, Rate, Rounding},
};
use chrono::{DateTime, Utc};
use domain::{Refused, metric::Metric};
use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A pricing version in human units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PriceSheet {
    /// Its name, unique.
    pub name: String,
    /// ISO 4217.
    pub currency: String,
    /// Compute unit seconds that one credit buys.
    pub compute_unit_seconds_per_credit: u32,
    /// Price of a credit.
    pub currency_per_credit: Number,
    /// Compute units of the instance sizes; `base` is 1 unless it says otherwise.
    #[serde(default)]
    pub sizes: BTreeMap<String, Number>,
    /// What a second without an active command counts.
    #[serde(default = "one")]
    pub idle_factor: Number,
    /// Prices of the counted metrics; what is not named is free.
    #[serde(default)]
    pub rates: BTreeMap<String, SheetRate>,
    /// `down`, `up` or `half_up`.
    #[serde(default = "down")]
    pub rounding: String,
    /// Sandboxes created from this instant on have this version.
    pub valid_from: DateTime<Utc>,
}

/// So much credit for so many units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SheetRate {
    /// Credits.
    pub credits: Number,
    /// For this many units.
    #[serde(default = "unit")]
    pub per: i64,
}

/// A decimal number: in a string, or whole. A fraction that is no string may have lost digits already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number(pub Decimal);

fn one() -> Number {
    Number(Decimal::ONE)
}

fn down() -> String {
    Rounding::Down.as_str().to_owned()
}

const fn unit() -> i64 {
    1
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Number;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a decimal number in quotes, such as \"0.0333333\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Number, E> {
                let number = Decimal::from_str_exact(text);
                number.map(Number).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
            fn visit_i64<E: de::Error>(self, whole: i64) -> Result<Number, E> {
                Ok(Number(Decimal::from(whole)))
            }
            fn visit_u64<E: de::Error>(self, whole: u64) -> Result<Number, E> {
                Ok(Number(Decimal::from(whole)))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Reads JSON, which begins with a brace, or TOML.
///
/// # Errors
/// `invalid_request` for the field that is wrong.
pub fn parse(text: &str) -> Result<PricingVersion, Refused> {
    let refuse = |field: &str, why: &str| Refused::invalid(field, format!("{field}: {why}"));
    let value = if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|e| refuse("file", &e.to_string()))?
    } else {
        let table: toml::Table =
            text.parse().map_err(|e: toml::de::Error| refuse("file", e.message()))?;
        json(toml::Value::Table(table))
    };
    let sheet: PriceSheet = serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        refuse(if path == "." { "file" } else { &path }, &error.inner().to_string())
    })?;
    sheet.version()
}

/// TOML's values are JSON's, and instants besides, which are texts here.
fn json(value: toml::Value) -> serde_json::Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(whole) => whole.into(),
        toml::Value::Float(float) => serde_json::json!(float),
        toml::Value::Boolean(boolean) => boolean.into(),
        toml::Value::Datetime(at) => at.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(json).collect::<Vec<_>>().into(),
        toml::Value::Table(table) => {
            table.into_iter().map(|(k, v)| (k, json(v))).collect::<serde_json::Map<_, _>>().into()
        }
    }
}

fn milli(field: &str, number: Number) -> Result<i64, Refused> {
    let places = || Refused::invalid(field, format!("{field} must have at most three places"));
    let scaled = number.0.checked_mul(Decimal::ONE_THOUSAND).ok_or_else(places)?;
    if !scaled.fract().is_zero() {
        return Err(places());
    }
    scaled.try_into().map_err(|_| places())
}

fn billionths(field: &str, number: Number) -> Result<i64, Refused> {
    nano(number.0)
        .ok_or_else(|| Refused::invalid(field, format!("{field} must have at most nine places")))
}

impl PriceSheet {
    /// The version that it describes.
    ///
    /// # Errors
    /// `invalid_request` for the field that is wrong.
    pub fn version(self) -> Result<PricingVersion, Refused> {
        let mut sizes = BTreeMap::from([(BASE_SIZE.to_owned(), 1000)]);
        for (size, units) in self.sizes {
            let units = milli(&format!("sizes.{size}"), units)?;
            sizes.insert(size, units);
        }
        let mut rates = BTreeMap::new();
        for (name, rate) in self.rates {
            let field = format!("rates.{name}");
            let metric: Metric = name.parse().map_err(|()| {
                let names: Vec<_> = Metric::COUNTED.iter().map(|m| m.as_str()).collect();
                Refused::invalid(&field, format!("{field} is none of {}", names.join(", ")))
            })?;
            let nano_credits = billionths(&format!("{field}.credits"), rate.credits)?;
            rates.insert(metric, Rate { nano_credits, per: rate.per });
        }
        let invalid =
            |field: &str, error: billing::Error| Refused::invalid(field, error.to_string());
        Ok(PricingVersion {
            name: self.name,
            currency: self.currency.parse::<Currency>().map_err(|e| invalid("currency", e))?,
            compute_unit_seconds_per_credit: self.compute_unit_seconds_per_credit,
            nano_currency_per_credit: billionths("currencyPerCredit", self.currency_per_credit)?,
            sizes,
            idle_factor_milli: milli("idleFactor", self.idle_factor)?,
            rates,
            rounding: self.rounding.parse().map_err(|e| invalid("rounding", e))?,
            valid_from: self.valid_from,
        })
    }
}

impl From<&PricingVersion> for PriceSheet {
    fn from(version: &PricingVersion) -> Self {
        let milli = |milli: i64| Number(Decimal::new(milli, 3).normalize());
        let rates = version.rates.iter().map(|(metric, rate)| {
            let rate = SheetRate { credits: Number(decimal(rate.nano_credits)), per: rate.per };
            (metric.as_str().to_owned(), rate)
        });
        Self {
            name: version.name.clone(),
            currency: version.currency.to_string(),
            compute_unit_seconds_per_credit: version.compute_unit_seconds_per_credit,
            currency_per_credit: Number(version.currency_per_credit()),
            sizes: version
                .sizes
                .iter()
                .map(|(size, units)| (size.clone(), milli(*units)))
                .collect(),
            idle_factor: milli(version.idle_factor_milli),
            rates: rates.collect(),
            rounding: version.rounding.as_str().to_owned(),
            valid_from: version.valid_from,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHEET: &str = r#"
        name = "2031-01"
        currency = "EUR"
        computeUnitSecondsPerCredit = 500
        currencyPerCredit = "0.04"
        idleFactor = "0.25"
        rounding = "half_up"
        validFrom = 2031-01-01T00:00:00Z
        [sizes]
        large = 4
        [rates.preview_minutes]
        credits = "0.001"
        [rates.file_bytes_written]
        credits = "0.5"
        per = 1000000
    "#;

    #[test]
    fn a_sheet_reads_as_it_is_printed() {
        let version = parse(SHEET).unwrap();
        version.check().unwrap();
        assert_eq!(version.nano_currency_per_credit, 40_000_000);
        assert_eq!(version.idle_factor_milli, 250);
        assert_eq!((version.sizes["base"], version.sizes["large"]), (1000, 4000));
        let rate = Rate { nano_credits: 500_000_000, per: 1_000_000 };
        assert_eq!(version.rates[&Metric::FileBytesWritten], rate);
        assert_eq!(version.valid_from.to_rfc3339(), "2031-01-01T00:00:00+00:00");
        let printed = serde_json::to_string_pretty(&PriceSheet::from(&version)).unwrap();
        assert_eq!(parse(&printed).unwrap(), version);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (right, wrong, wanted) in [
            ("\"0.04\"", "0.04", "currencyPerCredit: invalid type: floating point `0.04`"),
            ("\"0.04\"", "\"0.0400000001\"", "currencyPerCredit must have at most nine places"),
            ("\"0.25\"", "\"0.2505\"", "idleFactor must have at most three places"),
            ("preview_minutes", "preview_hours", "rates.preview_hours is none of sandbox_creates"),
            ("\"0.001\"", "\"cheap\"", "rates.preview_minutes.credits: invalid value"),
            ("half_up", "sideways", "rounding must be down, up or half_up"),
            ("EUR", "euro", "currency must be three capital letters"),
            ("large = 4", "large = \"1.2345\"", "sizes.large must have at most three places"),
            ("2031-01-01T00:00:00Z", "2031-01-01", "validFrom: "),
            ("idleFactor", "idlefactor", "idlefactor: unknown field `idlefactor`"),
            ("name = \"2031-01\"", "", "file: missing field `name`"),
            ("name = ", "name : ", "file: "),
        ] {
            let said = parse(&SHEET.replacen(right, wrong, 1)).unwrap_err().message;
            assert!(said.contains(wanted), "{wrong}: {said}");
        }
    }
}
