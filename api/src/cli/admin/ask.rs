//! What a command asks of the admin API, as data: one request, and how its answer is shown. Sends it,
//! turns pages, and prints tables for people or lines of JSON for programs. Knows no noun.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::Context;
use futures_util::StreamExt;
use reqwest::Method;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    super::{
        client::{Call, Client},
        output::{self, Format},
    },
    Failure, body,
};
use crate::print::{Side, Table, clean};

/// Headings and the members that hold what is below them; a dot leads into a member.
pub(super) type Names = &'static [(&'static str, &'static str)];

/// Things asked for at a time.
const PAGE: u32 = 100;

/// How an answer is shown to people.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shown {
    /// A thing, a line for each fact.
    One(Names),
    /// A new key: its facts on standard error, so that its secret is alone on standard output.
    Secret(Names),
    /// A list of pages, all of them.
    Pages(Names),
    /// A list that comes at once.
    Whole(Names),
    /// Text as it is, for programs too.
    Text,
    /// A document that the API prints: as text for people, as its JSON for programs.
    Printed,
}

/// A request.
#[derive(Debug)]
pub(super) struct Ask {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Option<Map<String, Value>>,
    /// A file that holds the body.
    body_file: Option<PathBuf>,
    /// Where the first page begins.
    after: Option<String>,
    shown: Shown,
}

impl Ask {
    pub(super) fn new(method: Method, path: impl Into<String>, shown: Shown) -> Self {
        let path = format!("/admin/v1{}", path.into());
        let (query, body, body_file, after) = (Vec::new(), None, None, None);
        Self { method, path, query, body, body_file, after, shown }
    }

    pub(super) fn get(path: impl Into<String>, shown: Shown) -> Self {
        Self::new(Method::GET, path, shown)
    }

    pub(super) fn post(path: impl Into<String>, shown: Shown) -> Self {
        Self::new(Method::POST, path, shown)
    }

    pub(super) fn delete(path: impl Into<String>, shown: Shown) -> Self {
        Self::new(Method::DELETE, path, shown)
    }

    /// Adds a parameter that is there.
    pub(super) fn query(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    /// Adds a member of the body that is there; there is a body in any case.
    pub(super) fn field(mut self, name: &str, value: Option<impl Serialize>) -> Self {
        let body = self.body.get_or_insert_default();
        if let Some(value) = value {
            body.insert(name.to_owned(), serde_json::to_value(value).unwrap_or_default());
        }
        self
    }

    /// Takes the whole body from a file.
    pub(super) fn body_in(mut self, file: PathBuf) -> Self {
        self.body_file = Some(file);
        self
    }

    /// Begins after this place of a feed.
    pub(super) fn after(mut self, place: Option<i64>) -> Self {
        self.after = place.map(|place| place.to_string());
        self
    }

    /// Sends it and prints the answer.
    ///
    /// # Errors
    /// As [`Failure`] says.
    pub(super) async fn run(
        mut self,
        client: &Client,
        format: Format,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        if let Some(file) = &self.body_file {
            self.body = Some(body::read(file)?);
        }
        match self.shown {
            Shown::Printed if !format.json => {
                self.query("format", Some("text")).print(client, out).await
            }
            Shown::Printed => output::line(&self.call(client).json().await?, out),
            Shown::One(names) => {
                let answer = self.call(client).json().await?;
                facts(thing(&answer), names, format, out)
            }
            Shown::Secret(names) => {
                let answer = self.call(client).json().await?;
                secret(&answer, names, format, out)
            }
            Shown::Whole(names) => {
                let answer = self.call(client).json().await?;
                let mut listing = Listing::new(names, format);
                listing.add(&answer, out)?;
                listing.end(out)
            }
            Shown::Pages(names) => self.pages(client, Listing::new(names, format), out).await,
            Shown::Text => self.print(client, out).await,
        }
    }

    async fn print(&self, client: &Client, out: &mut impl Write) -> Result<(), Failure> {
        let mut chunks = self.call(client).open().await?.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(reqwest::Error::without_url);
            out.write_all(&chunk.context("the answer breaks off")?)?;
        }
        Ok(())
    }

    fn call<'c>(&self, client: &'c Client) -> Call<'c> {
        let mut call = client.call(self.method.clone(), &self.path);
        for (name, value) in &self.query {
            call = call.query(name, value);
        }
        if let Some(body) = &self.body {
            call = call.body(body);
        }
        // What changes something is done once, however often it must be sent.
        if self.method == Method::GET { call } else { call.once() }
    }

    async fn pages(
        self,
        client: &Client,
        mut listing: Listing,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        let mut cursor = self.after.clone();
        loop {
            let mut call = self.call(client).query("limit", PAGE.to_string());
            if let Some(cursor) = &cursor {
                call = call.query("cursor", cursor);
            }
            let page = call.json().await?;
            listing.add(&page, out)?;
            let next = page["nextCursor"].as_str().filter(|_| page["hasMore"] == true);
            let next = next.map(str::to_owned);
            if next.is_none() || next == cursor {
                return listing.end(out);
            }
            cursor = next;
        }
    }
}

/// A list that is printed: line by line for programs, in the end for people.
struct Listing {
    names: Names,
    table: Table,
    format: Format,
}

impl Listing {
    fn new(names: Names, format: Format) -> Self {
        let columns: Vec<_> = names.iter().map(|(name, _)| (*name, Side::Left)).collect();
        Self { names, table: Table::new(&columns), format }
    }

    fn add(&mut self, page: &Value, out: &mut impl Write) -> Result<(), Failure> {
        for item in page["data"].as_array().into_iter().flatten() {
            if self.format.json {
                output::line(item, out)?;
            } else {
                let cells: Vec<_> =
                    self.names.iter().map(|(_, member)| cell(item, member)).collect();
                self.table.cells(&cells);
            }
        }
        Ok(())
    }

    fn end(self, out: &mut impl Write) -> Result<(), Failure> {
        if !self.format.json {
            write!(out, "{}", self.table)?;
        }
        Ok(())
    }
}

/// The thing that an answer holds: most have it in a member of its name, and no other.
fn thing(answer: &Value) -> &Value {
    let members = answer.as_object().filter(|members| members.len() == 1);
    let only = members.and_then(|members| members.values().next());
    only.filter(|member| member.is_object()).unwrap_or(answer)
}

fn facts(value: &Value, names: Names, format: Format, out: &mut impl Write) -> Result<(), Failure> {
    if format.json {
        return output::line(value, out);
    }
    Ok(write!(out, "{}", output::lines(value, names, cell))?)
}

fn secret(
    answer: &Value,
    names: Names,
    format: Format,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let Some(secret) = answer["secret"].as_str() else {
        let id = names.iter().find(|(name, _)| *name == "key").map(|(_, id)| cell(answer, id));
        let id = id.unwrap_or_default();
        let text = format!(
            "the key {} was made, but the answer that showed it was lost: revoke it and make another",
            clean(&id),
        );
        return Err(Failure::Undone(anyhow::Error::msg(text)));
    };
    if format.json {
        return output::line(answer, out);
    }
    let told = output::lines(answer, names, cell);
    // Nobody is left to be told if this fails; the secret matters more.
    let _ = writeln!(io::stderr(), "{told}This key is shown once:");
    Ok(writeln!(out, "{}", clean(secret))?)
}

/// The text of a member, which may lie deeper.
fn cell(value: &Value, member: &str) -> String {
    let (outer, member) = match member.rsplit_once('.') {
        Some((path, member)) => (path.split('.').fold(value, |value, name| &value[name]), member),
        None => (value, member),
    };
    let words = outer[member]
        .as_array()
        .and_then(|items| items.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
    words.map_or_else(|| output::text(outer, member), |words| words.join(","))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PEOPLE: Format = Format { json: false };
    const PROGRAMS: Format = Format { json: true };
    const KEY: Names = &[("key", "apiKey.id"), ("scopes", "apiKey.scopes")];

    #[test]
    fn a_secret_is_alone() {
        let answer = json!({ "apiKey": { "id": "key_1", "scopes": ["a", "b"] }, "secret": "s" });
        let mut out = Vec::new();
        secret(&answer, KEY, PEOPLE, &mut out).unwrap();
        assert_eq!(out, b"s\n");
        assert_eq!(output::lines(&answer, KEY, cell), "key     key_1\nscopes  a,b\n");
    }

    /// A request that is sent again gets the answer without it: nobody may take that for success.
    #[test]
    fn a_secret_that_was_lost_is_told() {
        let answer = json!({ "apiKey": { "id": "key_1" } });
        for format in [PEOPLE, PROGRAMS] {
            let mut out = Vec::new();
            let failure = secret(&answer, KEY, format, &mut out).unwrap_err();
            assert!(failure.to_string().contains("the key key_1 was made, but"), "{failure}");
            assert!(matches!(failure, Failure::Undone(_)) && out.is_empty());
        }
    }

    #[test]
    fn the_thing_is_the_only_member_that_is_one() {
        let wrapped = json!({ "organization": { "id": "org_1" } });
        assert_eq!(thing(&wrapped)["id"], "org_1");
        for bare in [json!({ "cap": "5" }), json!({}), json!({ "grant": {}, "transaction": {} })] {
            assert_eq!(thing(&bare), &bare);
        }
    }
}
