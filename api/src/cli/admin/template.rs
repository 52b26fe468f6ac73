//! `crownest admin template`: what sandboxes are made from.

use clap::Subcommand;

use super::{Ask, Because, Names, Shown, help, values};

const TEMPLATES: Names = &[("template", "id"), ("slug", "slug"), ("created", "createdAt")];
const VERSIONS: Names = &[
    ("version id", "id"),
    ("template", "templateSlug"),
    ("version", "version"),
    ("image", "imageDigest"),
    ("created", "createdAt"),
    ("deprecated", "deprecatedAt"),
    ("because", "deprecatedReason"),
];

/// What to do with templates.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the templates.
    #[command(after_help = help::with(&["crownest admin template list"], help::CLIENT))]
    List,
    /// List a template's versions, newest first.
    #[command(after_help = help::with(&["crownest admin template versions tpl_019a"], help::CLIENT))]
    Versions {
        /// The template.
        #[arg(value_name = "TEMPLATE", value_parser = values::template_id)]
        id: String,
    },
    /// Show a version, deprecated or not.
    #[command(after_help = help::with(&["crownest admin template get tplv_019a"], help::CLIENT))]
    Get {
        /// The version, by its id.
        #[arg(value_name = "VERSION", value_parser = values::template_version_id)]
        id: String,
    },
    /// Publish a version of a template; from now on, sandboxes that name none are made from it.
    #[command(after_help = help::with(
        &["crownest admin template publish tpl_019a 1.1.0"],
        help::CLIENT,
    ))]
    Publish {
        /// The template.
        #[arg(value_name = "TEMPLATE", value_parser = values::template_id)]
        id: String,
        /// What to call the version; each is published once.
        version: String,
    },
    /// Deprecate a version: nothing new is made from it, and what runs goes on.
    #[command(after_help = help::with(
        &["crownest admin template deprecate tplv_019a --reason 'its Python has a hole'"],
        help::CLIENT,
    ))]
    Deprecate {
        /// The version, by its id.
        #[arg(value_name = "VERSION", value_parser = values::template_version_id)]
        id: String,
        #[command(flatten)]
        because: Because,
    },
}

impl Command {
    pub(super) fn ask(self) -> Ask {
        let one = Shown::One(VERSIONS);
        let versions = |id: &str| format!("/templates/{id}/versions");
        match self {
            Self::List => Ask::get("/templates", Shown::Pages(TEMPLATES)),
            Self::Versions { id } => Ask::get(versions(&id), Shown::Pages(VERSIONS)),
            Self::Get { id } => Ask::get(format!("/template-versions/{id}"), one),
            Self::Publish { id, version } => {
                Ask::post(versions(&id), one).field("version", Some(version))
            }
            Self::Deprecate { id, because } => {
                Ask::post(format!("/template-versions/{id}/deprecate"), one)
                    .field("reason", Some(because.reason))
            }
        }
    }
}
