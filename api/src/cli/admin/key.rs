//! `crownest admin key`: tenants' keys.

use clap::{Args, Subcommand};

use super::{Ask, Names, Shown, Whose, help, values};

const COLUMNS: Names = &[
    ("key", "id"),
    ("name", "name"),
    ("begins", "prefix"),
    ("created", "createdAt"),
    ("last used", "lastUsedAt"),
    ("expires", "expiresAt"),
    ("revoked", "revokedAt"),
];
const FACTS: Names = &[
    ("key", "id"),
    ("name", "name"),
    ("begins", "prefix"),
    ("scopes", "scopes"),
    ("projects", "projectIds"),
    ("member", "createdByUserId"),
    ("created", "createdAt"),
    ("last used", "lastUsedAt"),
    ("expires", "expiresAt"),
    ("replaced by", "replacedByApiKeyId"),
    ("revoked", "revokedAt"),
];
const NEW: Names = &[
    ("key", "apiKey.id"),
    ("name", "apiKey.name"),
    ("scopes", "apiKey.scopes"),
    ("projects", "apiKey.projectIds"),
];

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a key; its secret is shown once, alone on standard output.
    #[command(after_help = help::with(
        &[
            "crownest admin key create --organization org_019a ci",
            "crownest admin key create --organization org_019a ci --scopes sandbox:read > key",
        ],
        help::CLIENT,
    ))]
    Create(Create),
    /// List an organization's keys, revoked ones too, newest first.
    #[command(after_help = help::with(
        &["crownest admin key list --organization org_019a"],
        help::CLIENT,
    ))]
    List {
        #[command(flatten)]
        whose: Whose,
    },
    /// Show a key, without its secret.
    #[command(after_help = help::with(
        &["crownest admin key get --organization org_019a key_019a"],
        help::CLIENT,
    ))]
    Get {
        #[command(flatten)]
        one: One,
    },
    /// Make a key that takes another one's place; both work until the overlap is over.
    #[command(after_help = help::with(
        &[
            "crownest admin key rotate --organization org_019a key_019a",
            "crownest admin key rotate --organization org_019a key_019a --overlap 1d > key",
        ],
        help::CLIENT,
    ))]
    Rotate {
        #[command(flatten)]
        one: One,
        /// For how long both work, such as 10m or 1d, at most 7 days; 0 for not at all. An hour
        /// otherwise.
        #[arg(long, value_name = "TIME", value_parser = values::milliseconds_or_none)]
        overlap: Option<u64>,
    },
    /// Revoke a key at once and for good.
    #[command(after_help = help::with(
        &["crownest admin key revoke --organization org_019a key_019a"],
        help::CLIENT,
    ))]
    Revoke {
        #[command(flatten)]
        one: One,
    },
}

/// A key to make.
#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    whose: Whose,
    /// What to call it.
    name: String,
    /// What it may do, in a word: quickstart, which is the default, or all.
    #[arg(long, conflicts_with = "scopes")]
    preset: Option<String>,
    /// What it may do, one by one, such as sandbox:read,command:run.
    #[arg(long, value_name = "SCOPE", value_delimiter = ',')]
    scopes: Vec<String>,
    /// A project that it is restricted to, by its id; may be repeated.
    #[arg(long, value_name = "PROJECT", value_parser = values::project_id)]
    project: Vec<String>,
    /// The member that it is made for; the one who is there for longest otherwise.
    #[arg(long, value_name = "MEMBER", value_parser = values::user_id)]
    member: Option<String>,
}

/// One key.
#[derive(Debug, Args)]
pub(super) struct One {
    #[command(flatten)]
    whose: Whose,
    /// The key, by its id.
    #[arg(value_name = "KEY", value_parser = values::api_key_id)]
    id: String,
}

impl One {
    fn path(&self, rest: &str) -> String {
        self.whose.path(&format!("/api-keys/{}{rest}", self.id))
    }
}

impl Command {
    pub(super) fn ask(self) -> Ask {
        match self {
            Self::Create(create) => create.ask(),
            Self::List { whose } => Ask::get(whose.path("/api-keys"), Shown::Pages(COLUMNS)),
            Self::Get { one } => Ask::get(one.path(""), Shown::One(FACTS)),
            Self::Rotate { one, overlap } => {
                Ask::post(one.path("/rotate"), Shown::Secret(NEW)).field("overlapMs", overlap)
            }
            Self::Revoke { one } => Ask::delete(one.path(""), Shown::One(FACTS)),
        }
    }
}

impl Create {
    fn ask(self) -> Ask {
        let Self { whose, name, preset, scopes, project, member } = self;
        let preset = preset.or_else(|| scopes.is_empty().then(|| "quickstart".to_owned()));
        let some = |list: Vec<String>| Some(list).filter(|list| !list.is_empty());
        Ask::post(whose.path("/api-keys"), Shown::Secret(NEW))
            .field("name", Some(name))
            .field("preset", preset)
            .field("scopes", some(scopes))
            .field("projectIds", some(project))
            .field("userId", member)
    }
}
