//! `import`: an image becomes a version of a template.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args;
use domain::image::ImageDigest;
use drivers::cloud_hypervisor::build::{Added, BuildError, Folder};

use super::Failure;
use crate::app::{
    App,
    admin::templates::{self, Registered},
    audit::Actor,
};

/// Which image, and whose.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The template, by its name.
    #[arg(value_name = "TEMPLATE")]
    slug: String,
    /// The image.
    file: PathBuf,
    /// What to call the version; by default the day and the beginning of the image's digest.
    #[arg(long, value_name = "NAME")]
    version: Option<String>,
}

pub(super) async fn run(
    app: &App,
    arguments: Arguments,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let Arguments { slug, file, version } = arguments;
    // Nothing is copied for a template that is none.
    templates::check(app, &slug, version.as_deref()).await?;
    import(app, &slug, &file, version, out).await
}

/// Imports an image. At any instant at which this may be killed, each version that is published has its
/// image on this host; whatever was not done is done by a repeat.
pub(super) async fn import(
    app: &App,
    slug: &str,
    file: &Path,
    version: Option<String>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let folder = Folder::new(app.config.images());
    let Added { digest, bytes } = add(folder.clone(), file.to_owned()).await?;
    let done = register(app, &folder, slug, version, &digest).await?;
    let version = &done.version.version;
    writeln!(
        out,
        "{} {} ({}) is image sha256:{digest}, {}",
        version.slug,
        version.version,
        version.id,
        mebibytes(bytes),
    )?;
    if let Some((_, reason)) = &done.version.deprecated {
        writeln!(out, "It is deprecated: nothing new is made from it ({reason}).")?;
    } else if !done.is_new {
        writeln!(out, "It was published before; this host has it.")?;
    }
    Ok(())
}

async fn add(folder: Folder, file: PathBuf) -> Result<Added, Failure> {
    let added = tokio::task::spawn_blocking(move || folder.add(&file)).await;
    added.context("importing an image").map_err(Failure::from)?.map_err(told)
}

async fn register(
    app: &App,
    folder: &Folder,
    slug: &str,
    version: Option<String>,
    digest: &ImageDigest,
) -> Result<Registered, Failure> {
    let link = |id| {
        let (folder, digest) = (folder.clone(), digest.clone());
        async move {
            tokio::task::spawn_blocking(move || folder.link(id, &digest)).await??;
            Ok(())
        }
    };
    let wanted = (slug, version, digest);
    Ok(templates::register(app, &Actor::operator(), wanted, link).await?)
}

/// A file that does not serve was named by an argument.
pub(super) fn told(error: BuildError) -> Failure {
    match error {
        BuildError::Unfit(text) => Failure::Argument(text),
        error @ BuildError::Host { .. } => Failure::Undone(error.into()),
    }
}

/// A size for people.
pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
