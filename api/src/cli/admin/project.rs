//! `crownest admin project`: an organization's folders of sandboxes.

use clap::Subcommand;
use reqwest::Method;

use super::{Ask, Names, Shown, Whose, help, values};

const FACTS: Names = &[("project", "id"), ("name", "name"), ("created", "createdAt")];

/// What to do with projects.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a project.
    #[command(after_help = help::with(
        &["crownest admin project create --organization org_019a website"],
        help::CLIENT,
    ))]
    Create {
        #[command(flatten)]
        whose: Whose,
        /// Its name.
        name: String,
    },
    /// List an organization's projects, newest first.
    #[command(after_help = help::with(
        &["crownest admin project list --organization org_019a --json | jq -r .id"],
        help::CLIENT,
    ))]
    List {
        #[command(flatten)]
        whose: Whose,
    },
    /// Show a project.
    #[command(after_help = help::with(
        &["crownest admin project get --organization org_019a prj_019a"],
        help::CLIENT,
    ))]
    Get {
        #[command(flatten)]
        whose: Whose,
        /// The project.
        #[arg(value_name = "PROJECT", value_parser = values::project_id)]
        id: String,
    },
    /// Rename a project.
    #[command(after_help = help::with(
        &["crownest admin project rename --organization org_019a prj_019a shop"],
        help::CLIENT,
    ))]
    Rename {
        #[command(flatten)]
        whose: Whose,
        /// The project.
        #[arg(value_name = "PROJECT", value_parser = values::project_id)]
        id: String,
        /// Its new name.
        name: String,
    },
}

impl Command {
    pub(super) fn ask(self) -> Ask {
        let one = Shown::One(FACTS);
        let path = |whose: &Whose, id: &str| whose.path(&format!("/projects/{id}"));
        match self {
            Self::Create { whose, name } => {
                Ask::post(whose.path("/projects"), one).field("name", Some(name))
            }
            Self::List { whose } => Ask::get(whose.path("/projects"), Shown::Pages(FACTS)),
            Self::Get { whose, id } => Ask::get(path(&whose, &id), one),
            Self::Rename { whose, id, name } => {
                Ask::new(Method::PATCH, path(&whose, &id), one).field("name", Some(name))
            }
        }
    }
}
