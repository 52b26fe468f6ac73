//! `build`: images from Debian packages, by the script beside this file.

use std::{ffi::OsStr, io::Write, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::Args;

use super::{Failure, import, script::Script};
use crate::app::{App, admin::templates};

const SCRIPT: Script = Script {
    name: "image.sh",
    text: include_str!("image.sh"),
    // Most of it is downloading, which is as slow as the mirror.
    deadline: Duration::from_secs(3_600),
};

/// What to build, and from what.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The templates: base, python, node or python-node.
    #[arg(value_name = "TEMPLATE", required = true)]
    slugs: Vec<String>,
    /// The Debian release.
    #[arg(long, default_value = "bookworm")]
    suite: String,
    /// Where packages come from, as mmdebstrap takes it: a URL, a line of sources.list or a file of them;
    /// may be repeated. Without it, from Debian, with security updates.
    #[arg(long, value_name = "URL")]
    mirror: Vec<String>,
    /// More packages, separated by commas.
    #[arg(long, value_name = "PACKAGES")]
    include: Option<String>,
    /// A folder that keeps packages for the next build.
    #[arg(long, value_name = "FOLDER")]
    cache: Option<PathBuf>,
    /// What to call the versions; by default the day and the beginning of the image's digest.
    #[arg(long, value_name = "NAME")]
    version: Option<String>,
}

pub(super) async fn run(
    app: &App,
    arguments: Arguments,
    out: &mut impl Write,
) -> Result<(), Failure> {
    for slug in &arguments.slugs {
        // Nothing is built for a template that is none.
        templates::check(app, slug, arguments.version.as_deref()).await?;
    }
    let folder = tempfile::tempdir().context("making a folder for what is built")?;
    for slug in &arguments.slugs {
        let file = folder.path().join(slug);
        build(slug, file.as_ref(), &arguments).await?;
        import::import(app, slug, &file, arguments.version.clone(), out).await?;
        out.flush()?;
        std::fs::remove_file(&file)?;
    }
    Ok(())
}

async fn build(slug: &str, file: &OsStr, arguments: &Arguments) -> Result<(), Failure> {
    let mut words: Vec<&OsStr> = vec![slug.as_ref(), file, arguments.suite.as_ref()];
    words.extend(arguments.mirror.iter().map(OsStr::new));
    let packages = arguments.include.as_ref().map(OsStr::new);
    let cache = arguments.cache.as_ref().map(|path| path.as_os_str());
    let settings = [("CROWNEST_IMAGE_PACKAGES", packages), ("CROWNEST_IMAGE_CACHE", cache)];
    let settings: Vec<_> =
        settings.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect();
    SCRIPT.run(&words, &settings).await
}
