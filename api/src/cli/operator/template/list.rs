//! `list`: the templates' versions, and what this host has of them.

use std::io::Write;

use anyhow::Context;
use chrono::SecondsFormat;
use clap::Args;
use drivers::cloud_hypervisor::build::{Folder, Found};
use serde_json::json;
use store::{PageRequest, templates::Published};

use super::{
    Ending, Failure, Form,
    import::{mebibytes, told},
    output::{self, Format},
};
use crate::{
    app::App,
    print::{Side, Table},
};

/// Rows looked at together.
const PAGE: u32 = 200;

/// How to list them.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Compute the digest of every image anew, and end with 1 if one is missing or changed.
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    format: Format,
}

impl Arguments {
    pub(super) const fn form(&self) -> Form {
        self.format.form()
    }
}

/// What this host has of a version.
struct Here {
    word: &'static str,
    bytes: Option<u64>,
    is_right: bool,
}

pub(super) async fn run(
    app: &App,
    arguments: &Arguments,
    out: &mut impl Write,
) -> Result<Ending, Failure> {
    let folder = Folder::new(app.config.images());
    let mut table = Table::new(&[
        ("template", Side::Left),
        ("version", Side::Left),
        ("id", Side::Left),
        ("image", Side::Left),
        ("size", Side::Right),
        ("here", Side::Left),
    ]);
    let mut ending = Ending::Done;
    for version in versions(app).await? {
        let here = look(&folder, &version, arguments.verify).await?;
        // What nothing new is made from may be gone from here.
        if arguments.verify && !here.is_right && version.deprecated.is_none() {
            ending = Ending::Wrong;
        }
        let (named, image) = (&version.version, version.image.as_ref());
        if arguments.format.json {
            let created_at = version.created_at.to_rfc3339_opts(SecondsFormat::Micros, true);
            let one = json!({
                "template": named.slug,
                "version": named.version,
                "templateVersionId": named.id,
                "imageDigest": image.map(ToString::to_string),
                "bytes": here.bytes,
                "here": here.word,
                "createdAt": created_at,
                "deprecated": version.deprecated.is_some(),
            });
            output::line(&one, out)?;
            continue;
        }
        let digest = image.map_or_else(String::new, |image| format!("sha256:{}", image.short()));
        let size = here.bytes.map_or_else(String::new, mebibytes);
        let deprecated = if version.deprecated.is_some() { ", deprecated" } else { "" };
        let state = format!("{}{deprecated}", here.word);
        table.row([&named.slug, &named.version, &named.id.to_string(), &digest, &size, &state]);
    }
    if !arguments.format.json {
        write!(out, "{table}")?;
    }
    Ok(ending)
}

async fn versions(app: &App) -> Result<Vec<Published>, Failure> {
    let c = app.db.read();
    let mut versions = Vec::new();
    let mut page = PageRequest { limit: PAGE, after: None };
    loop {
        let templates = store::templates::list(c, page).await?;
        for template in &templates.items {
            let mut page = PageRequest { limit: PAGE, after: None };
            loop {
                let found = store::templates::versions(c, template.id, page).await?;
                page.after = found.items.last().map(|version| version.version.id.uuid());
                versions.extend(found.items);
                if !found.has_more {
                    break;
                }
            }
        }
        page.after = templates.items.last().map(|template| template.id.uuid());
        if !templates.has_more {
            return Ok(versions);
        }
    }
}

async fn look(folder: &Folder, version: &Published, verify: bool) -> Result<Here, Failure> {
    let here = |word, bytes, is_right| Here { word, bytes, is_right };
    let Some(digest) = version.image.clone() else {
        // Named through the admin API: its hosts know what it is made of, this program does not.
        return Ok(here("unknown", None, true));
    };
    let is_linked = folder.is_linked(version.version.id, &digest);
    let folder = folder.clone();
    let look = move || if verify { folder.verify(&digest) } else { folder.find(&digest) };
    let found = tokio::task::spawn_blocking(look).await;
    let found = found.context("looking at an image").map_err(Failure::from)?.map_err(told)?;
    Ok(match found {
        Found::There(bytes) if is_linked => here("yes", Some(bytes), true),
        // It was imported on another host; the file is here for another version.
        Found::There(bytes) => here("not imported", Some(bytes), false),
        Found::Missing => here("missing", None, false),
        Found::Changed => here("changed", None, false),
    })
}
