//! `crownest admin pricing`: what things cost.

use std::path::PathBuf;

use clap::Subcommand;

use super::{Ask, Names, Shown, help, values};

const COLUMNS: Names = &[
    ("version", "name"),
    ("valid from", "validFrom"),
    ("credit costs", "currencyPerCredit"),
    ("currency", "currency"),
    ("credit buys", "computeUnitSecondsPerCredit"),
];
const FACTS: Names = &[
    ("version", "name"),
    ("valid from", "validFrom"),
    ("credit costs", "currencyPerCredit"),
    ("currency", "currency"),
    ("credit buys", "computeUnitSecondsPerCredit"),
    ("sizes", "sizes"),
    ("idle factor", "idleFactor"),
    ("rates", "rates"),
    ("rounding", "rounding"),
];

/// What to do about prices.
#[derive(Debug, Subcommand)]
pub(in super::super) enum Command {
    /// List every version; the one that becomes valid last comes first.
    #[command(after_help = help::with(&["crownest admin pricing list"], help::CLIENT))]
    List,
    /// Show a version.
    #[command(after_help = help::with(&["crownest admin pricing get 2031-01"], help::CLIENT))]
    Get {
        /// The version's name.
        #[arg(value_parser = values::path_word)]
        name: String,
    },
    /// Publish a version, which can never be changed.
    ///
    /// It must begin to be valid at least a minute from now. Sandboxes that were created before keep
    /// their prices. `crownest billing pricing publish --help` shows a file.
    #[command(after_help = help::with(
        &[
            "crownest admin pricing publish prices.toml",
            "crownest admin pricing publish - < prices.json",
        ],
        help::CLIENT,
    ))]
    Publish {
        /// TOML or JSON; `-` reads standard input.
        file: PathBuf,
    },
}

impl Command {
    pub(in super::super) fn ask(self) -> Ask {
        let one = Shown::One(FACTS);
        match self {
            Self::List => Ask::get("/pricing-versions", Shown::Pages(COLUMNS)),
            Self::Get { name } => Ask::get(format!("/pricing-versions/{name}"), one),
            Self::Publish { file } => Ask::post("/pricing-versions", one).body_in(file),
        }
    }
}
