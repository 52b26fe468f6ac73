//! Statements for people: a page that prints well, and a text for terminals. Every number is printed as
//! the document has it.

use std::{collections::BTreeMap, fmt::Write};

use askama::Template;

use super::table::{Side, Table, clean};
use crate::app::billing::statements::{CreditItem, Document, UsageItem};

/// A statement as a page of HTML without anything from elsewhere.
///
/// # Errors
/// None that can be provoked: it is written to memory.
pub fn html(document: &Document) -> Result<String, askama::Error> {
    View::of(document).render()
}

/// What is shown of a document.
#[derive(Template)]
#[template(path = "statement.html")]
struct View<'a> {
    document: &'a Document,
    /// Usage of the period itself.
    usage: Vec<&'a UsageItem>,
    /// Usage of earlier ones.
    adjustments: Vec<&'a UsageItem>,
    /// What a credit costs, by pricing version.
    prices: BTreeMap<&'a str, &'a str>,
}

impl<'a> View<'a> {
    fn of(document: &'a Document) -> Self {
        let (usage, adjustments) = document.usage.iter().partition(|item| item.adjusts.is_none());
        let price = |item: &'a UsageItem| {
            (item.pricing_version.as_str(), item.currency_per_credit.as_str())
        };
        Self { document, usage, adjustments, prices: document.usage.iter().map(price).collect() }
    }

    fn state(&self) -> String {
        match self.document.closed_at {
            Some(at) => format!("closed on {}", at.format("%Y-%m-%d at %H:%M UTC")),
            None => "preliminary: the period is open".to_owned(),
        }
    }

    fn is_written_off(&self) -> bool {
        self.document.written_off != "0.00"
    }
}

/// A metric in words.
fn metric(item: &UsageItem) -> String {
    item.metric.replace('_', " ")
}

/// The unit price: so many credits, or so many for so many units.
fn rate(item: &UsageItem) -> String {
    match item.unit_quantity {
        1 => item.unit_price_credits.clone(),
        n => format!("{} per {n}", item.unit_price_credits),
    }
}

fn kind(item: &CreditItem) -> String {
    format!("{} credit", item.kind)
}

/// A statement for a terminal.
#[must_use]
pub fn text(document: &Document) -> String {
    let view = View::of(document);
    let mut text = String::new();
    let mut say = |line: &str| {
        // Writing to memory does not fail.
        let _ = writeln!(text, "{line}");
    };
    say(&format!("Statement {} of {}", document.period, clean(&document.organization)));
    say(&format!("{}, {}", document.org_id, view.state()));
    if let Some(id) = document.id {
        say(&id.to_string());
    }
    if !view.usage.is_empty() {
        say(&format!(
            "\nUsage\n{}",
            usage_table(&view.usage, &document.period, &document.currency).to_string().trim_end()
        ));
    }
    if !view.adjustments.is_empty() {
        let table =
            usage_table(&view.adjustments, &document.period, &document.currency).to_string();
        say(&format!("\nAdjustments of periods that were closed before\n{}", table.trim_end()));
    }
    if !document.credit.is_empty() {
        let mut table = Table::new(&[
            ("paid by", Side::Left),
            ("credits", Side::Right),
            (&document.currency, Side::Right),
        ]);
        for item in &document.credit {
            table.row([&kind(item), &item.credits, &item.amount]);
        }
        say(&format!("\nCredit\n{}", table.to_string().trim_end()));
    }
    let mut sums = Table::new(&[("", Side::Left), (&document.currency, Side::Right)]);
    sums.row(["usage", &document.usage_total]);
    sums.row(["paid by credit", &document.credit_total]);
    if view.is_written_off() {
        sums.row(["written off", &document.written_off]);
    }
    sums.row(["amount due", &document.amount_due]);
    say(&format!("\n{}", sums.to_string().trim_end()));
    for (at, (version, price)) in view.prices.iter().enumerate() {
        let gap = if at == 0 { "\n" } else { "" };
        say(&format!("{gap}A credit of {version} is {price} {}.", document.currency));
    }
    text
}

fn usage_table(items: &[&UsageItem], period: &str, currency: &str) -> Table {
    let mut table = Table::new(&[
        ("project", Side::Left),
        ("metric", Side::Left),
        ("month", Side::Left),
        ("prices", Side::Left),
        ("quantity", Side::Right),
        ("credits a unit", Side::Right),
        ("credits", Side::Right),
        (currency, Side::Right),
    ]);
    for item in items {
        table.row([
            &item.project,
            &metric(item),
            item.adjusts.as_deref().unwrap_or(period),
            &item.pricing_version,
            &item.quantity,
            &rate(item),
            &item.credits,
            &item.amount,
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    fn usage(
        project: &str,
        metric: &str,
        quantity: &str,
        credits: &str,
        amount: &str,
    ) -> UsageItem {
        UsageItem {
            project_id: "prj_00000000000070008000000000000001".parse().unwrap(),
            project: project.to_owned(),
            metric: metric.to_owned(),
            pricing_version: "2026-07".to_owned(),
            adjusts: None,
            quantity: quantity.to_owned(),
            unit_price_credits: "1".to_owned(),
            unit_quantity: 1000,
            currency_per_credit: "0.0333333".to_owned(),
            credits: credits.to_owned(),
            amount: amount.to_owned(),
        }
    }

    /// Two projects, one of them with a hostile name, an adjustment that takes back, two price lists.
    fn document() -> Document {
        let credit = |kind: &str, credits: &str, amount: &str| CreditItem {
            kind: kind.to_owned(),
            credits: credits.to_owned(),
            amount: amount.to_owned(),
        };
        Document {
            id: Some("inv_00000000000070008000000000000002".parse().unwrap()),
            org_id: "org_00000000000070008000000000000003".parse().unwrap(),
            organization: "Acme & Daughters".to_owned(),
            period: "2031-02".to_owned(),
            closed_at: Some("2031-03-01T01:00:00.000012Z".parse().unwrap()),
            currency: "USD".to_owned(),
            usage: vec![
                usage("default", "compute_unit_seconds", "2678400", "2678.4", "89.28"),
                usage(HOSTILE, "compute_unit_seconds", "86400", "86.4", "2.88"),
                UsageItem {
                    pricing_version: "2031-02".to_owned(),
                    unit_price_credits: "0.001".to_owned(),
                    unit_quantity: 1,
                    currency_per_credit: "0.04".to_owned(),
                    ..usage("default", "command_invocations", "1250", "1.25", "0.05")
                },
                UsageItem {
                    adjusts: Some("2031-01".to_owned()),
                    ..usage("default", "compute_unit_seconds", "-3600", "-3.6", "-0.12")
                },
            ],
            credit: vec![credit("plan", "600.0006", "20.00"), credit("purchased", "2000", "66.67")],
            usage_total: "92.09".to_owned(),
            credit_total: "86.67".to_owned(),
            overage_credits: "162.4494".to_owned(),
            amount_due: "5.42".to_owned(),
            written_off: "0.00".to_owned(),
        }
    }

    const HOSTILE: &str = "<script>alert(1)</script>\" onload='x' &amp;";

    #[test]
    fn a_statement_looks_as_it_should() {
        let document = document();
        golden::check("statement.html", &html(&document).unwrap());
        golden::check("statement.txt", &text(&document));
        let json = serde_json::to_string_pretty(&document).unwrap();
        assert_eq!(serde_json::from_str::<Document>(&json).unwrap(), document);
        golden::check("statement.json", &(json + "\n"));
    }

    #[test]
    fn an_open_period_without_usage_is_a_statement_too() {
        let document = Document {
            id: None,
            closed_at: None,
            usage: Vec::new(),
            credit: Vec::new(),
            usage_total: "0.00".to_owned(),
            credit_total: "0.00".to_owned(),
            overage_credits: "0".to_owned(),
            amount_due: "0.00".to_owned(),
            written_off: "0.37".to_owned(),
            ..document()
        };
        golden::check("statement-open.html", &html(&document).unwrap());
        golden::check("statement-open.txt", &text(&document));
    }

    #[test]
    fn names_are_text_wherever_they_stand() {
        let document = Document {
            organization: HOSTILE.to_owned(),
            usage: vec![usage(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE)],
            credit: vec![CreditItem {
                kind: HOSTILE.to_owned(),
                credits: HOSTILE.to_owned(),
                amount: HOSTILE.to_owned(),
            }],
            period: HOSTILE.to_owned(),
            currency: HOSTILE.to_owned(),
            usage_total: HOSTILE.to_owned(),
            credit_total: HOSTILE.to_owned(),
            amount_due: HOSTILE.to_owned(),
            written_off: HOSTILE.to_owned(),
            ..document()
        };
        let page = html(&document).unwrap();
        assert!(!page.contains("<script"), "{page}");
        assert!(!page.contains("\" onload") && !page.contains("' &"), "{page}");
        for elsewhere in ["http:", "https:", "src=", "@import", "url("] {
            assert!(!page.contains(elsewhere), "{elsewhere}");
        }
        let red = Document { organization: "\u{1b}[31mred".to_owned(), ..document };
        assert!(!text(&red).contains('\u{1b}'));
    }
}
